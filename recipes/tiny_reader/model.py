"""The reader's architecture, a small Qwen3-VL, and its tokenizer: characters, Qwen's special tokens, a few phrases."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast, Qwen3VLConfig

from pixelprune.check.tiny import tiny_tokenizer

from .tasks import PHRASES


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, one for each special token and one for each phrase that the questions are made of."""
    tok = tiny_tokenizer()
    tok.add_tokens([AddedToken(phrase, normalized=False) for phrase in ("user\n", "assistant\n", *PHRASES)])
    return tok


def config(tok: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    """A tower of 5 layers of 192, a language model of 6 layers of 256; deepstack from one layer."""
    token = tok.convert_tokens_to_ids
    return Qwen3VLConfig(
        vision_config={
            "depth": 5,
            "hidden_size": 192,
            "num_heads": 3,
            "intermediate_size": 768,
            "out_hidden_size": 256,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 1024,
            "deepstack_visual_indexes": [2],
        },
        text_config={
            "vocab_size": len(tok),
            "hidden_size": 256,
            "intermediate_size": 640,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 32768,
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build(seed: int = 0) -> tuple[Any, PreTrainedTokenizerFast]:
    """A new model in float32 and its tokenizer."""
    tok = tokenizer()
    torch.manual_seed(seed)
    return AutoModelForImageTextToText.from_config(config(tok), dtype=torch.float32), tok
