"""The model families that take pruned inputs: one row each, by Hugging Face ``model_type``.

A row holds every fact about a family that the rest of the package needs. Classes of other libraries are named, not
imported, so that reading a row loads neither torch nor transformers nor vLLM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UnsupportedModelError


@dataclass(frozen=True)
class ImageSettings:
    """Settings of the image processor that a family's published models come with.

    Args:
        patch_size: side of a patch of the vision tower in pixels.
        min_pixels, max_pixels: least and largest area of the resized image in pixels.
        mean, std: of the normalisation, per channel.
        merge_size: patches along the side of a block, which becomes one token.
        temporal_patch_size: frames in a patch; an image is repeated as often.
    """

    patch_size: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    merge_size: int = 2
    temporal_patch_size: int = 2


@dataclass(frozen=True)
class VllmClasses:
    """Names of a family's classes in ``vllm.model_executor.models``, as ``module:Class``.

    Args:
        model: the model class; its class name is the architecture in the model's ``config.json``.
        tower: the class of its vision tower.
        info, processor, dummy_inputs: the classes that vLLM's registry of multimodal models holds for it.
        metadata: the function in :mod:`pixelprune.vllm.towers` that places kept patches for this tower.
    """

    model: str
    tower: str
    info: str
    processor: str
    dummy_inputs: str
    metadata: str

    @property
    def architecture(self) -> str:
        """The name of the model class alone."""
        return self.model.partition(":")[2]


@dataclass(frozen=True)
class Family:
    """What is known about one family.

    Args:
        model_type: ``config.model_type``.
        name: as people write it.
        hub_names: a regular expression for the beginning of its models' names on the hub, in lower case and without
            the owner. Where several families match, the longest match counts.
        processor: name of the stock processor class in ``transformers``.
        images: settings of its stock image processor.
        interpolated: the tower adds a learned position table, resampled to the grid.
        windowed: the tower attends within windows in most layers.
        deepstack: the tower hands features of its inner layers to the language model's first layers.
        recurrent: the language model has recurrent (linear attention) layers, which cannot mask tokens out.
        experts: the language model is a mixture of experts.
        tower_width, tower_output: keys of the vision config for the tower's width, and for that of its features.
        gated_tower: the tower's MLP has three matrices, not two.
        vision, text: defaults of transformers' configuration classes, for keys that published configs leave out.
        tiny: keys of a tiny config that are this family's own, over those that all tiny configs share.
        vllm: its classes in vLLM; None where vLLM cannot serve it pruned.
        without_vllm: where ``vllm`` is None, the reason.
    """

    model_type: str
    name: str
    hub_names: str
    processor: str
    images: ImageSettings
    interpolated: bool = False
    windowed: bool = False
    deepstack: bool = False
    recurrent: bool = False
    experts: bool = False
    tower_width: str = "hidden_size"
    tower_output: str = "out_hidden_size"
    gated_tower: bool = False
    vision: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    text: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    tiny: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False, repr=False)
    vllm: VllmClasses | None = None
    without_vllm: str = ""


_QWEN2_IMAGES = ImageSettings(
    patch_size=14,
    min_pixels=3136,
    max_pixels=12845056,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
_QWEN3_IMAGES = ImageSettings(
    patch_size=16, min_pixels=65536, max_pixels=16777216, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)

_QWEN3_VISION = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 3584}
_DEEPSTACK_VISION = {**_QWEN3_VISION, "deepstack_visual_indexes": (8, 16, 24)}
_LINEAR_TEXT = {
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}

_TINY_TOWER = {"hidden_size": 64, "intermediate_size": 96, "out_hidden_size": 64}
_TINY_QWEN3_TOWER = {**_TINY_TOWER, "num_position_embeddings": 144}
_TINY_DEEPSTACK_TOWER = {**_TINY_QWEN3_TOWER, "deepstack_visual_indexes": [0, 2]}
_TINY_QWEN3_TEXT = {"head_dim": 16, "rope_parameters": {"mrope_interleaved": True}}
_TINY_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_TINY_LINEAR_TEXT = {
    "head_dim": 16,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "rope_parameters": {"mrope_interleaved": True, "partial_rotary_factor": 1.0},
}


def _like_qwen3_vl(model: str, info: str) -> VllmClasses:
    """A model with Qwen3-VL's tower and processor, and a configuration of its own."""
    return VllmClasses(
        model=model,
        tower="qwen3_vl:Qwen3_VisionTransformer",
        info=info,
        processor="qwen3_vl:Qwen3VLMultiModalProcessor",
        dummy_inputs="qwen3_vl:Qwen3VLDummyInputsBuilder",
        metadata="qwen3_metadata",
    )


_ROWS = (
    Family(
        model_type="qwen2_vl",
        name="Qwen2-VL",
        hub_names=r"qwen2-vl-\d",
        processor="Qwen2VLProcessor",
        images=_QWEN2_IMAGES,
        tower_width="embed_dim",
        tower_output="hidden_size",
        vision={"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4},
        tiny={"vision_config": {"embed_dim": 64, "hidden_size": 64}},
        vllm=VllmClasses(
            model="qwen2_vl:Qwen2VLForConditionalGeneration",
            tower="qwen2_vl:Qwen2VisionTransformer",
            info="qwen2_vl:Qwen2VLProcessingInfo",
            processor="qwen2_vl:Qwen2VLMultiModalProcessor",
            dummy_inputs="qwen2_vl:Qwen2VLDummyInputsBuilder",
            metadata="qwen2_metadata",
        ),
    ),
    Family(
        model_type="qwen2_5_vl",
        name="Qwen2.5-VL",
        hub_names=r"qwen2\.5-vl-\d",
        processor="Qwen2_5_VLProcessor",
        images=_QWEN2_IMAGES,
        windowed=True,
        gated_tower=True,
        vision={
            "depth": 32,
            "hidden_size": 3584,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "window_size": 112,
            "fullatt_block_indexes": (7, 15, 23, 31),
        },
        tiny={"vision_config": {**_TINY_TOWER, "fullatt_block_indexes": [1]}},
        vllm=VllmClasses(
            model="qwen2_5_vl:Qwen2_5_VLForConditionalGeneration",
            tower="qwen2_5_vl:Qwen2_5_VisionTransformer",
            info="qwen2_5_vl:Qwen2_5_VLProcessingInfo",
            processor="qwen2_5_vl:Qwen2_5_VLMultiModalProcessor",
            dummy_inputs="qwen2_5_vl:Qwen2_5_VLDummyInputsBuilder",
            metadata="qwen2_5_metadata",
        ),
    ),
    Family(
        model_type="qwen3_vl",
        name="Qwen3-VL",
        hub_names=r"qwen3-vl-\d",
        processor="Qwen3VLProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        deepstack=True,
        vision=_DEEPSTACK_VISION,
        text={"head_dim": 128},
        tiny={"vision_config": _TINY_DEEPSTACK_TOWER, "text_config": _TINY_QWEN3_TEXT},
        vllm=_like_qwen3_vl("qwen3_vl:Qwen3VLForConditionalGeneration", "qwen3_vl:Qwen3VLProcessingInfo"),
    ),
    Family(
        model_type="qwen3_vl_moe",
        name="Qwen3-VL-MoE",
        hub_names=r"qwen3-vl-\d+b-a\d",
        processor="Qwen3VLProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        deepstack=True,
        experts=True,
        vision=_DEEPSTACK_VISION,
        tiny={"vision_config": _TINY_DEEPSTACK_TOWER, "text_config": {**_TINY_QWEN3_TEXT, **_TINY_EXPERTS}},
        vllm=_like_qwen3_vl("qwen3_vl_moe:Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe:Qwen3VLMoeProcessingInfo"),
    ),
    Family(
        model_type="qwen3_5",
        name="Qwen3.5",
        hub_names=r"qwen3\.5-\d",
        processor="Qwen3VLProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        recurrent=True,
        vision=_QWEN3_VISION,
        text=_LINEAR_TEXT,
        tiny={"vision_config": _TINY_QWEN3_TOWER, "text_config": _TINY_LINEAR_TEXT},
        vllm=_like_qwen3_vl("qwen3_5:Qwen3_5ForConditionalGeneration", "qwen3_5:Qwen3_5ProcessingInfo"),
    ),
    Family(
        model_type="qwen3_5_moe",
        name="Qwen3.5-MoE",
        hub_names=r"qwen3\.5-\d+b-a\d",
        processor="Qwen3VLProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        recurrent=True,
        experts=True,
        vision=_QWEN3_VISION,
        text={**_LINEAR_TEXT, "shared_expert_intermediate_size": 512},
        tiny={
            "vision_config": _TINY_QWEN3_TOWER,
            "text_config": {**_TINY_LINEAR_TEXT, **_TINY_EXPERTS, "shared_expert_intermediate_size": 64},
        },
        vllm=_like_qwen3_vl("qwen3_5:Qwen3_5MoeForConditionalGeneration", "qwen3_5:Qwen3_5MoeProcessingInfo"),
    ),
)

#: The rows by ``model_type``.
FAMILIES: dict[str, Family] = {family.model_type: family for family in _ROWS}


def family_of(model_type: str | None) -> Family:
    """The family registered for a ``model_type``; any other is refused with the list of those supported."""
    family = FAMILIES.get(model_type or "")
    if family is None:
        raise UnsupportedModelError(
            f"model_type {model_type!r} is not supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    return family


def family_named(name: str) -> Family | None:
    """The family of a model by its name on the hub, ``owner/name`` or ``name``; None if no family matches."""
    if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", name):
        return None
    model = name.split("/")[-1].lower()
    matches = [(match.end(), family) for family in FAMILIES.values() if (match := re.match(family.hub_names, model))]
    return max(matches, key=lambda found: found[0])[1] if matches else None
