"""The stock image processor of a model in transformers, made to select first: what both engines build on.

Only what is the stock class's own is called here: its resize and its arithmetic from an 8-bit level to a value.
Selection and layout are the core's.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..core.config import PruneConfig
from ..core.preprocess import ImageSelection, prepare
from ..errors import ConfigError, ImageError, UnsupportedModelError
from .resize import IMAGE_PROCESSORS

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.preprocess import PixelsAndTable


class SelectingImageProcessor:
    """Mixin over a stock image processor class, of the Pillow or the torchvision kind."""

    prune: PruneConfig | None
    #: Whether uint8 levels stay uint8 where the stock class neither rescales nor normalises them.
    takes_levels: ClassVar[bool] = False

    def select_and_lay_out(
        self,
        images: Any,
        kwargs: dict[str, Any],
        config: PruneConfig,
        images_per_row: Iterable[int] | None = None,
        wanted: Collection[int] | None = None,
    ) -> tuple[list[ImageSelection], list[NDArray[Any] | Tensor]]:
        """Prepare images as ``_preprocess`` of the stock class does, but only the kept blocks of each.

        Args:
            images: uint8 ``(C, H, W)``, arrays or tensors, as the stock class hands them to ``_preprocess``.
            kwargs: the keyword arguments of ``_preprocess``.
            config: the settings.
            images_per_row: how many of the images belong to each row, which must be known where an image may refer to
                earlier ones: never to those of another row.
            wanted: numbers, within their row, of the images to prepare; others are only referred to. All if omitted.

        Returns:
            Per image what is kept and its rows of ``pixel_values``, arrays for images on the CPU.

        Raises:
            ImageError: an image is not 8-bit.
            ConfigError: the settings have references, but the rows are not known.
        """
        if images_per_row is None:
            if config.references != "none":
                raise ConfigError(
                    f"references={config.references!r} needs the images of each row; call the processor, with text, "
                    f"and not its image processor alone"
                )
            images_per_row = [len(images)]
        sizes = {name: kwargs[name] for name in ("patch_size", "merge_size", "temporal_patch_size")}
        resized = (self._pixels_and_table(image, kwargs) for image in images)
        prepared = [
            each
            for count in images_per_row
            for each in prepare(itertools.islice(resized, count), config, wanted=wanted, **sizes)
        ]
        return [chosen for chosen, _ in prepared], [rows for _, rows in prepared]

    def _pixels_and_table(self, image: Any, kwargs: dict[str, Any]) -> PixelsAndTable:
        if kwargs["do_resize"]:
            image = _resize(self, image, kwargs)
        pixels = _channels_last(image)
        table = level_table(self, pixels.shape[2], kwargs)
        return pixels, table if self.takes_levels else table.astype(np.float32, copy=False)

    def to_dict(self) -> dict[str, Any]:
        """As the stock one: what is saved loads as the stock image processor."""
        settings: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        settings.pop("prune", None)
        return settings

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, type(self).__bases__, self.__dict__


def selecting(kind: type[Any], stock: Any, config: PruneConfig | None) -> Any:
    """A copy of a stock image processor whose class is ``kind`` over the stock class, under the stock name."""
    processor = _restore(kind, type(stock))
    processor.__dict__.update(stock.__dict__)
    processor.prune = config
    return processor


def _restore(kind: type, stock_class: type) -> Any:
    cls: Any = _selecting_class(kind, stock_class)
    return cls.__new__(cls)


@cache
def _selecting_class(kind: type, stock_class: type) -> type:
    # By name, since others have the same methods and lay patches out in another order. Of videos the family's row names
    # the class.
    names = {cls.__name__.removesuffix("Pil") for cls in stock_class.__mro__}
    if issubclass(kind, SelectingImageProcessor) and not names & set(IMAGE_PROCESSORS):
        raise UnsupportedModelError(
            f"the image processor must be one of {', '.join(IMAGE_PROCESSORS)}; got {stock_class.__name__}"
        )
    # Under the stock name, so that what it saves loads with the stock class.
    return type(stock_class.__name__, (kind, stock_class), {"__module__": kind.__module__})


def _resize(processor: Any, image: Any, kwargs: dict[str, Any]) -> Any:
    """The stock class's own resize; the torchvision kind takes a batch."""
    options = {
        "size": kwargs["size"],
        "resample": kwargs["resample"],
        "factor": kwargs["patch_size"] * kwargs["merge_size"],
        # GLM's resize needs it; the others let it pass.
        "temporal_factor": kwargs["temporal_patch_size"],
    }
    if isinstance(image, np.ndarray):
        return processor.resize(image, **options)
    return processor.resize(images=image[None], **options)[0]


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


def level_table(processor: Any, channels: int, kwargs: dict[str, Any]) -> NDArray[Any]:
    """``(C, 256)``: what the stock class makes of each 8-bit level, by its own arithmetic: float32, or uint8 where
    neither rescaling nor normalisation is asked for."""
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8), (channels, 1, 256))
    do_rescale, do_normalize = kwargs["do_rescale"], kwargs["do_normalize"]
    if getattr(processor, "backend", "torchvision") == "torchvision":
        import torch

        options = (do_rescale, kwargs["rescale_factor"], do_normalize, kwargs["image_mean"], kwargs["image_std"])
        table = processor.rescale_and_normalize(torch.from_numpy(levels.copy())[None], *options)[0].numpy()
    else:
        table = levels
        if do_rescale:
            table = processor.rescale(table, kwargs["rescale_factor"])
        if do_normalize:
            table = processor.normalize(table, kwargs["image_mean"], kwargs["image_std"])
    table = table.reshape(channels, 256)
    return np.ascontiguousarray(table, dtype=np.uint8 if table.dtype == np.uint8 else np.float32)
