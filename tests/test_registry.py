"""Every family's row is complete, and says what its stock classes say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoImageProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from docs import models_table
from pixelprune.check.tiny import build_tiny, tiny_model
from pixelprune.models.family import NO_NAMES, Family, ImageSettings
from pixelprune.models.published import KNOWN_MODELS
from pixelprune.models.registry import FAMILIES, family_named, family_of
from pixelprune.models.resize import ResizeSpec
from pixelprune.models.shape import ModelShape

ROOT = Path(__file__).parents[1]
TOWERS = ROOT / "src" / "pixelprune" / "vllm" / "towers.py"
#: ``preprocessor_config.json`` of the published models of each family.
_QWEN2 = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Qwen2VLImageProcessor",
}
_QWEN3 = {
    "size": {"longest_edge": 16777216, "shortest_edge": 65536},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "Qwen2VLImageProcessorFast",
}
_GLM = {
    **_QWEN2,
    "size": {"shortest_edge": 12544, "longest_edge": 9633792},
    "image_processor_type": "Glm4vImageProcessor",
    "processor_class": "Glm4vProcessor",
}
del _GLM["min_pixels"], _GLM["max_pixels"]
_GLM46V = {**_GLM, "image_processor_type": "Glm46VImageProcessor", "processor_class": "Glm46VProcessor"}
_COMPASS = {
    **_QWEN3,
    "size": {"longest_edge": 3868706, "shortest_edge": 16384},
    "image_processor_type": "CohereCompassImageProcessor",
}
PUBLISHED = {
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "qwen3_5": _QWEN3,
    "qwen3_5_moe": _QWEN3,
    "qwen4_exp": _QWEN3,
    "cohere_compass": _COMPASS,
    "glm4v": _GLM,
    "glm46v": _GLM46V,
    "glm4v_moe": _GLM,
    "glm_ocr": _GLM46V,
}


def processor(family: Family, folder: Path) -> None:
    """It is the class that transformers has for the family, or that the published files name where it has none."""
    assert hasattr(transformers, family.processor)
    named = PUBLISHED[family.model_type].get("processor_class")
    assert PROCESSOR_MAPPING_NAMES.get(family.model_type, named) == family.processor


def images(family: Family, folder: Path) -> None:
    """The settings are the published ones, in the row and in a tiny model's folder, and the sizes the stock class's."""
    published: dict[str, Any] = PUBLISHED[family.model_type]
    kind = published["image_processor_type"].removesuffix("Fast")
    stock = getattr(transformers, kind + "Pil")(**published)
    assert family.image_processor == kind
    assert ResizeSpec.for_model(family.model_type) == ResizeSpec.from_processor(stock.to_dict())
    settings = family.images
    assert settings.temporal_patch_size == stock.temporal_patch_size
    assert (list(settings.mean), list(settings.std)) == (list(stock.image_mean), list(stock.image_std))
    build_tiny(folder, family.model_type, weights=False)
    saved = AutoImageProcessor.from_pretrained(folder).to_dict()
    assert saved == {name: value for name, value in stock.to_dict().items() if name != "processor_class"}
    vision = CONFIG_MAPPING[family.model_type]().vision_config
    sizes = (settings.patch_size, settings.merge_size, settings.temporal_patch_size)
    assert sizes == (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)


def tiny(family: Family, folder: Path) -> None:
    """A tiny model is built, and it is of the kind that the row says."""
    model = tiny_model(family.model_type)
    tower, vision, text = model.base_model.visual, model.config.vision_config, model.config.text_config
    assert max(parameter.numel() for parameter in model.parameters()) < 300_000
    assert getattr(vision, family.tower_width) == tower.patch_embed.proj.out_channels
    assert getattr(vision, family.tower_output) == text.hidden_size
    mlp = next(layer for layer in tower.blocks[0].mlp.modules() if isinstance(layer, torch.nn.Linear))
    assert "mlp_ratio" in family.vision or getattr(vision, family.tower_mlp) == mlp.out_features
    assert hasattr(tower.merger, "gate_proj") == bool(family.merger_mlp)
    if family.merger_mlp:
        assert prod(getattr(vision, key) for key in family.merger_mlp) == tower.merger.gate_proj.out_features
    assert hasattr(tower, "interpolation_mode") == family.interpolated
    assert hasattr(tower, "window_size") == family.windowed
    assert hasattr(tower, "deepstack_merger_list") == family.deepstack
    assert hasattr(tower.blocks[0].mlp, "gate_proj") == family.gated_tower
    layers = model.base_model.language_model.layers
    assert any(hasattr(layer, "linear_attn") for layer in layers) == family.recurrent
    assert any(hasattr(layer.mlp, "experts") for layer in layers) == family.experts
    assert ("sliding_attention" in (getattr(text, "layer_types", None) or ())) == family.sliding


def cost(family: Family, folder: Path) -> None:
    """The cost model takes a config that leaves out what the configuration class fills in, and fills in the same."""
    text = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    text |= {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40} if family.experts else {}
    theirs = CONFIG_MAPPING[family.model_type](text_config=dict(text), vision_config={})
    assert ModelShape.from_config({"model_type": family.model_type, "text_config": text}) == ModelShape.from_config(
        theirs
    )


def published(family: Family, folder: Path) -> None:
    """A published model is known by its name, and its name tells the family; or it is said that there is none."""
    names = [name for name, config in KNOWN_MODELS.items() if config["model_type"] == family.model_type]
    assert bool(names) == (family.hub_names != NO_NAMES)
    for name in names:
        assert family_named(f"Qwen/{name}-Instruct") is family_named(name) is family_of(family.model_type)
        assert ModelShape.from_config(name).model_type == family.model_type


def vllm(family: Family, folder: Path) -> None:
    """Its classes in vLLM, which the tests of the plugin look up there; or the reason why there are none."""
    if family.vllm is None:
        assert family.without_vllm
        return
    assert not family.without_vllm
    places = (family.vllm.model, family.vllm.tower, family.vllm.info, family.vllm.processor, family.vllm.dummy_inputs)
    assert all(re.fullmatch(r"\w+:\w+", place) for place in places)
    assert f"def {family.vllm.metadata}(" in TOWERS.read_text(encoding="utf-8")


def documented(family: Family, folder: Path) -> None:
    """The table in the docs has the line that the registry gives, and every list of families has its name."""
    assert models_table.row(family) in models_table.PAGE.read_text(encoding="utf-8")
    for page in ("README.md", "docs/limits.md", *(["docs/serving.md"] if family.vllm else [])):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert re.search(rf"(?<![\w.-]){re.escape(family.name)}(?![\w-])", text), page


CHECKS: tuple[Callable[[Family, Path], None], ...] = (processor, images, tiny, cost, published, vllm, documented)


def lacks(family: Family, folder: Path) -> list[str]:
    """What is missing or wrong in a family's row."""
    missing = []
    for check in CHECKS:
        try:
            check(family, folder)
        except Exception:
            missing.append(check.__name__)
    return missing


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_row_is_complete(model_type: str, check: Callable[[Family, Path], None], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    check(FAMILIES[model_type], tmp_path)


def test_a_row_of_which_nothing_is_known_lacks_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = ImageSettings(14, 3136, 9999999, (0.5,) * 3, (0.5,) * 3)
    family = Family("made_up_vl", "Made-Up-VL", r"made-up-vl-\d", "MadeUpProcessor", images)
    monkeypatch.setitem(FAMILIES, family.model_type, family)
    assert lacks(family, tmp_path) == [check.__name__ for check in CHECKS]


@pytest.mark.parametrize(
    ("missing", "changes"),
    [
        ("processor", {"processor": "Qwen2_5OmniProcessor"}),
        ("images", {"images": replace(FAMILIES["qwen3_vl"].images, min_pixels=65537)}),
        ("images", {"images": replace(FAMILIES["qwen3_vl"].images, mean=(0.5, 0.5, 0.4))}),
        ("tiny", {"tiny": {"text_config": FAMILIES["qwen3_vl"].tiny["text_config"]}}),
        ("tiny", {"windowed": True}),
        ("cost", {"vision": {**FAMILIES["qwen3_vl"].vision, "depth": 28}}),
        ("cost", {"text": {}}),
        ("published", {"hub_names": r"made-up-vl-\d"}),
        ("vllm", {"vllm": None}),
        ("vllm", {"without_vllm": "it has no tower"}),
        ("documented", {"name": "Made-Up-VL"}),
    ],
)
def test_a_fault_in_a_row_is_found(
    missing: str, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    family = replace(FAMILIES["qwen3_vl"], **changes)  # type: ignore[arg-type]
    monkeypatch.setitem(FAMILIES, "qwen3_vl", family)
    assert missing in lacks(family, tmp_path)


def test_an_explicit_reason_is_enough_without_vllm(tmp_path: Path) -> None:
    family = replace(FAMILIES["qwen3_vl"], vllm=None, without_vllm="its tower takes no metadata")
    vllm(family, tmp_path)
    assert models_table.row(family).endswith("| no: its tower takes no metadata |\n")


def test_the_table_in_the_docs_is_of_now() -> None:
    page = models_table.PAGE.read_text(encoding="utf-8")
    assert models_table.written(page) == page
    assert models_table.written(page.replace("| 32 x 32 |", "| 31 x 31 |")) == page


def test_reading_the_registry_loads_no_engine() -> None:
    code = (
        "import sys, pixelprune.models.registry\n"
        "assert not {'torch', 'transformers', 'vllm', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
