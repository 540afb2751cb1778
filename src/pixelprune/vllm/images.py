"""A stock image processor that selects on the resized image, then lays out only the kept blocks."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import BatchFeature

from ..core.config import PruneConfig
from ..core.preprocess import ImageReport
from ..models.image_processor import SelectingImageProcessor, selecting
from .rows import Row

#: Fields that travel with ``pixel_values``: flat indices of kept blocks, image after image, and how many per image.
KEPT = "pixelprune_kept"
COUNTS = "pixelprune_counts"


class PrunedImageProcessor(SelectingImageProcessor):
    """Mixin over the stock image processor class (torchvision's kind), see :func:`pruned_image_processor`."""

    row: Row | None
    reports: list[ImageReport]
    takes_levels: ClassVar[bool] = True  # vLLM's models can normalise on their device

    def preprocess(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """As the stock method. Where they are a part of a request's images, those that they may refer to are added."""
        result: BatchFeature = super().preprocess(self.row.images if self.row else images, *args, **kwargs)  # type: ignore[misc]
        return result

    def _preprocess(self, images: list[torch.Tensor], **kwargs: Any) -> BatchFeature:
        """Replaces the stock method of the same name, which gets uint8 ``(C, H, W)`` tensors."""
        assert self.prune is not None
        chosen, rows = self.select_and_lay_out(
            [image.cpu() for image in images],
            kwargs,
            self.prune,
            images_per_row=[len(images)],
            wanted=self.row.wanted if self.row else None,
        )
        self.reports += [one.report for one in chosen]
        merge = kwargs["merge_size"]
        kept = [torch.tensor(one.kept_indices) for one in chosen]
        data = {
            "pixel_values": torch.cat([torch.as_tensor(patches) for patches in rows]),
            "image_grid_thw": torch.tensor([[1, *(side * merge for side in one.selection.grid)] for one in chosen]),
            KEPT: torch.cat(kept),
            COUNTS: torch.tensor([len(indices) for indices in kept]),
        }
        return BatchFeature(data=data, tensor_type=kwargs.get("return_tensors"))


def pruned_image_processor(stock: Any, prune: PruneConfig, row: Row | None = None) -> Any:
    """A copy of a stock image processor that prunes.

    Args:
        stock: a ``Qwen2VLImageProcessor``, which all the families use.
        prune: the settings.
        row: where the images of a call are not all of their request's: these, and those that they may refer to.

    Returns:
        An image processor of a subclass of the stock class. Its ``pixel_values`` hold the stock processor's rows for
        kept patches only, ``image_grid_thw`` the full grid; two keys are added, int32 :data:`KEPT` ``(sum of kept,)``
        and int64 :data:`COUNTS` ``(images,)``. Its ``reports`` has an entry per image.
    """
    processor = selecting(PrunedImageProcessor, stock, prune)
    processor.row = row
    processor.reports = []
    return processor
