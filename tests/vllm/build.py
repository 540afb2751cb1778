"""Tiny sharpened models that vLLM's CPU kernels take: language model heads of 32, or 128 in the recurrent layers.

Run as a script it builds models in a process of its own: ``python build.py FOLDER MODEL_TYPE...``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from pixelprune.check.tiny import build_tiny, sharpen, tiny_config, tiny_tokenizer
from pixelprune.models.registry import family_of

WIDTH = 128


def config_for_vllm(model_type: str) -> Any:
    """The tiny config of a family, wide enough."""
    family = family_of(model_type)
    config = tiny_config(model_type, tiny_tokenizer(family.tokens))
    text, vision = config.text_config, config.vision_config
    text.hidden_size = WIDTH
    text.head_dim = WIDTH // text.num_attention_heads
    # Pairs of rotated dimensions, twice as many for time as for height and for width.
    pairs = int(text.head_dim * text.rope_parameters.get("partial_rotary_factor", 1.0)) // 2
    text.rope_parameters["mrope_section"] = [pairs // 2, pairs // 4, pairs // 4]
    setattr(vision, family.tower_output, WIDTH)
    if family.recurrent:
        text.linear_key_head_dim = text.linear_value_head_dim = 128
    if model_type == "glm_ocr":
        text.intermediate_size = WIDTH * 3  # vLLM takes it for the merger's width, which it is in the published model
    if model_type == "glm4v_moe":
        text.use_qk_norm = False  # as published configs have it
    if family.experts:
        text.norm_topk_prob = True  # as published configs have it; transformers always does it
        text.moe_intermediate_size = 96  # no square matrix: transformers tells two layouts apart by their shapes
    return config


def build(folder: Path, model_type: str) -> Path:
    """Save a model with its tokenizer and image processor."""
    build_tiny(folder, model_type, weights=False)
    dtype = torch.bfloat16 if family_of(model_type).recurrent else torch.float32
    model = AutoModelForImageTextToText.from_config(config_for_vllm(model_type), dtype=dtype)
    sharpen(model, scale=0.14)
    # Answers in ASCII, which the tokenizer has first: a special token would end them, half a character is not shown.
    model.lm_head.weight.data[94:] = 0
    model.save_pretrained(folder)
    if model_type == "qwen3_vl_moe":
        as_published(folder / "model.safetensors")
    return folder


def as_published(file: Path) -> None:
    """Published checkpoints have the experts' matrices the other way round; transformers and vLLM both read those."""
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if ".mlp.experts." in name:
            tensors[name] = tensor.transpose(1, 2).contiguous()
    save_file(tensors, file, {"format": "pt"})


if __name__ == "__main__":
    for name in sys.argv[2:]:
        build(Path(sys.argv[1]) / name, name)
