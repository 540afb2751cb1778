"""Encode kept patches with an unmodified vision tower.

Towers of transformers take as keyword arguments the tensors that they would derive from ``grid_thw``
(``transformers.vision_utils``). Computed for the full grid and gathered at the kept patches, those tensors make
the tower encode the kept patches where they stand, as if the others had never been there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

from ..core.geometry import joined_blocks, kept_windows, rows_of_blocks, sequence_bounds
from ..models.family import Family

Indices = NDArray[np.integer]


def tower_inputs(tower: Any, family: Family, grid_thw: Tensor, kept: Sequence[Indices]) -> dict[str, Tensor]:
    """The tensors that place kept patches in the full grid.

    Args:
        tower: the model's vision tower.
        family: its entry in the registry.
        grid_thw: int64 ``(images, 3)``, the full grids in patches, on the tower's device.
        kept: per image an array of flat block indices, ascending.

    Returns:
        Keyword arguments of the tower: ``position_ids (P, 2)`` and ``cu_seqlens (images + 1,)`` for the P kept
        patches, with ``interp_indices``, ``interp_weights (P, taps)`` or ``window_index (P / merge**2,)``,
        ``cu_window_seqlens`` where the family has them.
    """
    config, device = tower.config, grid_thw.device
    merge = int(config.spatial_merge_size)
    unit = merge * merge
    blocks = (grid_thw.prod(-1) // unit).tolist()
    kept_blocks = joined_blocks(kept, blocks)
    at = torch.from_numpy(rows_of_blocks(kept_blocks, unit)).to(device)
    bounds = sequence_bounds([len(indices) for indices in kept], unit)
    inputs: dict[str, Tensor] = {
        "position_ids": get_vision_position_ids(grid_thw, merge)[at],
        "cu_seqlens": torch.from_numpy(bounds).to(device),
    }
    if family.interpolated:
        indices, weights = get_vision_interpolation_indices_and_weights(
            grid_thw,
            num_grid_per_side=tower.num_grid_per_side,
            mode=tower.interpolation_mode,
            align_corners=tower.interpolation_align_corners,
            spatial_merge_size=merge,
        )
        inputs["interp_indices"] = indices[at]
        inputs["interp_weights"] = weights[at]
    if family.windowed:
        order, ends = get_vision_window_index(grid_thw, merge, tower.window_size, config.patch_size)
        window_index, window_bounds = kept_windows(order.cpu().numpy(), ends.cpu().numpy(), kept_blocks, unit)
        inputs["window_index"] = torch.from_numpy(window_index).to(device)
        inputs["cu_window_seqlens"] = torch.from_numpy(window_bounds).to(device)
    return inputs


def encode_kept(tower: Any, family: Family, pixel_values: Tensor, grid_thw: Tensor, kept: Sequence[Indices]) -> Any:
    """Encode kept patches.

    Args:
        pixel_values: ``(P, values)``: kept patches only, images one after the other.
        grid_thw, kept: as for :func:`tower_inputs`, the grid on any device.

    Returns:
        The tower's output with ``pooler_output`` a tuple of one ``(num_kept, hidden)`` tensor per image and, where
        the family has them, ``deepstack_features`` a list of such tuples: what the model takes as
        ``mm_encoder_outputs["image"]``.
    """
    parameter = next(tower.parameters())
    # Weights that accelerate has offloaded are on the meta device between calls; inputs are where they run.
    device = pixel_values.device if parameter.is_meta else parameter.device
    grid_thw = grid_thw.to(device)
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
