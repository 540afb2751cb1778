"""The cost model, against PyTorch's FLOP counter on real architectures with random weights."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelprune import select
from pixelprune.errors import ConfigError, UnsupportedModelError
from pixelprune.models.cost import KNOWN_MODELS, ModelShape, TextShape, compare, prefill_cost

ROWS, COLS, TEXT = 5, 9, 22  # odd, so that attention windows are cut at the edges

_TEXT: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}
_MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
}
_VISION = {
    "depth": 4,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_heads": 4,
    "out_hidden_size": 64,
    "patch_size": 8,
    "num_position_embeddings": 64,
}
_DEEPSTACK = {**_VISION, "deepstack_visual_indexes": [0, 2]}
_GLM_VISION = {k: v for k, v in _VISION.items() if k != "num_position_embeddings"} | {"image_size": 64}
_HALF_ROPE = {**_TEXT["rope_parameters"], "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}
_IDS = {"image_token_id": 500, "video_token_id": 501, "vision_start_token_id": 502, "vision_end_token_id": 503}

CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {
        "text_config": _TEXT,
        "vision_config": {
            "depth": 4,
            "embed_dim": 48,
            "hidden_size": 64,
            "mlp_ratio": 2,
            "num_heads": 4,
            "patch_size": 8,
        },
    },
    "qwen2_5_vl": {
        "text_config": _TEXT,
        "vision_config": {
            "depth": 4,
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_heads": 4,
            "out_hidden_size": 64,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
    },
    "qwen3_vl": {"text_config": {**_TEXT, "head_dim": 24}, "vision_config": _DEEPSTACK},
    "qwen3_vl_moe": {"text_config": {**_TEXT, **_MOE, "mlp_only_layers": [1]}, "vision_config": _DEEPSTACK},
    "qwen3_5": {"text_config": {**_TEXT, **_LINEAR, "head_dim": 16}, "vision_config": _VISION},
    "qwen3_5_moe": {
        "text_config": {**_TEXT, **_LINEAR, **_MOE, "head_dim": 16, "shared_expert_intermediate_size": 24},
        "vision_config": _VISION,
    },
    "qwen4_exp": {
        "text_config": {
            **_TEXT,
            **_LINEAR,
            **_MOE,
            "head_dim": 16,
            "layer_types": ["linear_attention", "indexed_attention"] * 2,
            "shared_expert_intermediate_size": 24,
            "hc_count": 3,
            "hc_lowrank": 12,
            "ple_layer_ids": [1],
            "ple_embed_dim": 48,
            "heads_per_ngram": 2,
            "ngram_vocab_size_base": 64,
            "make_ngram_vocab_size_divisible_by": 8,
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 16,
            "indexer_budget": 128,
            "indexer_compress_ratio": 4,
        },
        "vision_config": _VISION,
    },
    "cohere_compass": {
        "text_config": {
            **_TEXT,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_parameters": {"sliding_attention": _TEXT["rope_parameters"], "full_attention": None},
        },
        "vision_config": _DEEPSTACK,
    },
    "glm4v": {"text_config": {**_TEXT, "rope_parameters": _HALF_ROPE}, "vision_config": _GLM_VISION},
    "glm46v": {
        "text_config": {"model_type": "glm4v_text", **_TEXT, "rope_parameters": _HALF_ROPE},
        "vision_config": {"model_type": "glm4v_vision", **_GLM_VISION},
    },
    "glm4v_moe": {
        "text_config": {
            **_TEXT,
            "head_dim": 16,
            "rope_parameters": _HALF_ROPE,
            "n_routed_experts": 6,
            "n_shared_experts": 2,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 40,
        },
        "vision_config": _GLM_VISION,
    },
    "glm_ocr": {"text_config": {**_TEXT, "head_dim": 16}, "vision_config": _GLM_VISION},
}


def _config(model_type: str) -> Any:
    from transformers import CONFIG_MAPPING

    # A copy, because configuration classes write into the mappings that they are given.
    return CONFIG_MAPPING[model_type](**deepcopy(CONFIGS[model_type]), **_IDS)


def _counted(model_type: str) -> tuple[dict[str, dict[str, int]], int]:
    """FLOPs by part and kind of a real prefill, and the bytes of its KV cache."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    # The counter does not know fused attention on the CPU nor grouped products of experts.
    model = AutoModelForImageTextToText.from_config(
        _config(model_type), attn_implementation="eager", experts_implementation="eager"
    ).eval()
    blocks = ROWS * COLS
    input_ids = torch.tensor([[502] + [500] * blocks + [503] + list(range(10, 8 + TEXT))])
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        output = model(
            input_ids=input_ids,
            mm_token_type_ids=(input_ids == 500).long(),
            pixel_values=torch.randn(blocks * 4, 3 * 2 * 8 * 8),
            image_grid_thw=torch.tensor([[1, ROWS * 2, COLS * 2]]),
            logits_to_keep=1,
            use_cache=True,
        )
    counts = {
        name.rsplit(".", 1)[-1]: {str(op).removeprefix("aten."): flops for op, flops in by_op.items()}
        for name, by_op in counter.get_flop_counts().items()
    }
    cache = sum(
        t.numel() * t.element_size()
        for layer in output.past_key_values.layers
        for t in (getattr(layer, "keys", None), getattr(layer, "values", None))
        if isinstance(t, torch.Tensor)
    )
    return counts, cache


def _weights(by_op: dict[str, int]) -> int:
    return by_op.get("mm", 0) + by_op.get("addmm", 0) + by_op.get("convolution", 0)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_formulas_equal_the_flop_counter(model_type: str) -> None:
    counts, cache = _counted(model_type)
    shape = ModelShape.from_config({"model_type": model_type, **CONFIGS[model_type]})
    cost = prefill_cost(shape, np.ones((ROWS, COLS), bool), TEXT, dtype_bytes=4)
    tokens = ROWS * COLS + TEXT
    assert (cost.patches, cost.image_tokens, cost.tokens) == (4 * ROWS * COLS, ROWS * COLS, tokens)
    assert cost.vit_linear_flops == _weights(counts["visual"])
    assert cost.vit_attention_flops == counts["visual"]["bmm"]
    assert cost.kv_cache_bytes == cache
    text = counts["language_model"]
    linear_layers = shape.text.layers - shape.text.full_attention_layers - shape.text.sliding_layers
    # The reference convolution of linear attention also computes the kernel - 1 outputs that it pads with.
    mixed = 2 * 2 * 16 + 4 * 8
    padding = 2 * linear_layers * mixed * 4 * 3
    # The indexer's products of queries and pooled keys are no weights, but matrix products of one query each.
    pooled = sum(seen // 4 for seen in range(1, tokens + 1)) if shape.text.indexer_pool else 0
    scores = 2 * 2 * shape.text.indexer_heads * shape.text.indexer_dim * pooled
    assert cost.llm_linear_flops == _weights(text) + _weights(counts["lm_head"]) - padding - scores
    if not linear_layers:
        # The counter counts the masked half of causal attention, too.
        assert cost.llm_attention_flops == text["bmm"] * (tokens + 1) // (2 * tokens)
    else:
        # Chunked reference kernels do more than the recurrence; full attention alone does less than is counted.
        assert 0 < cost.llm_attention_flops < text["bmm"]


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
def test_a_wrong_shape_does_not_equal_the_flop_counter(model_type: str) -> None:
    """The control of the test above: each number of the shape is seen by it."""
    shape = ModelShape.from_config({"model_type": model_type, **CONFIGS[model_type]})
    full = np.ones((ROWS, COLS), bool)
    right = prefill_cost(shape, full, TEXT)
    vision_fields = ["hidden", "intermediate", "patch_size", "temporal_patch_size", "in_channels", "out_hidden"]
    vision_fields += ["mlp_matrices", "deepstack_mergers", "depth" if model_type == "qwen2_5_vl" else "merge_size"]
    for field in vision_fields:
        wrong = replace(shape, vision=replace(shape.vision, **{field: getattr(shape.vision, field) + 1}))
        assert prefill_cost(wrong, full, TEXT).vit_flops != right.vit_flops, field
    for field in ["layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "gated_attention"]:
        wrong = replace(shape, text=replace(shape.text, **{field: getattr(shape.text, field) + 1}))
        assert prefill_cost(wrong, full, TEXT).llm_flops != right.llm_flops, field


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_config_object_and_its_saved_folder_give_the_same_shape(model_type: str, tmp_path: Path) -> None:
    config = _config(model_type)
    config.save_pretrained(tmp_path)
    expected = ModelShape.from_config({"model_type": model_type, **CONFIGS[model_type]})
    assert ModelShape.from_config(config) == expected
    assert ModelShape.from_config(tmp_path) == ModelShape.from_config(str(tmp_path / "config.json")) == expected
    changed = json.loads((tmp_path / "config.json").read_text())
    changed["vision_config"]["depth"] += 1
    assert ModelShape.from_config(changed) != expected


@pytest.mark.parametrize("model_type", CONFIGS)
def test_defaults_are_those_of_transformers(model_type: str) -> None:
    """A published config leaves vision keys out; the defaults here must be the ones that the model is built with."""
    from transformers import CONFIG_MAPPING

    text = {
        k: v
        for k, v in CONFIGS[model_type]["text_config"].items()
        if not k.startswith(("linear_", "head_dim", "indexer_"))
    }
    theirs = CONFIG_MAPPING[model_type](text_config=deepcopy(text), vision_config={})
    assert ModelShape.from_config({"model_type": model_type, "text_config": text}) == ModelShape.from_config(theirs)


def _slow_windows(keep: np.ndarray, side: int) -> int:
    """Sum of squared patch counts over windows, patch by patch."""
    total = 0
    for top in range(0, keep.shape[0], side):
        for left in range(0, keep.shape[1], side):
            inside = sum(
                4
                for r in range(top, min(top + side, keep.shape[0]))
                for c in range(left, min(left + side, keep.shape[1]))
                if keep[r, c]
            )
            total += inside**2
    return total


def test_pruned_windows_are_counted_one_by_one() -> None:
    shape = ModelShape.from_config("Qwen2.5-VL-3B")
    assert (shape.vision.window_blocks, shape.vision.full_attention_layers, shape.vision.depth) == (4, 4, 32)
    keep = np.random.default_rng(0).random((11, 14)) < 0.4
    kept = int(keep.sum())
    expected = 4 * 1280 * (4 * (4 * kept) ** 2 + 28 * _slow_windows(keep, 4))
    assert prefill_cost(shape, keep).vit_attention_flops == expected
    # A bare count takes windows as full: more than the mask, and exact for a grid of whole windows.
    assert prefill_cost(shape, kept).vit_attention_flops > expected
    whole = np.ones((8, 12), bool)
    assert prefill_cost(shape, whole) == prefill_cost(shape, 96)


def test_windows_and_budgets_are_counted_token_by_token() -> None:
    cohere, qwen4 = ModelShape.from_config("North-Micro-Vision").text, ModelShape.from_config("Qwen3.8-Flash-Next").text
    assert (cohere.sliding_layers, cohere.full_attention_layers, cohere.sliding_window) == (21, 7, 4096)
    assert (qwen4.full_attention_layers, qwen4.indexer_budget, qwen4.indexer_pool) == (12, 2048, 4)
    tokens = 5000

    def attention(text: TextShape, most: int) -> int:
        return sum(4 * text.heads * text.head_dim * min(token, most) for token in range(1, tokens + 1))

    scores = sum(2 * 4 * 128 * (token // 4) for token in range(1, tokens + 1))
    state = 6 * 128 * 128 * 48 * tokens * 36
    vision = ModelShape.from_config("Qwen3-VL-2B").vision
    for text, flops, cached in (
        (cohere, 7 * attention(cohere, tokens) + 21 * attention(cohere, 4096), 7 * tokens + 21 * 4096),
        (qwen4, 12 * (attention(qwen4, 2048) + scores) + state, 12 * tokens),
    ):
        cost = prefill_cost(ModelShape("", vision, text), tokens)
        assert cost.llm_attention_flops == flops
        assert cost.kv_cache_bytes == 2 * 2 * text.kv_heads * text.head_dim * cached
        wider = replace(text, sliding_window=text.sliding_window + 1)
        if text is qwen4:
            wider = replace(text, indexer_budget=text.indexer_budget + 1)
        assert prefill_cost(ModelShape("", vision, wider), tokens).llm_attention_flops > flops


def test_compare_takes_selections_and_counts() -> None:
    shape = ModelShape.from_config("Qwen/Qwen3-VL-2B-Instruct")
    assert shape.block_size == 32
    image = np.zeros((320, 640, 3), np.uint8)
    image[:160] = np.random.default_rng(0).integers(0, 256, (160, 640, 3))
    selection = select(image, block_size=32)
    total, kept = selection.num_blocks, selection.num_kept
    assert kept < total
    by_selection = compare(shape, selection, text_tokens=30)
    assert by_selection == compare(shape, (total, kept), text_tokens=30)
    assert by_selection.full == prefill_cost(shape, total, 30)
    assert by_selection.pruned == prefill_cost(shape, kept, 30)
    assert by_selection.retain_ratio == selection.retain_ratio
    assert by_selection.kv_cache_ratio == (kept + 30) / (total + 30)
    assert 0 < by_selection.flops_ratio < 1
    unpruned = compare(shape, (total, total))
    assert unpruned.flops_ratio == unpruned.kv_cache_ratio == unpruned.retain_ratio == 1


def test_several_images_share_the_text_model_but_not_the_tower() -> None:
    shape = ModelShape.from_config("Qwen3-VL-8B")
    one, two = prefill_cost(shape, 100), prefill_cost(shape, [100, 100])
    assert two.vit_flops == 2 * one.vit_flops
    assert two.llm_attention_flops == one.llm_attention_flops * 200 * 201 // (100 * 101)
    assert two.llm_attention_flops > 2 * one.llm_attention_flops
    assert compare(shape, [(100, 40), (100, 60)]).pruned == prefill_cost(shape, [40, 60])


@pytest.mark.parametrize(
    ("name", "billions"),
    # Sizes on the models' cards: parameters, in 10**9. Qwen3.5's cards also count layers for the prediction of several
    # tokens, which transformers leaves out: those are the sizes of the language model alone, from published GGUF files.
    # Qwen3.8-Flash-Next: 125 and 51 of n-grams, in whole numbers.
    [
        ("Qwen3-VL-2B", 2.1),
        ("Qwen3-VL-4B", 4.4),
        ("Qwen3-VL-8B", 8.8),
        ("Qwen3-VL-32B", 33.4),
        ("Qwen3-VL-30B-A3B", 31.1),
        ("Qwen3-VL-235B-A22B", 235.7),
        ("Qwen3.5-9B", 8.95),
        ("Qwen3.5-35B-A3B", 34.66),
        ("Qwen2.5-VL-3B", 3.8),
        ("Qwen2.5-VL-7B", 8.3),
        ("Qwen2.5-VL-32B", 33.5),
        ("Qwen2.5-VL-72B", 73.4),
        ("Qwen2-VL-2B", 2.2),
        ("Qwen2-VL-7B", 8.3),
        ("Qwen2-VL-72B", 73.4),
        ("Qwen3.8-Flash-Next", 176),
        ("North-Micro-Vision", 2.48),
        ("GLM-4.1V-9B", 10.29),
        ("GLM-4.5V", 107.71),
        ("GLM-OCR", 0.9),
    ],
)
def test_known_models_have_the_published_number_of_parameters(name: str, billions: float) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    config = json.loads(json.dumps(KNOWN_MODELS[name]))
    tied = name in ("Qwen3-VL-2B", "Qwen3-VL-4B", "Qwen2.5-VL-3B", "Qwen2-VL-2B", "North-Micro-Vision")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}
    if name.startswith("Qwen3.8"):
        rope |= {"mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25}
    if name == "North-Micro-Vision":
        rope = {"sliding_attention": rope, "full_attention": None}
    text = config.pop("text_config", None) or {k: v for k, v in config.items() if isinstance(v, int)}
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            CONFIG_MAPPING[config["model_type"]](
                text_config={**text, "rope_parameters": rope},
                vision_config=config["vision_config"],
                tie_word_embeddings=tied,
            )
        )
    counted = model.base_model.language_model if name.startswith(("Qwen3.5", "Qwen3.8")) else model
    parameters = sum(p.numel() for p in counted.parameters())
    if name == "GLM-OCR":  # a tower of 0.4 and a decoder of 0.5, embeddings and head left out
        parameters -= 2 * model.lm_head.weight.numel()
    if counted is not model:
        parameters += model.lm_head.weight.numel()
    assert abs(parameters / 1e9 - billions) < (1 if isinstance(billions, int) else 0.05)
    assert ModelShape.from_config(model.config) == ModelShape.from_config(name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no-such-model", "known are Qwen3-VL-2B"),
        ({"model_type": "llava"}, "qwen2_5_vl, qwen2_vl"),
        (
            {"model_type": "qwen3_vl", "text_config": {"num_hidden_layers": 2}},
            "hidden_size as a whole number; got None",
        ),
        ({"model_type": "qwen2_vl", "use_sliding_window": True, **_TEXT}, "use_sliding_window"),
        (3, "got int"),
    ],
)
def test_unknown_models_are_refused(source: Any, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        ModelShape.from_config(source)


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnsupportedModelError, match="not JSON"):
        ModelShape.from_config(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UnsupportedModelError, match="JSON object"):
        ModelShape.from_config(tmp_path)


def test_bad_counts_are_refused() -> None:
    shape = ModelShape.from_config("qwen3-vl-2b")
    for blocks in (0, -1, 1.5, np.zeros((2, 2), bool), np.ones(4, bool), np.ones((2, 2))):
        with pytest.raises(ConfigError):
            prefill_cost(shape, blocks)
    with pytest.raises(ConfigError, match="text_tokens"):
        prefill_cost(shape, 4, -1)
    with pytest.raises(ConfigError, match="dtype_bytes"):
        prefill_cost(shape, 4, 0, 0)
    with pytest.raises(ConfigError, match="kept <= blocks"):
        compare(shape, (4, 5))
    with pytest.raises(ConfigError, match="selection or a pair"):
        compare(shape, 4)
