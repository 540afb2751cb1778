"""Tiny models of the real architectures with random weights, for the self-check, tests and benchmarks.

Small random weights hide errors: vision attention is nearly uniform, so wrong rotary positions or merged sequences
still give the same tokens. The tower's ``qkv`` weights are therefore drawn wide, which makes attention peaked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PreTrainedTokenizerFast

from ..models.family import ImageTokens
from ..models.registry import family_of

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}[start][image][end]"
    "{% elif part['type'] == 'video' %}[start][video][end]"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _special(tokens: ImageTokens) -> list[str]:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", tokens.start, tokens.end, tokens.image, tokens.video]
    return [*names, *tokens.more]


def tiny_tokenizer(tokens: ImageTokens | None = None) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: 256 bytes and special tokens, Qwen's if no others are given."""
    tokens = tokens or ImageTokens()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=_special(tokens),
        padding_side="left",
    )
    fast.chat_template = _CHAT_TEMPLATE
    for name in ("start", "image", "end", "video"):
        fast.chat_template = fast.chat_template.replace(f"[{name}]", getattr(tokens, name))
    return fast


def tiny_config(model_type: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The config of a tiny model of a family: two or more layers of each kind that the architecture has."""
    family = family_of(model_type)
    tokens, token_id = family.tokens, tokenizer.convert_tokens_to_ids
    vision = {
        "depth": 3,
        "num_heads": 4,
        "patch_size": family.images.patch_size,
        "spatial_merge_size": family.images.merge_size,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "bos_token_id": None,
        "eos_token_id": token_id("<|im_end|>"),
        "pad_token_id": token_id("<|endoftext|>"),
    }
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    own = family.tiny.get("text_config", {})
    own_rope = own.get("rope_parameters", {})
    by_layer = "full_attention" in own_rope
    config_class: Any = CONFIG_MAPPING[model_type]
    # Families name the tokens around an image in one of two ways.
    named = {"image": tokens.image, "video": tokens.video}
    for kind in ("vision", "image"):
        named |= {f"{kind}_start": tokens.start, f"{kind}_end": tokens.end}
    ids = {f"{name}_token_id": token_id(token) for name, token in named.items()}
    return config_class(
        vision_config={**vision, **family.tiny.get("vision_config", {})},
        text_config={**text, **own, "rope_parameters": own_rope if by_layer else {**rope, **own_rope}},
        tie_word_embeddings=False,
        **{name: value for name, value in ids.items() if hasattr(config_class, name)},
    )


def sharpen(model: Any, seed: int = 0, scale: float = 0.2) -> Any:
    """Redraw weights so that errors show: peaked vision attention, and a language model that looks at what it reads.

    Args:
        scale: standard deviation of the weights; wide for the width of a tiny model.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            wide = 0.45 if "visual" in name and "qkv" in name else scale if parameter.ndim > 1 else 0.0
            if wide:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                parameter.copy_(noise.to(parameter.dtype) * wide)
    return model


def tiny_model(model_type: str = "qwen3_vl", seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A tiny sharpened model in evaluation mode, on the CPU. It never generates a special token."""
    tokens = family_of(model_type).tokens
    tokenizer = tiny_tokenizer(tokens)
    config = tiny_config(model_type, tokenizer)
    model = sharpen(AutoModelForImageTextToText.from_config(config, dtype=dtype), seed).eval()
    model.generation_config.suppress_tokens = tokenizer.convert_tokens_to_ids(_special(tokens))
    return model


def build_tiny(folder: str | Path, model_type: str = "qwen3_vl", seed: int = 0, *, weights: bool = True) -> Path:
    """Save a tiny model as a folder that stock ``from_pretrained`` loads: config, weights, tokenizer, image processor.

    Args:
        folder: where to; created.
        model_type: one of the supported families.
        seed: of the random weights.
        weights: ``False`` leaves the weights out, for a processor alone.
    """
    folder = Path(folder)
    family = family_of(model_type)
    images = family.images
    tokenizer = tiny_tokenizer(family.tokens)
    if weights:
        tiny_model(model_type, seed).save_pretrained(folder)
    else:
        tiny_config(model_type, tokenizer).save_pretrained(folder)
    tokenizer._set_processor_class(family.processor)
    tokenizer.save_pretrained(folder)
    getattr(transformers, f"{family.image_processor}Pil")(
        patch_size=images.patch_size,
        merge_size=images.merge_size,
        temporal_patch_size=images.temporal_patch_size,
        image_mean=list(images.mean),
        image_std=list(images.std),
        size={"shortest_edge": images.min_pixels, "longest_edge": images.max_pixels},
    ).save_pretrained(folder)
    return folder
