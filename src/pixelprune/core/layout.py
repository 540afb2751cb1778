"""Lay out kept blocks as a vision tower's patches: normalise, reorder and repeat in one pass, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .jit import jit


@jit
def _gather(image, kept, table, patch, merge, temporal, out):  # type: ignore[no-untyped-def]
    channels = image.shape[2]
    side = patch * merge
    cols = image.shape[1] // side
    area = patch * patch
    for k in range(kept.size):
        top, left = kept[k] // cols * side, kept[k] % cols * side
        for m in range(merge * merge):
            row = out[k * merge * merge + m]
            y0, x0 = top + m // merge * patch, left + m % merge * patch
            for c in range(channels):
                start = c * temporal * area
                levels = table[c]
                for y in range(patch):
                    line = image[y0 + y, x0 : x0 + patch]
                    target = row[start + y * patch : start + (y + 1) * patch]
                    for x in range(patch):
                        target[x] = levels[line[x, c]]
                for t in range(1, temporal):
                    row[start + t * area : start + (t + 1) * area] = row[start : start + area]


def kept_patches(
    image: NDArray[np.uint8],
    kept_indices: NDArray[np.int32],
    table: NDArray[np.float32] | NDArray[np.uint8],
    *,
    patch_size: int,
    merge_size: int,
    temporal_patch_size: int,
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """The rows of Qwen-style ``pixel_values`` that belong to kept blocks.

    Args:
        image: uint8 ``(H, W, C)``, resized.
        kept_indices: int32 ``(num_kept,)``, flat row-major block indices.
        table: float32 ``(C, 256)``: the normalised value of each 8-bit level, per channel; or uint8, where the model
            normalises for itself.
        patch_size: side of a ViT patch in pixels.
        merge_size: side of a block in patches.
        temporal_patch_size: how often a still image is repeated in time.

    Returns:
        of the table's type, ``(num_kept * merge_size**2, C * temporal_patch_size * patch_size**2)``: for each kept
        block its ``merge_size**2`` patches in row-major order; in a patch channel, time, row, column.
    """
    channels = image.shape[2]
    if table.shape != (channels, 256):
        raise ImageError(f"the table must be (channels, 256) = ({channels}, 256); got {table.shape}")
    values = channels * temporal_patch_size * patch_size**2
    out = np.empty((kept_indices.size * merge_size**2, values), table.dtype)
    pixels = np.ascontiguousarray(image).view()
    kept = np.ascontiguousarray(kept_indices).view()
    pixels.flags.writeable = kept.flags.writeable = False  # one compiled variant serves read-only and writable arrays
    _gather(pixels, kept, table, patch_size, merge_size, temporal_patch_size, out)
    return out
