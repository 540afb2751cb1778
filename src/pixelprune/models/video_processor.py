"""The stock video processor of a Qwen model in transformers, made to select first: what both engines build on.

Frames that share their tokens (``temporal_patch_size``) are one image of as many times the channels; those of a video
are a sequence, in which ``references`` apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.config import PruneConfig
from ..core.preprocess import ImageSelection, prepare
from ..errors import ImageError
from .image_processor import level_table

if TYPE_CHECKING:
    from torch import Tensor


class SelectingVideoProcessor:
    """Mixin over a stock Qwen2-VL-style video processor class, which needs torchvision."""

    def select_and_lay_out(
        self, videos: Any, kwargs: dict[str, Any], config: PruneConfig
    ) -> tuple[list[list[ImageSelection]], Tensor, Tensor]:
        """Prepare videos as ``_preprocess`` of the stock class does, but only the kept blocks of each.

        Args:
            videos: uint8 ``(frames, C, H, W)``, tensors, as the stock class hands them to ``_preprocess``.
            kwargs: the keyword arguments of ``_preprocess``.
            config: the settings.

        Returns:
            Per video and step of its grid what is kept; the rows of ``pixel_values_videos``; and ``video_grid_thw``.

        Raises:
            ImageError: a video is not 8-bit.
        """
        import torch

        patch, merge, frames = (kwargs[name] for name in ("patch_size", "merge_size", "temporal_patch_size"))
        # The stock class resizes, repeats a last odd frame and lays out, but leaves 8-bit levels as they are.
        as_levels = {**kwargs, "do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
        levels = super()._preprocess(videos, **as_levels)  # type: ignore[misc]
        patches, grids = levels["pixel_values_videos"], levels["video_grid_thw"]
        if patches.dtype != torch.uint8:
            raise ImageError(
                f"videos must be 8-bit to be pruned; got {patches.dtype}. Convert values in 0..1 with "
                f"(video * 255).round().to(torch.uint8)"
            )
        table = np.repeat(level_table(self, patches.shape[1] // (frames * patch**2), kwargs), frames, axis=0)
        sizes = {"patch_size": patch, "merge_size": merge, "temporal_patch_size": 1}
        chosen, rows = [], []
        for video, grid in zip(torch.split(patches, grids.prod(-1).tolist()), grids.tolist(), strict=True):
            images = _frames_as_images(video, grid, patch, merge)
            prepared = list(prepare([(image, table) for image in images], config, **sizes))
            chosen.append([selection for selection, _ in prepared])
            rows += [torch.as_tensor(part) for _, part in prepared]
        return chosen, torch.cat(rows), grids


def _frames_as_images(patches: Tensor, grid: list[int], patch: int, merge: int) -> list[NDArray[np.uint8] | Tensor]:
    """uint8 ``(H, W, C * frames)`` for each step of a video's grid, from its rows of patches."""
    times, height, width = grid
    values = patches.reshape(times, height // merge, width // merge, merge, merge, -1, patch, patch)
    pixels = values.permute(0, 1, 3, 6, 2, 4, 7, 5).reshape(times, height * patch, width * patch, -1)
    return list(pixels.numpy() if pixels.device.type == "cpu" else pixels)
