"""What dropping blocks costs: the image as the kept blocks alone give it back, and where that differs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..core.config import PruneConfig
from ..core.selection import Selection
from ._frame import Colour, caption, read, retain_bar, with_strip

# From violet over orange to near-white: rises in lightness alone, so it reads without seeing colours.
_HEAT: tuple[Colour, ...] = (
    (126, 60, 200), (176, 58, 180), (220, 70, 130), (246, 112, 70), (250, 178, 52), (254, 250, 190)
)  # fmt: skip
# The page, where it is right, is darker than any colour of the scale; less so in blocks that are off somewhere,
# which the eye finds by it.
_GROUND: Colour = (10, 10, 16)
_PAGE_SHARE, _PAGE_SHARE_OFF = 0.1, 0.24


def reconstruction(
    image: NDArray[np.uint8] | Image.Image, selection: Selection, config: PruneConfig | None = None
) -> Image.Image:
    """Draw the image rebuilt from its kept blocks, the strip saying how far off its worst value is.

    Args, returns, raises: as for :func:`pixelprune.viz.overlay`.
    """
    pixels = read(image, selection)
    rebuilt = selection.reconstruct(pixels)
    text = ["rebuilt from the kept blocks", _worst(_difference(pixels, rebuilt)), *caption(selection, config)]
    return with_strip(Image.fromarray(rebuilt), text, retain_bar(selection))


def error_map(
    image: NDArray[np.uint8] | Image.Image, selection: Selection, config: PruneConfig | None = None
) -> Image.Image:
    """Draw how far each pixel of the rebuilt image is off: the largest difference of its channels, in 8-bit levels.

    The scale on the strip runs from 1 to the largest difference that occurs. Pixels that are right show the page,
    dark, and less so in blocks with a pixel that is off. What is off is drawn a little wider than it is, or single
    pixels would be lost wherever the picture is shown smaller.

    Args, returns, raises: as for :func:`pixelprune.viz.overlay`.
    """
    pixels = read(image, selection)
    difference = _difference(pixels, selection.reconstruct(pixels))
    top = int(difference.max())
    shown = _page(pixels, difference, selection.block_size)
    if not top:
        text = [_worst(difference), *caption(selection, config)]
        return with_strip(Image.fromarray(shown), text, retain_bar(selection))
    wrong = np.count_nonzero(difference) / difference.size
    text = [_worst(difference), f"{wrong:.2%} of all pixels differ", *caption(selection, config)]
    reach = 1 + 2 * max(1, round(min(difference.shape) / 1000))
    wide = np.asarray(Image.fromarray(difference).filter(ImageFilter.MaxFilter(reach)))
    row, col = np.nonzero(wide)
    shown[row, col] = _heat(top)[wide[row, col] - 1]
    middle, odd = divmod(1 + top, 2)
    labels = ["1", *([] if odd or top < 3 else [str(middle)]), f"{top} of 255 levels"][-top:]
    return with_strip(Image.fromarray(shown), text, _heat(256 if top > 1 else 1), labels)


def _page(pixels: NDArray[np.uint8], difference: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The page in the dark, a little lighter in blocks that are off somewhere."""
    height, width = difference.shape
    off = difference.reshape(height // size, size, width // size, size).any(axis=(1, 3))
    levels = np.arange(256)[:, None]
    colours = np.stack([_GROUND + levels * share for share in (_PAGE_SHARE, _PAGE_SHARE_OFF)])
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    blocks = off.repeat(size, axis=0).repeat(size, axis=1).astype(np.intp)
    page: NDArray[np.uint8] = np.rint(colours).astype(np.uint8)[blocks, gray]
    return page


def _difference(pixels: NDArray[np.uint8], rebuilt: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 ``(H, W)``: the largest absolute difference of a pixel's channels."""
    apart = np.maximum(pixels, rebuilt) - np.minimum(pixels, rebuilt)
    # Twice as fast as a maximum over the last axis.
    difference: NDArray[np.uint8] = np.maximum(np.maximum(apart[..., 0], apart[..., 1]), apart[..., 2])
    return difference


def _worst(difference: NDArray[np.uint8]) -> str:
    top = int(difference.max())
    return f"largest error {top} of 255 levels" if top else "exact: every pixel is right"


def _heat(steps: int) -> NDArray[np.uint8]:
    """uint8 ``(steps, 3)``: the scale's colours from its low end to its high end; one step is the high end."""
    stops = np.linspace(0, 1, len(_HEAT))
    at = np.linspace(0, 1, steps) if steps > 1 else np.ones(1)
    channels = [np.interp(at, stops, channel) for channel in zip(*_HEAT, strict=True)]
    colours: NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return colours
