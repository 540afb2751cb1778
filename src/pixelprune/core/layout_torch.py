"""Lay out kept blocks of an image that lies on a device: the twin of :mod:`.layout` in torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def kept_patches_on_device(
    image: Tensor,
    kept_indices: NDArray[np.int32],
    table: NDArray[np.float32] | NDArray[np.uint8],
    *,
    patch_size: int,
    merge_size: int,
    temporal_patch_size: int,
) -> Tensor:
    """:func:`pixelprune.core.layout.kept_patches` for a uint8 tensor ``(H, W, C)``, where it lies."""
    side = patch_size * merge_size
    rows, cols, channels = image.shape[0] // side, image.shape[1] // side, image.shape[2]
    shape = (rows, merge_size, patch_size, cols, merge_size, patch_size, channels)
    blocks = image.reshape(shape).permute(0, 3, 1, 4, 6, 2, 5).reshape(rows * cols, merge_size**2, channels, -1)
    blocks = blocks[torch.tensor(kept_indices, dtype=torch.long, device=image.device)]
    levels = blocks.long() + torch.arange(channels, device=image.device)[:, None] * 256
    values = torch.from_numpy(table).to(image.device).flatten()[levels]
    values = values.unsqueeze(3).expand(-1, -1, -1, temporal_patch_size, -1)
    return values.reshape(len(kept_indices) * merge_size**2, -1)
