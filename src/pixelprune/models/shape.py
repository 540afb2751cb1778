"""The numbers of a model's config that decide what an image costs it: sizes of the vision tower and the text model.

Read from a Hugging Face ``config.json``, offline and without importing transformers. Keys that published configs
leave out take the defaults of transformers' configuration classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UnsupportedModelError
from .published import KNOWN_MODELS


@dataclass(frozen=True)
class VisionShape:
    """The vision tower. ``hidden`` and ``intermediate`` are widths; a block is ``merge_size**2`` patches."""

    depth: int
    hidden: int
    intermediate: int
    heads: int
    patch_size: int
    temporal_patch_size: int
    merge_size: int
    in_channels: int
    out_hidden: int
    #: Weight matrices of the MLP: 2, or 3 where it is gated.
    mlp_matrices: int = 2
    #: Mergers beside the main one, for features handed to the text model's first layers (DeepStack).
    deepstack_mergers: int = 0
    #: Layers in which every patch sees every other; the rest see a window.
    full_attention_layers: int = 0
    #: Side of an attention window in blocks; 0 without windows.
    window_blocks: int = 0


@dataclass(frozen=True)
class TextShape:
    """The text model. Layers without full attention are linear attention (gated delta rule)."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    full_attention_layers: int
    #: The query projection is twice as wide, its second half a gate on the attention's output.
    gated_attention: bool = False
    moe_layers: int = 0
    experts: int = 0
    experts_per_token: int = 0
    moe_intermediate: int = 0
    shared_intermediate: int = 0
    linear_key_heads: int = 0
    linear_value_heads: int = 0
    linear_key_dim: int = 0
    linear_value_dim: int = 0
    linear_conv_kernel: int = 0


@dataclass(frozen=True)
class ModelShape:
    """What the cost model needs to know of a model. Made by :meth:`from_config`."""

    model_type: str
    vision: VisionShape
    text: TextShape

    @property
    def block_size(self) -> int:
        """Side in pixels of the block that becomes one token."""
        return self.vision.patch_size * self.vision.merge_size

    @classmethod
    def from_config(cls, source: Any) -> ModelShape:
        """Read the shape of a model.

        Args:
            source: the content of a ``config.json`` as a dict; a Hugging Face config object; a folder that holds a
                ``config.json``, or that file; or a name in :data:`KNOWN_MODELS`, with or without ``Qwen/`` and
                ``-Instruct``.

        Raises:
            UnsupportedModelError: not one of the above, a family that is not known, or a needed number is missing.
        """
        config = _read(source)
        model_type = config.get("model_type")
        if model_type not in _VISION_DEFAULTS:
            raise UnsupportedModelError(
                f"no cost model for model_type {model_type!r}; known are {', '.join(sorted(_VISION_DEFAULTS))}"
            )
        # Configs saved before transformers 4.52 keep the text model's keys at the top.
        text = config.get("text_config") or config
        vision = {**_VISION_DEFAULTS[model_type], **(config.get("vision_config") or {})}
        return cls(model_type, _vision_shape(model_type, vision), _text_shape(model_type, text))


#: Defaults of transformers' vision configuration classes, for keys that published configs leave out.
_QWEN2: dict[str, Any] = {
    "depth": 32,
    "num_heads": 16,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "in_channels": 3,
}
_QWEN3: dict[str, Any] = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "patch_size": 16,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "in_channels": 3,
    "out_hidden_size": 3584,
}
_VISION_DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {**_QWEN2, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4},
    "qwen2_5_vl": {
        **_QWEN2,
        "hidden_size": 3584,
        "intermediate_size": 3420,
        "out_hidden_size": 3584,
        "window_size": 112,
        "fullatt_block_indexes": (7, 15, 23, 31),
    },
    "qwen3_vl": {**_QWEN3, "deepstack_visual_indexes": (8, 16, 24)},
    "qwen3_vl_moe": {**_QWEN3, "deepstack_visual_indexes": (8, 16, 24)},
    "qwen3_5": _QWEN3,
    "qwen3_5_moe": _QWEN3,
}
#: Width of an attention head where the config does not say; otherwise it is hidden size over heads.
_HEAD_DIM = {"qwen3_vl": 128, "qwen3_5": 256, "qwen3_5_moe": 256}


def _vision_shape(model_type: str, config: Mapping[str, Any]) -> VisionShape:
    depth, patch, merge = (_whole(config, key) for key in ("depth", "patch_size", "spatial_merge_size"))
    # Qwen2-VL names the tower's width embed_dim and calls the width it hands over hidden_size.
    first = model_type == "qwen2_vl"
    hidden = _whole(config, "embed_dim" if first else "hidden_size")
    windows = model_type == "qwen2_5_vl"
    full_layers = {int(i) for i in config["fullatt_block_indexes"] if int(i) < depth} if windows else set(range(depth))
    deepstack = config.get("deepstack_visual_indexes", ()) if model_type.startswith("qwen3_vl") else ()
    return VisionShape(
        depth=depth,
        hidden=hidden,
        intermediate=int(hidden * config["mlp_ratio"]) if first else _whole(config, "intermediate_size"),
        heads=_whole(config, "num_heads"),
        patch_size=patch,
        temporal_patch_size=_whole(config, "temporal_patch_size"),
        merge_size=merge,
        in_channels=_whole(config, "in_channels"),
        out_hidden=_whole(config, "hidden_size" if first else "out_hidden_size"),
        mlp_matrices=3 if windows else 2,
        deepstack_mergers=sum(int(i) < depth for i in deepstack),
        full_attention_layers=len(full_layers),
        window_blocks=_whole(config, "window_size") // merge // patch if windows else 0,
    )


def _text_shape(model_type: str, config: Mapping[str, Any]) -> TextShape:
    layers, hidden, heads = (_whole(config, k) for k in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    linear = model_type.startswith("qwen3_5")
    if config.get("use_sliding_window"):
        raise UnsupportedModelError("no cost model for a text model with sliding window attention; use_sliding_window")
    moe = _moe(model_type, config, layers) if model_type.endswith("_moe") else {}
    return TextShape(
        layers=layers,
        hidden=hidden,
        # A model whose every layer is a mixture of experts may leave the dense width out.
        intermediate=0 if moe.get("moe_layers") == layers else _whole(config, "intermediate_size"),
        heads=heads,
        kv_heads=_whole(config, "num_key_value_heads", heads),
        head_dim=_whole(config, "head_dim", _HEAD_DIM.get(model_type, hidden // heads)),
        vocab=_whole(config, "vocab_size"),
        full_attention_layers=_full_layers(config, layers) if linear else layers,
        gated_attention=linear,
        **moe,
        **(_linear_attention(config) if linear else {}),
    )


def _moe(model_type: str, config: Mapping[str, Any], layers: int) -> dict[str, int]:
    dense = set(config.get("mlp_only_layers") or ())
    step = _whole(config, "decoder_sparse_step", 1)
    return {
        "moe_layers": sum(i not in dense and (i + 1) % step == 0 for i in range(layers)),
        "experts": _whole(config, "num_experts", config.get("num_local_experts")),
        "experts_per_token": _whole(config, "num_experts_per_tok"),
        "moe_intermediate": _whole(config, "moe_intermediate_size"),
        "shared_intermediate": _whole(config, "shared_expert_intermediate_size", 0) if "3_5" in model_type else 0,
    }


def _linear_attention(config: Mapping[str, Any]) -> dict[str, int]:
    return {
        "linear_key_heads": _whole(config, "linear_num_key_heads", 16),
        "linear_value_heads": _whole(config, "linear_num_value_heads", 32),
        "linear_key_dim": _whole(config, "linear_key_head_dim", 128),
        "linear_value_dim": _whole(config, "linear_value_head_dim", 128),
        "linear_conv_kernel": _whole(config, "linear_conv_kernel_dim", 4),
    }


def _full_layers(config: Mapping[str, Any], layers: int) -> int:
    if config.get("layer_types"):
        return sum(kind == "full_attention" for kind in config["layer_types"])
    return layers // _whole(config, "full_attention_interval", 4)


def _whole(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A whole number of the config; a pair, as some configs give for patch sizes, must be of equals."""
    value = config.get(key)
    if value is None:
        value = default
    if isinstance(value, (list, tuple)) and len(set(value)) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnsupportedModelError(f"the model's config must give {key} as a whole number; got {value!r}")
    return value


def _read(source: Any) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    if hasattr(source, "to_dict"):
        config: Mapping[str, Any] = source.to_dict()
        return config
    if not isinstance(source, (str, Path)):
        raise UnsupportedModelError(
            f"a model's config must be a dict, a config object, a folder or a name; got {type(source).__name__}"
        )
    path = Path(source)
    file = path / "config.json" if path.is_dir() else path
    if file.is_file():
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UnsupportedModelError(f"{file} is not JSON: {error}") from None
        if not isinstance(content, dict):
            raise UnsupportedModelError(f"{file} must hold a JSON object; got {type(content).__name__}")
        return content
    name = str(source).rsplit("/", 1)[-1].lower().removesuffix("-instruct").removesuffix("-thinking")
    known = {key.lower(): config for key, config in KNOWN_MODELS.items()}
    if name not in known:
        raise UnsupportedModelError(
            f"{str(source)!r} is no folder with a config.json and no known model; known are {', '.join(KNOWN_MODELS)}"
        )
    return known[name]
