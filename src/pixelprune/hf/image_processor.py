"""A stock Qwen image processor that selects first, then normalises and lays out only the kept blocks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BatchFeature

from ..core.config import PruneConfig
from ..core.layout import kept_patches
from ..core.select import select
from ..core.selection import Selection
from ..errors import ImageError, UnsupportedModelError

#: Key under which the selections travel from the image processor to the processor, which removes it.
SELECTIONS = "pixelprune_selections"


@dataclass(frozen=True)
class ImageReport:
    """What happened to one image.

    Attributes:
        total, kept: blocks (tokens of the language model) before and after.
        retain_ratio: kept / total.
        method: the rule; ``none`` where nothing was to be pruned.
        threshold: the threshold used, on the 0..1 scale (found by the search if ``max_tokens`` was set).
        selection_ms: wall time of the selection in milliseconds.
    """

    total: int
    kept: int
    retain_ratio: float
    method: str
    threshold: float
    selection_ms: float


@dataclass(frozen=True)
class ImageSelection:
    """One image's selection and its report."""

    selection: Selection
    report: ImageReport


class PrunedImageProcessor:
    """Mixin over a stock Qwen2-VL-style image processor class, see :func:`pruned_image_processor`."""

    prune: PruneConfig | None

    def _preprocess(self, images: Any, **kwargs: Any) -> BatchFeature:
        """Replaces the stock method of the same name; ``images`` are prepared by the stock one before it."""
        patch, merge, temporal = kwargs["patch_size"], kwargs["merge_size"], kwargs["temporal_patch_size"]
        if not images:
            raise ImageError("no images in the list; leave images out for texts alone")
        if (patch, merge) != (self.patch_size, self.merge_size):  # type: ignore[attr-defined]
            raise ImageError(
                f"patch_size and merge_size are the model's, {self.patch_size} and {self.merge_size}; "  # type: ignore[attr-defined]
                f"got {patch} and {merge} for this call"
            )
        if self.prune is None:
            batch: BatchFeature = super()._preprocess(images, **kwargs)  # type: ignore[misc]
            batch[SELECTIONS] = [
                _whole(int(rows), int(cols), patch, merge) for _, rows, cols in batch["image_grid_thw"]
            ]
            return batch
        patches, grids, selections = [], [], []
        for image in images:
            if kwargs["do_resize"]:
                image = _resize(self, image, kwargs["size"], kwargs["resample"], patch * merge)
            pixels = _channels_last(image)
            chosen = _select(pixels, self.prune, patch * merge)
            indices = chosen.selection.kept_indices
            table = _level_table(self, pixels.shape[2], kwargs)
            layout = {"patch_size": patch, "merge_size": merge, "temporal_patch_size": temporal}
            if isinstance(pixels, np.ndarray):
                patches.append(torch.from_numpy(kept_patches(pixels, indices, table, **layout)))
            else:
                patches.append(_kept_patches_on_device(pixels, indices, table, **layout))
            grids.append([1, pixels.shape[0] // patch, pixels.shape[1] // patch])
            selections.append(chosen)
        values = patches[0] if len(patches) == 1 else torch.cat(patches)
        data: dict[str, Any] = {"pixel_values": values, "image_grid_thw": torch.tensor(grids)}
        if self.backend == "pil":  # type: ignore[attr-defined]
            data = {name: tensor.numpy() for name, tensor in data.items()}
        batch = BatchFeature(data=data, tensor_type=kwargs.get("return_tensors"))
        batch[SELECTIONS] = selections
        return batch

    def to_dict(self) -> dict[str, Any]:
        """As the stock one: what is saved loads as the stock image processor."""
        settings: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        settings.pop("prune", None)
        return settings

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self).__mro__[2],), self.__dict__


def pruned_image_processor(stock: Any, config: PruneConfig | None) -> Any:
    """A copy of a stock image processor that prunes.

    Args:
        stock: a ``Qwen2VLImageProcessor`` (torchvision) or ``Qwen2VLImageProcessorPil``, which all Qwen families use.
        config: the settings; ``None`` prunes nothing, with the stock code.

    Returns:
        An image processor of a subclass of the stock class. Its ``pixel_values`` hold the stock processor's rows
        for kept patches only, ``image_grid_thw`` the full grid, and the key ``pixelprune_selections`` one
        :class:`ImageSelection` per image.
    """
    processor = _restore(type(stock))
    processor.__dict__.update(stock.__dict__)
    processor.prune = config
    return processor


def _restore(stock_class: type) -> Any:
    cls: Any = _pruned_class(stock_class)
    return cls.__new__(cls)


@cache
def _pruned_class(stock_class: type) -> type:
    if not hasattr(stock_class, "_preprocess") or not hasattr(stock_class, "patchify"):
        raise UnsupportedModelError(
            f"the image processor must be of the Qwen2-VL kind, with a patchify method; got {stock_class.__name__}"
        )
    # Under the stock name, so that what it saves loads with the stock class.
    return type(stock_class.__name__, (PrunedImageProcessor, stock_class), {"__module__": __name__})


def _select(pixels: Any, prune: PruneConfig, block_size: int) -> ImageSelection:
    start = time.perf_counter()
    selection = select(pixels, prune, block_size=block_size)
    elapsed = (time.perf_counter() - start) * 1e3
    # The level was searched for if there is a budget; otherwise say what was asked for.
    threshold = float(prune.threshold) if prune.max_tokens is None else selection.level / 255
    report = ImageReport(
        selection.num_blocks, selection.num_kept, selection.retain_ratio, prune.method, threshold, elapsed
    )
    return ImageSelection(selection, report)


def _whole(rows: int, cols: int, patch: int, merge: int) -> ImageSelection:
    """Every block of a grid of rows x cols patches."""
    total = rows * cols // merge**2
    source = np.arange(total, dtype=np.int32).reshape(rows // merge, cols // merge)
    return ImageSelection(Selection(source, patch * merge), ImageReport(total, total, 1.0, "none", 0.0, 0.0))


def _resize(processor: Any, image: Any, size: Any, resample: Any, factor: int) -> Any:
    """The stock class's own resize; the torchvision kind takes a batch."""
    if isinstance(image, np.ndarray):
        return processor.resize(image, size=size, resample=resample, factor=factor)
    return processor.resize(images=image[None], size=size, resample=resample, factor=factor)[0]


def _channels_last(image: Any) -> NDArray[np.uint8] | Tensor:
    """uint8 ``(H, W, C)`` from the stock processors' channels-first images; numpy unless it lies on another device."""
    if str(image.dtype).removeprefix("torch.") != "uint8":
        raise ImageError(
            f"images must be 8-bit to be pruned (PIL images or uint8 arrays); got {image.dtype}. "
            f"Convert values in 0..1 with (image * 255).round().astype('uint8')"
        )
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(np.moveaxis(image, 0, -1))
    image = image.permute(1, 2, 0).contiguous()
    return np.asarray(image.numpy()) if image.device.type == "cpu" else image


def _level_table(processor: Any, channels: int, kwargs: dict[str, Any]) -> NDArray[np.float32]:
    """float32 ``(C, 256)``: what the stock processor makes of each 8-bit level, by its own arithmetic."""
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8), (channels, 1, 256))
    if processor.backend == "torchvision":
        table = processor.rescale_and_normalize(
            torch.from_numpy(levels.copy())[None],
            kwargs["do_rescale"],
            kwargs["rescale_factor"],
            kwargs["do_normalize"],
            kwargs["image_mean"],
            kwargs["image_std"],
        )[0].numpy()
    else:
        table = levels
        if kwargs["do_rescale"]:
            table = processor.rescale(table, kwargs["rescale_factor"])
        if kwargs["do_normalize"]:
            table = processor.normalize(table, kwargs["image_mean"], kwargs["image_std"])
    return np.ascontiguousarray(table.reshape(channels, 256), dtype=np.float32)


def _kept_patches_on_device(
    image: Tensor,
    kept_indices: NDArray[np.int32],
    table: NDArray[np.float32],
    *,
    patch_size: int,
    merge_size: int,
    temporal_patch_size: int,
) -> Tensor:
    """:func:`pixelprune.core.layout.kept_patches` for an image on another device, with torch."""
    side = patch_size * merge_size
    rows, cols, channels = image.shape[0] // side, image.shape[1] // side, image.shape[2]
    shape = (rows, merge_size, patch_size, cols, merge_size, patch_size, channels)
    blocks = image.reshape(shape).permute(0, 3, 1, 4, 6, 2, 5).reshape(rows * cols, merge_size**2, channels, -1)
    blocks = blocks[torch.from_numpy(kept_indices).long().to(image.device)]
    levels = blocks.long() + torch.arange(channels, device=image.device)[:, None] * 256
    values = torch.from_numpy(table).to(image.device).flatten()[levels]
    values = values.unsqueeze(3).expand(-1, -1, -1, temporal_patch_size, -1)
    return values.reshape(len(kept_indices) * merge_size**2, -1)
