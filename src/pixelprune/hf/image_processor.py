"""A stock image processor that selects first, then normalises and lays out only the kept blocks."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BatchFeature

from ..core.config import PruneConfig
from ..core.preprocess import ImageSelection
from ..errors import ImageError
from ..models.image_processor import SelectingImageProcessor, selecting

#: Key under which the selections travel from the image processor to the processor, which removes it.
SELECTIONS = "pixelprune_selections"


@dataclass
class Call:
    """What a call of the processor says of its images.

    Attributes:
        config: the settings of this call; ``None`` prunes nothing.
        images_per_row: how many images each text has, once they are counted.
    """

    config: PruneConfig | None
    images_per_row: list[int] | None = None


#: The call under way. A context variable, since a processor is shared by threads and its stock code in between takes no
#: arguments of ours.
CALL: ContextVar[Call | None] = ContextVar("pixelprune_call", default=None)


class PrunedImageProcessor(SelectingImageProcessor):
    """Mixin over a stock image processor class, see :func:`pruned_image_processor`."""

    def _preprocess(self, images: Any, **kwargs: Any) -> BatchFeature:
        """Replaces the stock method of the same name; ``images`` are prepared by the stock one before it."""
        patch, merge = kwargs["patch_size"], kwargs["merge_size"]
        if not images:
            raise ImageError("no images in the list; leave images out for texts alone")
        if (patch, merge) != (self.patch_size, self.merge_size):  # type: ignore[attr-defined]
            raise ImageError(
                f"patch_size and merge_size are the model's, {self.patch_size} and {self.merge_size}; "  # type: ignore[attr-defined]
                f"got {patch} and {merge} for this call"
            )
        call = CALL.get()
        config = self.prune if call is None else call.config
        if config is None:
            batch: BatchFeature = super()._preprocess(images, **kwargs)  # type: ignore[misc]
            batch[SELECTIONS] = [
                ImageSelection.of_whole(int(rows) // merge, int(cols) // merge, patch * merge)
                for _, rows, cols in batch["image_grid_thw"]
            ]
            return batch
        chosen, rows = self.select_and_lay_out(images, kwargs, config, None if call is None else call.images_per_row)
        patches = [torch.as_tensor(patches) for patches in rows]
        grids = [[1, *(side * merge for side in one.selection.grid)] for one in chosen]
        data: dict[str, Any] = {
            "pixel_values": patches[0] if len(patches) == 1 else torch.cat(patches),
            "image_grid_thw": torch.tensor(grids),
        }
        if self.backend == "pil":  # type: ignore[attr-defined]
            data = {name: tensor.numpy() for name, tensor in data.items()}
        batch = BatchFeature(data=data, tensor_type=kwargs.get("return_tensors"))
        batch[SELECTIONS] = chosen
        return batch


def pruned_image_processor(stock: Any, config: PruneConfig | None) -> Any:
    """A copy of a stock image processor that prunes.

    Args:
        stock: an image processor of a supported family, such as ``Qwen2VLImageProcessor`` (torchvision) or
            ``Qwen2VLImageProcessorPil``.
        config: the settings; ``None`` prunes nothing, with the stock code.

    Returns:
        An image processor of a subclass of the stock class. Its ``pixel_values`` hold the stock processor's rows
        for kept patches only, ``image_grid_thw`` the full grid, and the key ``pixelprune_selections`` one
        :class:`ImageSelection` per image.
    """
    return selecting(PrunedImageProcessor, stock, config)
