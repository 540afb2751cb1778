"""Encode kept patches with vLLM's own vision towers.

A tower takes the tensors that it would derive from the grid as ``encoder_metadata``. Computed for the full grid and
gathered at the kept patches, they place kept patches in that grid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vllm.model_executor.layers.attention.mm_encoder_attention import MMEncoderAttention

from ..core.geometry import joined_blocks, kept_windows, rows_of_blocks, sequence_bounds

Metadata = dict[str, Tensor | None]


@dataclass(frozen=True)
class KeptImage:
    """One image: its full grid in patches, its kept flat block indices, patches in a block.

    Iterating yields the number of its patches: vLLM shards images over ranks by the product of what it takes for grids.
    """

    grid: tuple[int, int, int]
    kept: NDArray[np.int32]
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
        metadata = self._metadata(self._tower, images)
        if (grids := metadata.get("grids")) is None:
            return cast(Tensor, self._tower(pixel_values, None, encoder_metadata=metadata))
        # A copy, which shares the weights, with the angles in place of the method that would compute them.
        tower = copy.copy(self._tower)
        tower.rot_pos_emb = lambda _: (metadata["rotary_pos_emb_cos"], metadata["rotary_pos_emb_sin"], None)
        return cast(Tensor, tower(pixel_values, grids))


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
    """For Qwen3-VL and its kin, and for GLM-4V: learned positions and rotary angles at the kept patches.

    One sequence per image.
    """
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
        blocks = full_order.cpu().numpy()
        index, ends = kept_windows(blocks, np.append(0, full_bounds.cpu().numpy()), image.kept, image.unit)
        order.append(torch.from_numpy(index + offset))
        windows += (ends + offset * image.unit).tolist()
        offset += len(image.kept)
        # vLLM has the angles in the order of the windows, too.
        places = np.flatnonzero(np.isin(blocks, image.kept))
        at = torch.from_numpy(rows_of_blocks(places, image.unit)).to(full_cos.device)
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


def glm_ocr_metadata(tower: Any, images: Sequence[KeptImage]) -> Metadata:
    """For GLM-OCR, whose tower takes no such tensors: rotary angles at the kept patches, which are its only positions.

    From ``grids`` of one row with as many patches the tower derives one sequence per image.
    """
    cos, sin, _ = tower.rot_pos_emb([list(image.grid) for image in images])
    at = _kept_patches(images).to(tower.device)
    return {
        "rotary_pos_emb_cos": cos[at],
        "rotary_pos_emb_sin": sin[at],
        "grids": torch.tensor([[1, 1, image.patches] for image in images], dtype=torch.int32),
    }


def _kept_patches(images: Sequence[KeptImage]) -> Tensor:
    """Where the kept patches are among all patches of the images."""
    unit = images[0].unit
    blocks = [int(np.prod(image.grid)) // unit for image in images]
    return torch.from_numpy(rows_of_blocks(joined_blocks([image.kept for image in images], blocks), unit))


def _bounds(images: Sequence[KeptImage]) -> NDArray[np.int32]:
    """int32 ``(images + 1,)``: where each image's kept patches begin and end."""
    return sequence_bounds([len(image.kept) for image in images], images[0].unit)


def _sequences(tower: Any, bounds: NDArray[np.int32]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sequence bounds, greatest length and lengths as the tower's attention backend wants them."""
    backend, device = tower.attn_backend, tower.device
    lengths = MMEncoderAttention.maybe_compute_seq_lens(backend, bounds, device)
    longest = torch.tensor(MMEncoderAttention.compute_max_seqlen(backend, bounds), dtype=torch.int32)
    padded = getattr(tower, "fp8_padded_hidden_size", None)  # GLM's tower has no attention in 8-bit floats
    at: Tensor = MMEncoderAttention.maybe_recompute_cu_seqlens(
        backend, bounds, tower.hidden_size, tower.tp_size, device, fp8_padded_hidden_size=padded
    )
    return at, longest, lengths
