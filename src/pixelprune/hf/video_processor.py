"""A stock Qwen video processor that selects first, then normalises and lays out only the kept blocks."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import BatchFeature
from transformers.utils import import_utils

from ..core.preprocess import ImageSelection
from ..errors import ConfigError, PrunedInputError
from ..models.family import Family
from ..models.image_processor import selecting
from ..models.video_processor import SelectingVideoProcessor
from .image_processor import CALL

#: Key under which the selections travel from the video processor to the processor, which removes it.
VIDEO_SELECTIONS = "pixelprune_video_selections"


class PrunedVideoProcessor(SelectingVideoProcessor):
    """Mixin over a stock Qwen2-VL-style video processor class, see :func:`pruned_video_processor`."""

    def _preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Replaces the stock method of the same name; ``videos`` are decoded and sampled by the stock one before it."""
        call = CALL.get()
        if call is None:
            raise ConfigError("videos are pruned by a call of the processor, with text, and not of its parts")
        if call.config is None:
            merge, block_size = kwargs["merge_size"], kwargs["patch_size"] * kwargs["merge_size"]
            batch: BatchFeature = super()._preprocess(videos, **kwargs)  # type: ignore[misc]
            batch[VIDEO_SELECTIONS] = [
                [ImageSelection.of_whole(int(rows) // merge, int(cols) // merge, block_size)] * int(times)
                for times, rows, cols in batch["video_grid_thw"]
            ]
            return batch
        chosen, rows, grids = self.select_and_lay_out(videos, kwargs, call.config)
        batch = BatchFeature(
            {"pixel_values_videos": rows, "video_grid_thw": grids}, tensor_type=kwargs.get("return_tensors")
        )
        batch[VIDEO_SELECTIONS] = chosen
        return batch


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
