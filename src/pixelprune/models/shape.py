"""The numbers of a model's config that decide what an image costs it: sizes of the vision tower and the text model.

Read from a Hugging Face ``config.json``, offline and without importing transformers. Keys that published configs
leave out take the defaults of transformers' configuration classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..errors import UnsupportedModelError
from .adapter import ADAPTER_CONFIG, model_of_adapter
from .family import Family
from .published import KNOWN_MODELS
from .registry import family_of


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
    #: Width of the gated MLP in GLM's merger; 0 where the merger has two layers.
    merger_intermediate: int = 0
    #: Mergers beside the main one, for features handed to the text model's first layers (DeepStack).
    deepstack_mergers: int = 0
    #: Layers in which every patch sees every other; the rest see a window.
    full_attention_layers: int = 0
    #: Side of an attention window in blocks; 0 without windows.
    window_blocks: int = 0


@dataclass(frozen=True)
class TextShape:
    """The text model. Layers with neither full nor sliding attention are linear attention (gated delta rule)."""

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
    #: A gate, one value per token, on the shared expert.
    shared_gate: bool = False
    linear_key_heads: int = 0
    linear_value_heads: int = 0
    linear_key_dim: int = 0
    linear_value_dim: int = 0
    linear_conv_kernel: int = 0
    #: Layers in which a token meets the last ``sliding_window`` tokens only.
    sliding_layers: int = 0
    sliding_window: int = 0
    #: Qwen4-Exp: streams of the residual and rank of their mixers; layers with features of n-grams, their width and
    #: the kernel of their convolution; and, in full-attention layers, heads of queries and keys of the indexer, their
    #: width, tokens whose keys it pools, and the tokens that it selects for each query.
    residual_streams: int = 1
    residual_rank: int = 0
    ngram_layers: int = 0
    ngram_width: int = 0
    ngram_kernel: int = 0
    indexer_heads: int = 0
    indexer_keys: int = 0
    indexer_dim: int = 0
    indexer_pool: int = 0
    indexer_budget: int = 0


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
        family = family_of(config.get("model_type"))
        # Configs saved before transformers 4.52 keep the text model's keys at the top.
        text = config.get("text_config") or config
        vision = config.get("vision_config") or {}
        return cls(family.model_type, _vision_shape(family, vision), _text_shape(family, text))


def _vision_shape(family: Family, config: Mapping[str, Any]) -> VisionShape:
    config = _filled(
        config,
        in_channels=3,
        patch_size=family.images.patch_size,
        temporal_patch_size=family.images.temporal_patch_size,
        spatial_merge_size=family.images.merge_size,
        **family.vision,
    )
    depth, patch, merge = (_whole(config, key) for key in ("depth", "patch_size", "spatial_merge_size"))
    hidden = _whole(config, family.tower_width)
    full_layers = _below(depth, config["fullatt_block_indexes"] if family.windowed else range(depth))
    return VisionShape(
        depth=depth,
        hidden=hidden,
        # Where the width is given as a ratio, it is so for all models of the family.
        intermediate=int(hidden * config["mlp_ratio"])
        if "mlp_ratio" in family.vision
        else _whole(config, family.tower_mlp),
        heads=_whole(config, "num_heads"),
        patch_size=patch,
        temporal_patch_size=_whole(config, "temporal_patch_size"),
        merge_size=merge,
        in_channels=_whole(config, "in_channels"),
        out_hidden=_whole(config, family.tower_output),
        mlp_matrices=3 if family.gated_tower else 2,
        merger_intermediate=prod(_whole(config, key) for key in family.merger_mlp) if family.merger_mlp else 0,
        deepstack_mergers=len(_below(depth, config["deepstack_visual_indexes"] if family.deepstack else ())),
        full_attention_layers=len(full_layers),
        window_blocks=_whole(config, "window_size") // merge // patch if family.windowed else 0,
    )


def _below(depth: int, layers: Iterable[Any]) -> set[int]:
    """The layers of a list that the tower has."""
    return {int(layer) for layer in layers if int(layer) < depth}


def _text_shape(family: Family, config: Mapping[str, Any]) -> TextShape:
    config = _filled(config, **family.text)
    layers, hidden, heads = (_whole(config, k) for k in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    if config.get("use_sliding_window"):
        raise UnsupportedModelError("no cost model for a text model with sliding window attention; use_sliding_window")
    moe = _moe(family, config, layers) if family.experts else {}
    kinds = config.get("layer_types") or ()
    sliding = sum(kind == "sliding_attention" for kind in kinds) if family.sliding else 0
    return TextShape(
        layers=layers,
        hidden=hidden,
        # A model whose every layer is a mixture of experts may leave the dense width out.
        intermediate=0 if moe.get("moe_layers") == layers else _whole(config, "intermediate_size"),
        heads=heads,
        kv_heads=_whole(config, "num_key_value_heads", heads),
        head_dim=_whole(config, "head_dim", hidden // heads),
        vocab=_whole(config, "vocab_size"),
        full_attention_layers=_full_layers(config, layers) if family.recurrent else layers - sliding,
        # The models with recurrent layers gate the attention of the others.
        gated_attention=family.recurrent,
        **moe,
        **(_linear_attention(config) if family.recurrent else {}),
        sliding_layers=sliding,
        sliding_window=_whole(config, "sliding_window") if sliding else 0,
        **(_qwen4(config, hidden) if "hc_count" in family.text else {}),
    )


def _moe(family: Family, config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    dense = set(config.get("mlp_only_layers") or range(config.get("first_k_dense_replace") or 0))
    step = _whole(config, "decoder_sparse_step", 1)
    width, shared = _whole(config, "moe_intermediate_size"), "shared_expert_intermediate_size"
    shape = {
        "moe_layers": sum(i not in dense and (i + 1) % step == 0 for i in range(layers)),
        "experts_per_token": _whole(config, "num_experts_per_tok"),
        "moe_intermediate": width,
    }
    if "n_shared_experts" in family.text:  # GLM's shared experts, as wide as the others, without a gate
        return {
            **shape,
            "experts": _whole(config, "n_routed_experts"),
            "shared_intermediate": width * _whole(config, "n_shared_experts"),
        }
    gated = shared in family.text
    return {
        **shape,
        "experts": _whole(config, "num_experts", config.get("num_local_experts")),
        "shared_intermediate": _whole(config, shared) if gated else 0,
        "shared_gate": gated,
    }


def _linear_attention(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "linear_key_heads": _whole(config, "linear_num_key_heads"),
        "linear_value_heads": _whole(config, "linear_num_value_heads"),
        "linear_key_dim": _whole(config, "linear_key_head_dim"),
        "linear_value_dim": _whole(config, "linear_value_head_dim"),
        "linear_conv_kernel": _whole(config, "linear_conv_kernel_dim"),
    }


def _qwen4(config: Mapping[str, Any], hidden: int) -> dict[str, Any]:
    shape = {"residual_streams": _whole(config, "hc_count"), "residual_rank": _whole(config, "hc_lowrank")}
    if config.get("ple_layer_ids"):
        shape |= {
            "ngram_layers": len(set(config["ple_layer_ids"])),
            "ngram_width": _whole(config, "ple_embed_dim", hidden),
            "ngram_kernel": _whole(config, "ple_conv_kernel_size"),
        }
    if config.get("indexer_n_heads"):
        names = ("n_heads", "kv_heads", "head_dim", "compress_ratio", "budget")
        fields = ("heads", "keys", "dim", "pool", "budget")
        shape |= {
            f"indexer_{field}": _whole(config, f"indexer_{name}") for field, name in zip(fields, names, strict=True)
        }
    return shape


def _full_layers(config: Mapping[str, Any], layers: int) -> int:
    if config.get("layer_types"):
        return sum(kind in ("full_attention", "indexed_attention") for kind in config["layer_types"])
    return layers // _whole(config, "full_attention_interval")


def _filled(config: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """A config with defaults where it leaves a key out or says null."""
    return {**defaults, **{key: value for key, value in config.items() if value is not None}}


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
    if (path / ADAPTER_CONFIG).is_file() and not (path / "config.json").is_file():
        return _read(model_of_adapter(path / ADAPTER_CONFIG))
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
