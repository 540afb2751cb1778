"""Encode kept patches with vLLM's own vision towers.

A tower takes the tensors that it would derive from the grid as ``encoder_metadata``. Computed for the full grid and
gathered at the kept patches, they make the tower encode kept patches where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.model_executor.layers.attention.mm_encoder_attention import MMEncoderAttention

Metadata = dict[str, Tensor | None]


@dataclass(frozen=True)
class KeptImage:
    """One image: its full grid in patches, its kept flat block indices (int64, on the CPU), patches in a block.

    Iterating yields the number of its patches: vLLM shards images over ranks by the product of what it takes for grids.
    """

    grid: tuple[int, int, int]
    kept: Tensor
    unit: int

    @property
    def patches(self) -> int:
        return len(self.kept) * self.unit

    def __iter__(self) -> Iterator[int]:
        yield self.patches


class KeptTower:
    """A tower that is called with :class:`KeptImage` in place of grids; otherwise the tower itself."""

    def __init__(self, tower: Any, metadata: Callable[[Any, Sequence[KeptImage]], Metadata]) -> None:
        self._tower, self._metadata = tower, metadata

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def __call__(self, pixel_values: Tensor, images: Sequence[KeptImage]) -> Tensor:
        features: Tensor = self._tower(pixel_values, None, encoder_metadata=self._metadata(self._tower, images))
        return features


def qwen2_metadata(tower: Any, images: Sequence[KeptImage]) -> Metadata:
    """For Qwen2-VL: rotary angles at the kept patches, and one sequence per image."""
    full = tower.prepare_encoder_metadata([list(image.grid) for image in images])
    at = _kept_patches(images).to(tower.device)
    bounds = torch.from_numpy(_bounds(images))
    return {
        **full,
        "rotary_pos_emb_cos": full["rotary_pos_emb_cos"][at],
        "rotary_pos_emb_sin": full["rotary_pos_emb_sin"][at],
        "cu_seqlens": bounds.to(tower.device),
        "max_seqlen": tower.compute_attn_mask_seqlen(bounds),
    }


def qwen3_metadata(tower: Any, images: Sequence[KeptImage]) -> Metadata:
    """For Qwen3-VL and its kin: learned positions and rotary angles at the kept patches, one sequence per image."""
    full = tower.prepare_encoder_metadata([list(image.grid) for image in images])
    at = _kept_patches(images).to(tower.device)
    bounds, longest, lengths = _sequences(tower, _bounds(images))
    return {
        **full,
        "pos_embeds": full["pos_embeds"][at],
        "rotary_pos_emb_cos": full["rotary_pos_emb_cos"][at],
        "rotary_pos_emb_sin": full["rotary_pos_emb_sin"][at],
        "cu_seqlens": bounds,
        "max_seqlen": longest,
        "sequence_lengths": lengths,
    }


def qwen2_5_metadata(tower: Any, images: Sequence[KeptImage]) -> Metadata:
    """For Qwen2.5-VL: the same in the order of attention windows, with pruned blocks taken out of the windows."""
    cos, sin, order, windows = [], [], [], [0]
    offset = 0
    for image in images:
        full_cos, full_sin, full_order, full_bounds, _ = tower.get_rope_by_thw(*image.grid)
        keep = torch.zeros(len(full_order), dtype=torch.bool)
        keep[image.kept] = True
        rank = keep.cumsum(0) - 1  # of a kept block among the image's kept blocks
        kept_in_order = keep[full_order]
        order.append(rank[full_order[kept_in_order]] + offset)
        # Blocks kept up to each window's end; windows left empty fall together with the one before.
        filled = kept_in_order.cumsum(0)[full_bounds.long() // image.unit - 1]
        windows += ((filled + offset) * image.unit).tolist()
        offset += len(image.kept)
        at = _patches_of(torch.nonzero(kept_in_order)[:, 0], image.unit).to(full_cos.device)
        cos.append(full_cos[at])
        sin.append(full_sin[at])
    window_index = torch.cat(order)
    reverse = torch.empty_like(window_index)
    reverse[window_index] = torch.arange(offset)
    bounds, longest, lengths = _sequences(tower, _bounds(images))
    window_bounds, window_longest, window_lengths = _sequences(tower, np.unique(windows).astype(np.int32))
    return {
        "rotary_pos_emb_cos": torch.cat(cos).to(tower.device),
        "rotary_pos_emb_sin": torch.cat(sin).to(tower.device),
        "window_index": window_index.to(tower.device),
        "reverse_indices": reverse.to(tower.device),
        "cu_seqlens": bounds,
        "cu_window_seqlens": window_bounds,
        "max_seqlen_full": longest,
        "max_seqlen_window": window_longest,
        "sequence_lengths_full": lengths,
        "sequence_lengths_window": window_lengths,
    }


def _kept_patches(images: Sequence[KeptImage]) -> Tensor:
    """Where the kept patches stand among all patches of the images."""
    rows, offset = [], 0
    for image in images:
        rows.append(_patches_of(image.kept, image.unit) + offset)
        offset += int(np.prod(image.grid))
    return torch.cat(rows)


def _patches_of(blocks: Tensor, unit: int) -> Tensor:
    return (blocks[:, None] * unit + torch.arange(unit)).flatten()


def _bounds(images: Sequence[KeptImage]) -> np.ndarray[Any, Any]:
    """int32 ``(images + 1,)``: where each image's kept patches begin and end."""
    return np.cumsum([0, *(image.patches for image in images)], dtype=np.int32)


def _sequences(tower: Any, bounds: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sequence bounds, greatest length and lengths as the tower's attention backend wants them."""
    backend, device = tower.attn_backend, tower.device
    lengths = MMEncoderAttention.maybe_compute_seq_lens(backend, bounds, device)
    longest = torch.tensor(MMEncoderAttention.compute_max_seqlen(backend, bounds), dtype=torch.int32)
    padded = tower.fp8_padded_hidden_size
    at: Tensor = MMEncoderAttention.maybe_recompute_cu_seqlens(
        backend, bounds, tower.hidden_size, tower.tp_size, device, fp8_padded_hidden_size=padded
    )
    return at, longest, lengths
