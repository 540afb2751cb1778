"""Configs of well-known models by name, reduced to what the cost model needs, for use without a network.

Sources: ``config.json`` of the Hugging Face repositories ``Qwen/NAME-Instruct``, ``zai-org/NAME`` and
``CohereLabs/NAME-Instruct``; for Qwen3.5 and Qwen3.8 the card of ``Qwen/NAME`` and the defaults of transformers'
configuration classes. The tests compare the numbers of
parameters that follow with the published ones.
"""

from __future__ import annotations

from typing import Any

_Tower = tuple[int, int, int, tuple[int, ...]]  # depth, width, MLP width, layers with deepstack
_SMALL_TOWER: _Tower = (24, 1024, 4096, (5, 11, 17))
_LARGE_TOWER: _Tower = (27, 1152, 4304, (8, 16, 24))


def _experts(number: int, per_token: int, width: int) -> dict[str, int]:
    return {"num_experts": number, "num_experts_per_tok": per_token, "moe_intermediate_size": width}


def _qwen3_vl(
    layers: int, hidden: int, intermediate: int, heads: int, vision: _Tower, experts: tuple[int, int, int] | None = None
) -> dict[str, Any]:
    depth, width, mlp, deepstack = vision
    text = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    }
    if experts:
        text |= {"num_key_value_heads": 4, **_experts(*experts)}
    return {
        "model_type": "qwen3_vl_moe" if experts else "qwen3_vl",
        "text_config": text,
        "vision_config": {
            "depth": depth,
            "hidden_size": width,
            "intermediate_size": mlp,
            "out_hidden_size": hidden,
            "deepstack_visual_indexes": deepstack,
        },
    }


def _qwen2(layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, vocab: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
    }


def _qwen2_vl(layers: int, hidden: int, *text: int) -> dict[str, Any]:
    vision = {"embed_dim": 1280, "hidden_size": hidden}
    return {"model_type": "qwen2_vl", **_qwen2(layers, hidden, *text), "vision_config": vision}


def _qwen2_5_vl(layers: int, hidden: int, *text: int, mlp: int = 3420) -> dict[str, Any]:
    vision = {"hidden_size": 1280, "intermediate_size": mlp, "out_hidden_size": hidden}
    return {"model_type": "qwen2_5_vl", **_qwen2(layers, hidden, *text), "vision_config": vision}


def _qwen3_5(
    layers: int, hidden: int, kv_heads: int, intermediate: int = 0, experts: tuple[int, int, int] | None = None
) -> dict[str, Any]:
    """What is not said is the default of the family: its tower, linear attention and shared expert."""
    text = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": 16,
        "num_key_value_heads": kv_heads,
        "vocab_size": 248320,
    }
    return {
        "model_type": "qwen3_5_moe" if experts else "qwen3_5",
        "text_config": text | (_experts(*experts) if experts else {"intermediate_size": intermediate}),
        "vision_config": {"out_hidden_size": hidden},
    }


def _glm(
    model_type: str, layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, vocab: int, **own: Any
) -> dict[str, Any]:
    """The tower is the default of the family."""
    text = _qwen2(layers, hidden, intermediate, heads, kv_heads, vocab)
    return {"model_type": model_type, "text_config": text | own, "vision_config": {"out_hidden_size": hidden}}


_GLM_45V = {
    **_glm(
        "glm4v_moe", 46, 4096, 10944, 96, 8, 151552, head_dim=128, num_experts_per_tok=8, moe_intermediate_size=1408
    ),
    "vision_config": {"out_hidden_size": 4096, "intermediate_size": 10944},
}

_FLASH_NEXT = {
    "model_type": "qwen4_exp",
    "text_config": {
        "num_hidden_layers": 48,
        "hidden_size": 2560,
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "vocab_size": 248320,
        "linear_num_value_heads": 48,
        "shared_expert_intermediate_size": 640,
        **_experts(512, 10, 640),
        "ple_layer_ids": [2],
        "eos_token_id": 248044,
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 128,
        "indexer_budget": 2048,
        "indexer_compress_ratio": 4,
    },
    "vision_config": {"out_hidden_size": 2560},
}
_NORTH_MICRO_VISION = {
    "model_type": "cohere_compass",
    "text_config": {
        **_qwen2(28, 2048, 6144, 16, 8, 262144),
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 7,
    },
    "vision_config": {"out_hidden_size": 2048},
}

KNOWN_MODELS: dict[str, dict[str, Any]] = {
    "Qwen3-VL-2B": _qwen3_vl(28, 2048, 6144, 16, _SMALL_TOWER),
    "Qwen3-VL-4B": _qwen3_vl(36, 2560, 9728, 32, _SMALL_TOWER),
    "Qwen3-VL-8B": _qwen3_vl(36, 4096, 12288, 32, _LARGE_TOWER),
    "Qwen3-VL-32B": _qwen3_vl(64, 5120, 25600, 64, _LARGE_TOWER),
    "Qwen3-VL-30B-A3B": _qwen3_vl(48, 2048, 6144, 32, _LARGE_TOWER, (128, 8, 768)),
    "Qwen3-VL-235B-A22B": _qwen3_vl(94, 4096, 12288, 64, _LARGE_TOWER, (128, 8, 1536)),
    "Qwen3.5-9B": _qwen3_5(32, 4096, 4, 12288),
    "Qwen3.5-35B-A3B": _qwen3_5(40, 2048, 2, experts=(256, 8, 512)),
    "Qwen2.5-VL-3B": _qwen2_5_vl(36, 2048, 11008, 16, 2, 151936),
    "Qwen2.5-VL-7B": _qwen2_5_vl(28, 3584, 18944, 28, 4, 152064),
    "Qwen2.5-VL-32B": _qwen2_5_vl(64, 5120, 27648, 40, 8, 152064, mlp=3456),
    "Qwen2.5-VL-72B": _qwen2_5_vl(80, 8192, 29568, 64, 8, 152064, mlp=3456),
    "Qwen2-VL-2B": _qwen2_vl(28, 1536, 8960, 12, 2, 151936),
    "Qwen2-VL-7B": _qwen2_vl(28, 3584, 18944, 28, 4, 152064),
    "Qwen2-VL-72B": _qwen2_vl(80, 8192, 29568, 64, 8, 152064),
    "Qwen3.8-Flash-Next": _FLASH_NEXT,
    "North-Micro-Vision": _NORTH_MICRO_VISION,
    "GLM-4.1V-9B": _glm("glm4v", 40, 4096, 13696, 32, 2, 151552),
    "GLM-4.6V-Flash": _glm("glm4v", 40, 4096, 13696, 32, 2, 151552),
    "GLM-4.5V": _GLM_45V,
    "GLM-4.6V": _GLM_45V,
    "GLM-OCR": _glm("glm_ocr", 16, 1536, 4608, 16, 8, 59392, head_dim=128),
}
