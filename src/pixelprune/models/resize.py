"""Resize an image exactly as the model's own image processor does.

The processors scale an image, aspect ratio nearly kept, so that both sides are multiples of the block and the area
lies between two bounds. Selection sees these pixels, so these must be the ones that the model sees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ConfigError, ImageError
from .family import Family
from .registry import FAMILIES, family_named

#: The processors refuse images that are more elongated than this.
MAX_ASPECT_RATIO = 200
#: Whose ``smart_resize`` in transformers a processor follows.
RULES = ("qwen2_vl", "glm4v")
#: GLM's processors count an image as a video of this many frames, and the bounds are of all frames together.
GLM_FRAMES = 2


@dataclass(frozen=True)
class StockSizes:
    """How a class of image processors chooses sizes where its settings leave something out.

    Args:
        rule: one of :data:`RULES`.
        patch_size: side of a patch in pixels.
        min_pixels, max_pixels: least and largest area in pixels.
    """

    rule: str
    patch_size: int
    min_pixels: int
    max_pixels: int


_GLM = StockSizes("glm4v", 14, 112 * 112, 28 * 28 * 15000)
_QWEN = StockSizes("qwen2_vl", 14, 56 * 56, 28 * 28 * 1280)
#: The image processors of the supported families by their class in transformers.
IMAGE_PROCESSORS = {
    "Qwen2VLImageProcessor": _QWEN,
    "Glm4vImageProcessor": _GLM,
    "Glm46VImageProcessor": _GLM,
    "CohereCompassImageProcessor": _QWEN,
}


@dataclass(frozen=True)
class ResizeSpec:
    """How a model's image processor chooses the size of the image that the vision encoder sees.

    Args:
        patch_size: side of a vision encoder patch in pixels.
        merge_size: patches along the side of a block; a block of ``merge_size**2`` patches is one token.
        min_pixels: least area of the resized image in pixels.
        max_pixels: largest area of the resized image in pixels.
        rule: ``"qwen2_vl"`` or ``"glm4v"``, whose bounds are of two frames together and which enlarges an image with
            a side shorter than a block first.

    Raises:
        ConfigError: a value is not a whole number of at least 1, the bounds are the wrong way round, one block is
            larger than ``max_pixels``, or there is no such rule.
    """

    patch_size: int = 16
    merge_size: int = 2
    min_pixels: int = 65536
    max_pixels: int = 16777216
    rule: str = "qwen2_vl"

    def __post_init__(self) -> None:
        for name in ("patch_size", "merge_size", "min_pixels", "max_pixels"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1; got {value!r}")
        if self.rule not in RULES:
            raise ConfigError(f"rule must be one of {', '.join(RULES)}; got {self.rule!r}")
        if self.min_pixels > self.max_pixels:
            raise ConfigError(f"min_pixels must be at most max_pixels; got {self.min_pixels} and {self.max_pixels}")
        if self.block_size**2 > self.max_pixels:
            raise ConfigError(f"a block of {self.block_size}**2 pixels must fit into max_pixels={self.max_pixels}")

    @property
    def block_size(self) -> int:
        """Side of a block in pixels."""
        return self.patch_size * self.merge_size

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing; the same numbers as ``smart_resize`` in the model's image processor.

        Args:
            height, width: of the image in pixels.

        Returns:
            Height and width in pixels, multiples of :attr:`block_size`.

        Raises:
            ImageError: a side is 0, or the longer side is more than 200 times the shorter.
        """
        block = self.block_size
        if min(height, width) < 1:
            raise ImageError(f"the image has no pixels: {width} x {height} (width x height)")
        frames, given = 1, (height, width)
        if self.rule == "glm4v":
            frames = GLM_FRAMES
            if min(height, width) < block:
                enlarge = max(block / height, block / width)
                height, width = int(height * enlarge), int(width * enlarge)
        if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
            height, width = given
            raise ImageError(
                f"{width} x {height} (width x height) is too elongated: the model's image processor refuses a longer "
                f"side of more than {MAX_ASPECT_RATIO} times the shorter; crop or split the image"
            )
        # round() is Python's, which takes halves to the even neighbour, as the processors do.
        rows, cols = round(height / block), round(width / block)
        area = frames * rows * cols * block**2
        if area > self.max_pixels:
            shrink = math.sqrt(frames * height * width / self.max_pixels)
            rows = max(1, math.floor(height / shrink / block))
            cols = max(1, math.floor(width / shrink / block))
        elif area < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (frames * height * width))
            rows, cols = math.ceil(height * grow / block), math.ceil(width * grow / block)
        return rows * block, cols * block

    def resize(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize with Pillow's bicubic filter.

        Args:
            image: RGB, as :func:`pixelprune.core.images.open_image` returns it.

        Returns:
            uint8 ``(H, W, 3)``, contiguous, H and W multiples of :attr:`block_size`.

        Raises:
            ImageError: the image is not RGB, or :meth:`target_size` refuses its size.
        """
        if image.mode != "RGB":
            raise ImageError(f"the image must be RGB; got mode {image.mode}. pixelprune.core.images.to_rgb converts it")
        height, width = self.target_size(image.height, image.width)
        # np.array, not asarray: Pillow's buffer would be read-only
        return np.array(image.resize((width, height), Image.Resampling.BICUBIC))

    @classmethod
    def for_model(cls, model: str | PathLike[str]) -> ResizeSpec:
        """The sizes of a model; nothing is downloaded.

        Args:
            model: a family (``qwen3_vl``), the hub name of a model of such a family
                (``Qwen/Qwen3-VL-2B-Instruct``), or a folder with the model's ``processor_config.json``,
                ``preprocessor_config.json`` or ``config.json``.

        Raises:
            ConfigError: the model is not known, with what is; or a file in the folder cannot be used.
        """
        name = str(model)
        if name in FAMILIES:
            return _published(FAMILIES[name])
        folder = Path(name).expanduser()
        if name and folder.is_dir():
            return _from_folder(folder)
        family = family_named(name)
        if family is None:
            raise ConfigError(
                f"unknown model {name!r}: not a folder, and not one of the known families: {', '.join(FAMILIES)} "
                f"(or a hub name such as Qwen/Qwen3-VL-2B-Instruct)"
            )
        return _published(family)

    @classmethod
    def from_processor(cls, settings: Mapping[str, Any]) -> ResizeSpec:
        """From an image processor's settings: its JSON file as a mapping, or what its ``to_dict()`` gives.

        Missing values take the defaults of the class that ``image_processor_type`` names, ``Qwen2VLImageProcessor``
        where it is missing.

        Raises:
            ConfigError: a value cannot be used, or the settings are of a processor that resizes differently.
        """
        kind = str(settings.get("image_processor_type") or "Qwen2VLImageProcessor")
        stock = IMAGE_PROCESSORS.get(kind.removesuffix("Fast").removesuffix("Pil"))
        if stock is None:
            raise ConfigError(f"image_processor_type must be one of {', '.join(IMAGE_PROCESSORS)}; got {kind!r}")
        if not settings.get("do_resize", True) or settings.get("resample", 3) != Image.Resampling.BICUBIC:
            raise ConfigError(
                "the image processor must resize with the bicubic filter; got "
                f"do_resize={settings.get('do_resize', True)!r}, resample={settings.get('resample', 3)!r}"
            )
        size = settings.get("size") or {"shortest_edge": stock.min_pixels, "longest_edge": stock.max_pixels}
        if not isinstance(size, Mapping):
            raise ConfigError(f"size must hold shortest_edge and longest_edge (areas in pixels); got {size!r}")
        # An explicit min_pixels or max_pixels overrides the size, as in the processor's constructor.
        return cls(
            patch_size=_first(settings.get("patch_size"), stock.patch_size),
            merge_size=_first(settings.get("merge_size"), 2),
            min_pixels=_first(settings.get("min_pixels"), size.get("shortest_edge")),
            max_pixels=_first(settings.get("max_pixels"), size.get("longest_edge")),
            rule=stock.rule,
        )


def _published(family: Family) -> ResizeSpec:
    """As the published models of a family are configured."""
    images = family.images
    rule = IMAGE_PROCESSORS[family.image_processor].rule
    return ResizeSpec(images.patch_size, images.merge_size, images.min_pixels, images.max_pixels, rule)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _from_folder(folder: Path) -> ResizeSpec:
    """The image processor's settings where there are any, in transformers' order; else what the model's config says."""
    config = _json(folder / "config.json")
    family = None if config is None else config.get("model_type")
    if config is not None and family not in FAMILIES:
        raise ConfigError(
            f"{folder / 'config.json'}: model_type {family!r} is not one of the known families: {', '.join(FAMILIES)}"
        )
    path = folder / "processor_config.json"
    settings = (_json(path) or {}).get("image_processor")
    if settings is None:
        path = folder / "preprocessor_config.json"
        settings = _json(path)
    try:
        if settings is not None:
            return ResizeSpec.from_processor(settings)
        path = folder / "config.json"
        if config is not None:
            vision, known = config.get("vision_config") or {}, _published(FAMILIES[config["model_type"]])
            return ResizeSpec(
                patch_size=_first(vision.get("patch_size"), known.patch_size),
                merge_size=_first(vision.get("spatial_merge_size"), known.merge_size),
                min_pixels=known.min_pixels,
                max_pixels=known.max_pixels,
                rule=known.rule,
            )
    except (ConfigError, AttributeError) as error:  # AttributeError: a value where an object belongs
        raise ConfigError(f"{path}: {error}") from error
    raise ConfigError(
        f"{folder}: no processor_config.json, preprocessor_config.json or config.json in this folder; "
        f"name a model's folder, or one of the known families: {', '.join(FAMILIES)}"
    )


def _json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None if there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must hold a JSON object; got {type(value).__name__}")
    return value
