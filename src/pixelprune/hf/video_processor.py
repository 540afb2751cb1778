"""A stock Qwen video processor that selects on two-frame blocks, then normalises and lays out only the kept ones.

Frames that share their tokens (``temporal_patch_size``) are one image of as many times the channels; those of a video
are a sequence, in which ``references`` apply.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from transformers import BatchFeature
from transformers.utils import import_utils

from ..core.preprocess import ImageSelection, prepare
from ..errors import ConfigError, ImageError, PrunedInputError
from ..models.family import Family
from ..models.image_processor import level_table, selecting
from .image_processor import CALL

#: Key under which the selections travel from the video processor to the processor, which removes it.
VIDEO_SELECTIONS = "pixelprune_video_selections"


class PrunedVideoProcessor:
    """Mixin over a stock Qwen2-VL-style video processor class, see :func:`pruned_video_processor`."""

    def _preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Replaces the stock method of the same name; ``videos`` are decoded and sampled by the stock one before it."""
        call = CALL.get()
        if call is None:
            raise ConfigError("videos are pruned by a call of the processor, with text, and not of its parts")
        patch, merge, frames = (kwargs[name] for name in ("patch_size", "merge_size", "temporal_patch_size"))
        stock: Any = super()
        if call.config is None:
            batch: BatchFeature = stock._preprocess(videos, **kwargs)
            batch[VIDEO_SELECTIONS] = [
                [ImageSelection.of_whole(int(rows) // merge, int(cols) // merge, patch * merge)] * int(times)
                for times, rows, cols in batch["video_grid_thw"]
            ]
            return batch
        # The stock class resizes, repeats a last odd frame and lays out, but leaves 8-bit levels as they are.
        levels = stock._preprocess(
            videos, **{**kwargs, "do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
        )
        patches, grids = levels["pixel_values_videos"], levels["video_grid_thw"]
        if patches.dtype != torch.uint8:
            raise ImageError(
                f"videos must be 8-bit to be pruned; got {patches.dtype}. Convert values in 0..1 with "
                f"(video * 255).round().to(torch.uint8)"
            )
        table = np.repeat(level_table(self, patches.shape[1] // (frames * patch**2), kwargs), frames, axis=0)
        chosen, rows = [], []
        sizes = {"patch_size": patch, "merge_size": merge, "temporal_patch_size": 1}
        for video, grid in zip(torch.split(patches, grids.prod(-1).tolist()), grids.tolist(), strict=True):
            images = _frames_as_images(video, grid, patch, merge)
            prepared = list(prepare([(image, table) for image in images], call.config, **sizes))
            chosen.append([selection for selection, _ in prepared])
            rows += [torch.as_tensor(part) for _, part in prepared]
        batch = BatchFeature(
            {"pixel_values_videos": torch.cat(rows), "video_grid_thw": grids}, tensor_type=kwargs.get("return_tensors")
        )
        batch[VIDEO_SELECTIONS] = chosen
        return batch


def _frames_as_images(patches: Tensor, grid: list[int], patch: int, merge: int) -> list[NDArray[np.uint8] | Tensor]:
    """uint8 ``(H, W, C * frames)`` for each step of a video's grid, from its rows of patches."""
    times, height, width = grid
    values = patches.reshape(times, height // merge, width // merge, merge, merge, -1, patch, patch)
    pixels = values.permute(0, 1, 3, 6, 2, 4, 7, 5).reshape(times, height * patch, width * patch, -1)
    return list(pixels.numpy() if pixels.device.type == "cpu" else pixels)


def pruned_video_processor(family: Family, settings: dict[str, Any] | None, overrides: dict[str, Any]) -> Any:
    """The video processor of a model, made to prune.

    Args:
        family: the model's family.
        settings: of its stock video processor; ``None`` if it has none.
        overrides: settings that take their place.

    Raises:
        PrunedInputError: the family's videos are not pruned, the model has no video processor, or torchvision, which
            all of them need, is missing.
    """
    if not family.video_processor:
        raise PrunedInputError(
            f"videos of {family.name} are not pruned; process rows with videos with the stock {family.processor}"
        )
    if settings is None:
        raise PrunedInputError("this model comes without settings of a video processor; pass images and text only")
    if not import_utils.is_torchvision_available():
        raise PrunedInputError("videos need torchvision, which is not installed: pip install torchvision")
    stock_class: Any = getattr(transformers, family.video_processor)
    stock = stock_class.from_dict({**settings, **{k: v for k, v in overrides.items() if hasattr(stock_class, k)}})
    return selecting(PrunedVideoProcessor, stock, None)
