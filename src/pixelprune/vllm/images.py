"""A stock image processor that selects on the resized image, then lays out only the kept blocks."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from ..core.config import PruneConfig
from ..core.select import select
from ..errors import ImageError

#: Fields that travel with ``pixel_values``: flat indices of kept blocks, image after image, and how many per image.
KEPT = "pixelprune_kept"
COUNTS = "pixelprune_counts"


@dataclass(frozen=True)
class ImageReport:
    """What happened to one image: its blocks before and after, and the wall time of the selection in milliseconds."""

    total: int
    kept: int
    selection_ms: float


class PrunedImageProcessor:
    """Mixin over the stock image processor class (torchvision's kind), see :func:`pruned_image_processor`."""

    prune: PruneConfig
    reports: list[ImageReport]

    def _preprocess(self, images: list[torch.Tensor], **kwargs: Any) -> BatchFeature:
        """Replaces the stock method of the same name, which gets uint8 ``(C, H, W)`` tensors."""
        # Not at the top: vLLM's CPU workers cannot start where numba is loaded, and they import this module too.
        from ..core.layout import kept_patches

        patch, merge = kwargs["patch_size"], kwargs["merge_size"]
        values, grids, kept = [], [], []
        for image in images:
            if image.dtype != torch.uint8:
                raise ImageError(f"images must be 8-bit to be pruned (PIL images or uint8 arrays); got {image.dtype}")
            if kwargs["do_resize"]:
                image = self.resize(  # type: ignore[attr-defined]
                    images=image[None], size=kwargs["size"], resample=kwargs["resample"], factor=patch * merge
                )[0]
            pixels = image.permute(1, 2, 0).contiguous().cpu().numpy()
            start = time.perf_counter()
            selection = select(pixels, self.prune, block_size=patch * merge)
            elapsed = (time.perf_counter() - start) * 1e3
            self.reports.append(ImageReport(selection.num_blocks, selection.num_kept, elapsed))
            table = self._level_table(pixels.shape[2], kwargs)
            layout = {"patch_size": patch, "merge_size": merge, "temporal_patch_size": kwargs["temporal_patch_size"]}
            values.append(torch.from_numpy(kept_patches(pixels, selection.kept_indices, table, **layout)))
            grids.append([1, pixels.shape[0] // patch, pixels.shape[1] // patch])
            kept.append(torch.from_numpy(selection.kept_indices))
        data = {
            "pixel_values": torch.cat(values),
            "image_grid_thw": torch.tensor(grids),
            KEPT: torch.cat(kept),
            COUNTS: torch.tensor([len(indices) for indices in kept]),
        }
        return BatchFeature(data=data, tensor_type=kwargs.get("return_tensors"))

    def _level_table(self, channels: int, kwargs: dict[str, Any]) -> np.ndarray[Any, Any]:
        """``(C, 256)``: what the stock processor makes of each 8-bit level, by its own arithmetic: float32, or uint8
        where the model normalises on its device."""
        levels = torch.arange(256, dtype=torch.uint8).expand(1, channels, 1, 256)
        table = self.rescale_and_normalize(  # type: ignore[attr-defined]
            levels.contiguous(),
            kwargs["do_rescale"],
            kwargs["rescale_factor"],
            kwargs["do_normalize"],
            kwargs["image_mean"],
            kwargs["image_std"],
        )
        return np.ascontiguousarray(table.reshape(channels, 256).numpy())


def pruned_image_processor(stock: Any, prune: PruneConfig) -> Any:
    """A copy of a stock image processor that prunes.

    Args:
        stock: a ``Qwen2VLImageProcessor``, which all the families use.
        prune: the settings.

    Returns:
        An image processor of a subclass of the stock class. Its ``pixel_values`` hold the stock processor's rows for
        kept patches only, ``image_grid_thw`` the full grid; two keys are added, int32 :data:`KEPT` ``(sum of kept,)``
        and int64 :data:`COUNTS` ``(images,)``. Its ``reports`` has an entry per image.
    """
    processor = copy.copy(stock)
    stock_class: Any = type(stock)
    processor.__class__ = _pruned_class(stock_class)
    processor.prune = prune
    processor.reports = []
    return processor


@cache
def _pruned_class(stock_class: type) -> type:
    return type(stock_class.__name__, (PrunedImageProcessor, stock_class), {"__module__": __name__})
