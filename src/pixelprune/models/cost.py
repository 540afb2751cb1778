"""What an image costs a model: patches, tokens, FLOPs of prefill and bytes of KV cache, from the model's config.

FLOPs are those of matrix products, two per multiply-add, the terms that grow with width and length; norms,
activations, rotary positions and softmax are left out. See :func:`prefill_cost` for the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core.selection import Selection
from ..errors import ConfigError
from .published import KNOWN_MODELS
from .shape import ModelShape, TextShape, VisionShape

__all__ = ["KNOWN_MODELS", "Comparison", "Cost", "ModelShape", "TextShape", "VisionShape", "compare", "prefill_cost"]

#: The blocks of one image that are encoded: a count, a bool ``(rows, cols)`` mask, or a selection's kept ones.
Blocks: TypeAlias = "int | NDArray[np.bool_] | Selection"
#: One image before and after pruning: its selection, or a pair (blocks, blocks kept).
Pruning: TypeAlias = "Selection | tuple[int, int]"


@dataclass(frozen=True)
class Cost:
    """What one prefill costs.

    Attributes:
        patches: inputs of the vision tower.
        image_tokens: inputs of the text model that are blocks of images.
        tokens: all inputs of the text model.
        vit_linear_flops, vit_attention_flops: of the vision tower, by weights and between patches.
        llm_linear_flops, llm_attention_flops: of the text model, by weights and between tokens.
        kv_cache_bytes: keys and values of all tokens in the layers with full attention.
    """

    patches: int
    image_tokens: int
    tokens: int
    vit_linear_flops: int
    vit_attention_flops: int
    llm_linear_flops: int
    llm_attention_flops: int
    kv_cache_bytes: int

    @property
    def vit_flops(self) -> int:
        """FLOPs of the vision tower, mergers included."""
        return self.vit_linear_flops + self.vit_attention_flops

    @property
    def llm_flops(self) -> int:
        """FLOPs of the text model up to the first new token's logits."""
        return self.llm_linear_flops + self.llm_attention_flops

    @property
    def total_flops(self) -> int:
        """FLOPs of vision tower and text model."""
        return self.vit_flops + self.llm_flops


@dataclass(frozen=True)
class Comparison:
    """The same prompt unpruned (``full``) and ``pruned``."""

    full: Cost
    pruned: Cost

    @property
    def retain_ratio(self) -> float:
        """Image tokens kept over all image tokens."""
        return self.pruned.image_tokens / self.full.image_tokens

    @property
    def flops_ratio(self) -> float:
        """FLOPs with pruning over FLOPs without; its inverse is the speed-up if time went by FLOPs alone."""
        return self.pruned.total_flops / self.full.total_flops

    @property
    def kv_cache_ratio(self) -> float:
        """KV cache with pruning over KV cache without."""
        return self.pruned.kv_cache_bytes / self.full.kv_cache_bytes


def prefill_cost(shape: ModelShape, blocks: Blocks | list[Blocks], text_tokens: int = 0, dtype_bytes: int = 2) -> Cost:
    """Cost of one forward pass over a prompt, to the logits of its last position.

    A product of (n, a) by (a, b) is ``2 * n * a * b`` FLOPs, so a weight matrix costs two per element and input.

    Vision tower, width d, MLP width i, n patches in an image:

    - weights, per patch: the patch embedding ``channels * temporal * patch**2 * d``, and per layer ``4 * d**2``
      (query, key, value, output) and ``2 * d * i`` (``3 * d * i`` if gated); per block, for the merger and each
      DeepStack merger with ``D = merge**2 * d``: ``D**2 + D * out``; for GLM's merger, with an MLP of width m,
      ``D * out + out**2 + 3 * out * m``.
    - attention: ``QK^T`` and the weighted sum of values are ``2 * n**2 * d`` each, ``4 * n**2 * d`` per layer, per
      image. In Qwen2.5-VL's window layers n is a window's patches and windows add up: exact for a mask or a
      selection, whose pruned windows are smaller; for a bare count all windows are taken as full (an upper bound).

    Text model, hidden size h, n tokens:

    - weights, per token and layer: queries and output ``2 * h * heads * head_dim`` (queries twice where gated), keys
      and values ``2 * h * kv_heads * head_dim``, MLP ``3 * h * i``; a mixture of experts ``3 * h * moe_i`` per expert
      used, its router ``h * experts``, a shared expert ``3 * h * shared_i``, its gate ``h``. The head ``h * vocab``
      once.
    - attention: causal, so token t meets t others: ``4 * heads * head_dim * n * (n + 1) / 2`` per full layer, half of
      what a kernel that computes the masked half does.
      Over the last w tokens alone, or over the w that Qwen4-Exp's indexer selects, a token meets min(t, w).
    - linear attention (gated delta rule, Qwen3.5) with k key and v value channels in all: projections
      ``h * (2k + v) + h * v + 2 * h * value_heads + v * h``, convolution ``kernel * (2k + v)``, and a state of key_dim
      by value_dim per value head that is read for the prediction, updated, and read for the output:
      ``3 * key_dim * value_dim`` per head. Kernels that work in chunks do more.
    - Qwen4-Exp, s streams of the residual: two mixers of rank r per layer and one at the end, ``2 * s * h * r`` each,
      and ``s**2 * h`` to write back; a layer with n-gram features of width e, ``(s + 1) * h * e`` and a convolution
      ``kernel * s * h``; the indexer's projection ``h * (heads + keys) * dim``, and ``2 * heads * dim`` per query and
      pooled key, of which token t sees t over the pool's size.

    KV cache: ``2 * n * kv_heads * head_dim * dtype_bytes`` per full-attention layer, and with at most w for n per
    layer with a window of w. The state of linear attention, which does not grow with n, and an indexer's keys are
    left out.

    Args:
        shape: the model.
        blocks: the encoded blocks of one image, or a list with those of several. See :data:`Blocks`.
        text_tokens: tokens of the prompt beside the images'.
        dtype_bytes: bytes per value of the KV cache.

    Raises:
        ConfigError: a count is not a whole number of at least 0 (at least 1 for an image's blocks).
    """
    layouts = [_layout(image) for image in (blocks if isinstance(blocks, list) else [blocks])]
    tokens = sum(count for count, _ in layouts) + _count(text_tokens, "text_tokens", 0)
    vision, text = shape.vision, shape.text
    per_block = vision.merge_size**2
    image_tokens = tokens - text_tokens
    return Cost(
        patches=image_tokens * per_block,
        image_tokens=image_tokens,
        tokens=tokens,
        vit_linear_flops=2 * image_tokens * _vit_weights_per_block(vision),
        vit_attention_flops=sum(_vit_attention(vision, count, mask) for count, mask in layouts),
        llm_linear_flops=2 * tokens * _llm_weights_per_token(text) + 2 * text.hidden * text.vocab,
        llm_attention_flops=_llm_attention(text, tokens),
        kv_cache_bytes=2
        * (tokens * text.full_attention_layers + min(tokens, text.sliding_window) * text.sliding_layers)
        * text.kv_heads
        * text.head_dim
        * _count(dtype_bytes, "dtype_bytes", 1),
    )


def compare(
    shape: ModelShape, images: Pruning | list[Pruning], text_tokens: int = 0, dtype_bytes: int = 2
) -> Comparison:
    """Cost of a prompt without and with pruning.

    Args:
        shape: the model.
        images: one image's selection or its pair (blocks, blocks kept), or a list of these.
        text_tokens: tokens of the prompt beside the images'.
        dtype_bytes: bytes per value of the KV cache.

    Raises:
        ConfigError: a count is wrong, or more blocks are kept than there are.
    """
    full: list[Blocks] = []
    pruned: list[Blocks] = []
    for image in images if isinstance(images, list) else [images]:
        if isinstance(image, Selection):
            full.append(np.ones(image.grid, bool))
            pruned.append(image)
            continue
        if not isinstance(image, tuple) or len(image) != 2 or not _count(image[1], "kept", 1) <= image[0]:
            raise ConfigError(
                f"an image must be a selection or a pair (blocks, kept) with kept <= blocks; got {image!r}"
            )
        full.append(image[0])
        pruned.append(image[1])
    return Comparison(
        prefill_cost(shape, full, text_tokens, dtype_bytes), prefill_cost(shape, pruned, text_tokens, dtype_bytes)
    )


def _vit_weights_per_block(vision: VisionShape) -> int:
    """Weight elements that each block meets: its patches' and its own."""
    d, per_block = vision.hidden, vision.merge_size**2
    embedding = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * d
    layer = 4 * d * d + vision.mlp_matrices * d * vision.intermediate
    wide, out = per_block * d, vision.out_hidden
    merger = wide * out + out * out + 3 * out * vision.merger_intermediate
    if not vision.merger_intermediate:
        merger = wide * wide + wide * out
    return per_block * (embedding + vision.depth * layer) + (1 + vision.deepstack_mergers) * merger


def _vit_attention(vision: VisionShape, count: int, mask: NDArray[np.bool_] | None) -> int:
    per_block, side = vision.merge_size**2, vision.window_blocks
    full = 4 * (count * per_block) ** 2 * vision.hidden * vision.full_attention_layers
    windowed = vision.depth - vision.full_attention_layers
    if not windowed:
        return full
    if mask is None:
        window = side * side
        sizes = np.array([window] * (count // window) + [count % window])
    else:
        rows, cols = mask.shape
        by_row = np.add.reduceat(mask.astype(np.int64), np.arange(0, rows, side), axis=0)
        sizes = np.add.reduceat(by_row, np.arange(0, cols, side), axis=1)
    squares = int((sizes.astype(np.int64) ** 2).sum()) * per_block**2
    return full + 4 * squares * vision.hidden * windowed


def _llm_weights_per_token(text: TextShape) -> int:
    """Weight elements that each token meets in all layers, the head left out."""
    h = text.hidden
    queries = text.heads * text.head_dim
    attention = (2 + text.gated_attention) * h * queries + 2 * h * text.kv_heads * text.head_dim
    keys = text.linear_key_heads * text.linear_key_dim
    values = text.linear_value_heads * text.linear_value_dim
    mixed = 2 * keys + values
    linear = h * mixed + 2 * h * values + 2 * h * text.linear_value_heads + text.linear_conv_kernel * mixed
    experts = h * text.experts + 3 * h * text.moe_intermediate * text.experts_per_token
    shared = 3 * h * text.shared_intermediate + text.shared_gate * h
    attending = text.full_attention_layers + text.sliding_layers
    streams, mixers = text.residual_streams, 2 * text.layers + 1
    residual = mixers * 2 * streams * h * text.residual_rank + (mixers - 1) * streams * streams * h
    ngrams = (streams + 1) * h * text.ngram_width + text.ngram_kernel * streams * h
    indexer = h * (text.indexer_heads + text.indexer_keys) * text.indexer_dim
    return (
        attending * attention
        + (text.layers - attending) * linear
        + (residual if streams > 1 else 0)
        + text.ngram_layers * ngrams
        + text.full_attention_layers * indexer
        + (text.layers - text.moe_layers) * 3 * h * text.intermediate
        + text.moe_layers * (experts + shared)
    )


def _llm_attention(text: TextShape, tokens: int) -> int:
    per_pair = 4 * text.heads * text.head_dim
    full = per_pair * _pairs(tokens, text.indexer_budget or tokens)
    if text.indexer_pool:
        pooled = sum(seen // text.indexer_pool for seen in range(1, tokens + 1))
        full += 2 * text.indexer_heads * text.indexer_dim * pooled
    sliding = per_pair * _pairs(tokens, text.sliding_window)
    state = 6 * text.linear_key_dim * text.linear_value_dim * text.linear_value_heads
    recurrent = text.layers - text.full_attention_layers - text.sliding_layers
    return text.full_attention_layers * full + text.sliding_layers * sliding + recurrent * state * tokens


def _pairs(tokens: int, most: int) -> int:
    """Sum over tokens t = 1 .. n of min(t, most): pairs of a causal attention that meets at most so many."""
    near = min(tokens, most)
    return near * (near + 1) // 2 + (tokens - near) * most


def _layout(image: Blocks) -> tuple[int, NDArray[np.bool_] | None]:
    """The number of blocks, and where they are if that is known."""
    if isinstance(image, Selection):
        return image.num_kept, image.keep
    if isinstance(image, np.ndarray):
        if image.ndim != 2 or image.dtype != bool or not image.any():
            raise ConfigError(
                f"a block mask must be bool (rows, cols) with at least one True; got {image.dtype} {image.shape}"
            )
        return int(image.sum()), image
    return _count(image, "an image's blocks", 1), None


def _count(value: int, name: str, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}; got {value!r}")
    return int(value)
