"""Show what was kept: dropped blocks recede behind a tint, kept blocks stay as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .config import PruneConfig
from .errors import ImageError
from .selection import Selection

# Dropped blocks lose their colours and take this one: its middle lightness darkens white pages and lightens dark
# ones. Hatching tells them apart where a page is itself of this lightness, and for people who see no colours.
_TINT = (86, 112, 184)
_TINT_SHARE = 0.64
_HATCH = (255, 255, 255)
_HATCH_SHARE = 0.12
_GRID_SHARE = 0.22
_GRID = (128, 128, 128)

_STRIP = (27, 31, 42)
_STRIP_TEXT = (236, 239, 246)
_BAR_KEPT = (255, 194, 71)
_BAR_DROPPED = (60, 78, 128)

_SMALLEST_FONT, _LARGEST_FONT = 11, 64
_LEAST_WIDTH = 192


def overlay(
    image: NDArray[np.uint8] | Image.Image, selection: Selection, config: PruneConfig | None = None
) -> Image.Image:
    """Draw a selection over its image.

    Kept blocks are clear, dropped blocks tinted, a thin grid marks the blocks. A strip below, outside of the image,
    says how much was kept. An image narrower than the strip's text lies at its left edge.

    Args:
        image: uint8 ``(H, W, 3)`` or ``(H, W, 1)``, or a Pillow image, of the size the selection was made on.
        selection: what :func:`pixelprune.select` returned.
        config: the settings that made it; the strip then names the method, too.

    Returns:
        A Pillow RGB image of at least W x H pixels, the image at its top left.

    Raises:
        ImageError: the image is not of the selection's size.
    """
    pixels = _pixels(image, selection)
    blocks = selection.keep.repeat(selection.block_size, axis=0).repeat(selection.block_size, axis=1)
    shown = np.where(blocks[..., None], pixels, _dimmed(pixels, selection.block_size))
    _draw_grid(shown, selection.block_size)
    return _with_strip(Image.fromarray(shown), selection, config)


def _pixels(image: NDArray[np.uint8] | Image.Image, selection: Selection) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    rows, cols = selection.grid
    size = (rows * selection.block_size, cols * selection.block_size)
    if array.ndim != 3 or array.shape[:2] != size or array.shape[2] not in (1, 3) or array.dtype != np.uint8:
        raise ImageError(
            f"this selection is of a uint8 image of {size[0]} x {size[1]} (H x W) pixels; "
            f"got {array.dtype} of shape {array.shape}"
        )
    return np.ascontiguousarray(np.broadcast_to(array, (*size, 3)))


def _dimmed(pixels: NDArray[np.uint8], block_size: int) -> NDArray[np.uint8]:
    """The whole image as it looks where blocks are dropped: gray, tinted, hatched."""
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    plain = _blend(levels, _TINT, _TINT_SHARE)
    colours = np.stack([plain, _blend(plain, _HATCH, _HATCH_SHARE)])  # (plain or hatched, gray level, channel)
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    y, x = np.ogrid[: gray.shape[0], : gray.shape[1]]
    hatched = (x + y) % max(2, block_size // 2) < max(1, block_size // 16)
    dimmed: NDArray[np.uint8] = colours[hatched.astype(np.intp), gray]
    return dimmed


def _draw_grid(shown: NDArray[np.uint8], block_size: int) -> None:
    """Lines along the top and the left of every block, in place; wider where an image is shown at a smaller scale."""
    for offset in range(max(1, round(min(shown.shape[:2]) / 1200))):
        for line in (shown[offset::block_size], shown[:, offset::block_size]):
            line[:] = _blend(line, _GRID, _GRID_SHARE)


def _blend(pixels: NDArray[np.uint8], colour: tuple[int, int, int], share: float) -> NDArray[np.uint8]:
    """``share`` of the colour in every pixel of ``(..., 3)``."""
    mixed = pixels * np.float32(1 - share) + np.float32(share) * np.array(colour, np.float32)
    return np.rint(mixed).astype(np.uint8)


def _with_strip(image: Image.Image, selection: Selection, config: PruneConfig | None) -> Image.Image:
    width = max(image.width, _LEAST_WIDTH)
    size = min(max(round((width + image.height) / 120), _SMALLEST_FONT), _LARGEST_FONT)
    font = ImageFont.load_default(size)
    pad, bar, leading = size // 2 + 2, max(4, size // 4), size * 3 // 2
    lines = _wrap(_caption(selection, config), font, width - 2 * pad)
    canvas = Image.new("RGB", (width, image.height + bar + 2 * pad + leading * len(lines)), _STRIP)
    canvas.paste(image)
    draw = ImageDraw.Draw(canvas)
    top = image.height
    draw.rectangle((0, top, width - 1, top + bar - 1), fill=_BAR_DROPPED)
    draw.rectangle((0, top, max(1, round(width * selection.retain_ratio)) - 1, top + bar - 1), fill=_BAR_KEPT)
    for index, line in enumerate(lines):
        middle = top + bar + pad + index * leading + leading // 2
        draw.text((pad, middle), line, font=font, fill=_STRIP_TEXT, anchor="lm")
    return canvas


def _caption(selection: Selection, config: PruneConfig | None) -> list[str]:
    """What the strip says, in parts between which a line may break."""
    parts = [
        f"{selection.num_kept:,} of {selection.num_blocks:,} blocks kept",
        f"{selection.retain_ratio:.1%} retained",
    ]
    if config is None:
        return [*parts, f"threshold level {selection.level}"]
    # The level is what a search for max_tokens found; without one, the threshold as it was set.
    threshold = float(config.threshold) if config.max_tokens is None else selection.level / 255
    parts.append(config.method)
    parts.append("threshold 0" if threshold == 0 else f"threshold {threshold:.3g} ({config.metric})")
    return parts if config.anchored else [*parts, "sliding"]


def _wrap(parts: list[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = parts[:1]
    for part in parts[1:]:
        longer = f"{lines[-1]}   ·   {part}"
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines
