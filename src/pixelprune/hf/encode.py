"""Encode kept patches with an unmodified vision tower.

Towers of transformers take as keyword arguments the tensors that they would derive from ``grid_thw``
(``transformers.vision_utils``). Computed for the full grid and gathered at the kept patches, those tensors make
the tower encode the kept patches where they stand, as if the others had never been there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

from ..models.registry import Family


def tower_inputs(tower: Any, family: Family, grid_thw: Tensor, kept: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors that place kept patches in the full grid.

    Args:
        tower: the model's vision tower.
        family: its entry in the registry.
        grid_thw: int64 ``(images, 3)``, the full grids in patches, on the tower's device.
        kept: per image an int64 tensor of flat block indices, ascending, on the tower's device.

    Returns:
        Keyword arguments of the tower: ``position_ids (P, 2)`` and ``cu_seqlens (images + 1,)`` for the P kept
        patches, with ``interp_indices``, ``interp_weights (P, taps)`` or ``window_index (P / merge**2,)``,
        ``cu_window_seqlens`` where the family has them.
    """
    config = tower.config
    merge = int(config.spatial_merge_size)
    unit = merge * merge
    device = grid_thw.device
    blocks = grid_thw.prod(-1) // unit
    offsets = F.pad(blocks.cumsum(0), (1, 0))
    kept_blocks = torch.cat([indices + offset for indices, offset in zip(kept, offsets[:-1], strict=True)])
    kept_patches = (kept_blocks[:, None] * unit + torch.arange(unit, device=device)).flatten()
    counts = torch.tensor([len(indices) * unit for indices in kept], device=device)

    inputs: dict[str, Tensor] = {
        "position_ids": get_vision_position_ids(grid_thw, merge)[kept_patches],
        "cu_seqlens": F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0)),
    }
    if family.interpolated:
        indices, weights = get_vision_interpolation_indices_and_weights(
            grid_thw,
            num_grid_per_side=tower.num_grid_per_side,
            mode=tower.interpolation_mode,
            align_corners=tower.interpolation_align_corners,
            spatial_merge_size=merge,
        )
        inputs["interp_indices"] = indices[kept_patches]
        inputs["interp_weights"] = weights[kept_patches]
    if family.windowed:
        order, bounds = get_vision_window_index(grid_thw, merge, tower.window_size, config.patch_size)
        inputs["window_index"], inputs["cu_window_seqlens"] = _kept_windows(
            order.to(device), bounds.to(device), kept_blocks, int(offsets[-1]), unit
        )
    return inputs


def _kept_windows(order: Tensor, bounds: Tensor, kept_blocks: Tensor, total: int, unit: int) -> tuple[Tensor, Tensor]:
    """Drop pruned blocks from the window order, renumber the rest, and drop windows left empty."""
    keep = torch.zeros(total, dtype=torch.bool, device=order.device)
    keep[kept_blocks] = True
    rank = keep.cumsum(0) - 1
    kept_in_order = keep[order]
    filled = F.pad(kept_in_order.cumsum(0), (1, 0))[(bounds // unit).long()] * unit
    return rank[order[kept_in_order]], torch.unique_consecutive(filled).to(torch.int32)


def encode_kept(tower: Any, family: Family, pixel_values: Tensor, grid_thw: Tensor, kept: Sequence[Tensor]) -> Any:
    """Encode kept patches.

    Args:
        pixel_values: ``(P, values)``: kept patches only, images one after the other.
        grid_thw, kept: as for :func:`tower_inputs`, on any device.

    Returns:
        The tower's output with ``pooler_output`` a tuple of one ``(num_kept, hidden)`` tensor per image and, where
        the family has them, ``deepstack_features`` a list of such tuples: what the model takes as
        ``mm_encoder_outputs["image"]``.
    """
    parameter = next(tower.parameters())
    # Weights that accelerate has offloaded are on the meta device between calls; inputs are where they run.
    device = pixel_values.device if parameter.is_meta else parameter.device
    grid_thw = grid_thw.to(device)
    kept = [indices.to(device) for indices in kept]
    output = tower(
        pixel_values.to(device, getattr(tower, "dtype", parameter.dtype)),
        grid_thw=grid_thw,
        return_dict=True,
        **tower_inputs(tower, family, grid_thw, kept),
    )
    sizes = [len(indices) for indices in kept]
    output.pooler_output = torch.split(output.pooler_output, sizes)
    if getattr(output, "deepstack_features", None) is not None:
        output.deepstack_features = [torch.split(features, sizes) for features in output.deepstack_features]
    return output
