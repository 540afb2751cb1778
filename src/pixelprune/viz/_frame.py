"""What all pictures share: reading their input, mixing colours, and the strip below the image that holds all text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..core.config import PruneConfig
from ..core.selection import Selection
from ..errors import ImageError

Colour = tuple[int, int, int]

_STRIP = (27, 31, 42)
_STRIP_TEXT = (236, 239, 246)
_BAR_KEPT = (255, 194, 71)
_BAR_DROPPED = (60, 78, 128)
#: Frames the blocks that only the lattice keeps, and is their part of the bar; Okabe and Ito's green, which is apart in
#: lightness from white pages and dark ones.
LATTICE: Colour = (0, 158, 115)
#: Tints what an earlier image shows, and is its part of the bar: Okabe and Ito's vermillion, which no kind of colour
#: blindness takes for the blue of what is dropped within the image.
SHOWN_BEFORE: Colour = (213, 94, 0)

_SMALLEST_FONT, _LARGEST_FONT = 11, 96
# A phone shows a picture about 390 points wide, where 1/52 of the width is 7.5 points.
_FONT_PER_WIDTH = 1 / 52
_LEAST_WIDTH = 192


def read(image: NDArray[np.uint8] | Image.Image, selection: Selection) -> NDArray[np.uint8]:
    """The image as uint8 ``(H, W, 3)``, contiguous.

    Raises:
        ImageError: it is not of the selection's size, or not 8-bit.
    """
    array: NDArray[np.uint8] = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    rows, cols = selection.grid
    size = (rows * selection.block_size, cols * selection.block_size)
    if array.ndim != 3 or array.shape[:2] != size or array.shape[2] not in (1, 3) or array.dtype != np.uint8:
        raise ImageError(
            f"this selection is of a uint8 image of {size[0]} x {size[1]} (H x W) pixels; "
            f"got {array.dtype} of shape {array.shape}"
        )
    return np.ascontiguousarray(np.broadcast_to(array, (*size, 3)))


def blend(pixels: NDArray[np.uint8], colour: Colour | NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """``share`` of the colour in every pixel of ``(..., 3)``."""
    mixed = pixels * np.float32(1 - share) + np.float32(share) * np.array(colour, np.float32)
    return np.rint(mixed).astype(np.uint8)


def read_shown_before(shown_before: NDArray[np.bool_] | None, selection: Selection) -> NDArray[np.bool_]:
    """The same, bool ``(rows, cols)``; none for ``None``.

    Raises:
        ImageError: it has another shape, or a block that the selection does not keep.
    """
    if shown_before is None:
        return np.zeros(selection.grid, bool)
    given = np.asarray(shown_before)
    if given.shape != selection.grid or given.dtype != bool or (given & ~selection.keep).any():
        raise ImageError(
            f"shown_before must be bool of shape {selection.grid}, True at kept blocks of the selection only; got "
            f"{given.dtype} of shape {given.shape}"
        )
    return given


def caption(selection: Selection, config: PruneConfig | None, shown_before: int | None = None) -> list[str]:
    """How much is kept, and how it was chosen, in parts between which a line may break.

    Args:
        shown_before: of an image of a sequence, how many blocks an earlier image shows.
    """
    kept = selection.num_kept - (shown_before or 0)
    parts = [
        f"{kept:,} of {selection.num_blocks:,} blocks kept",
        f"{kept / selection.num_blocks:.1%} retained",
    ]
    if shown_before is not None:
        parts.append(f"{selection.num_blocks - selection.num_kept:,} predicted within the image, in blue")
        parts.append(f"{shown_before:,} shown by an earlier image, in orange")
    if selection.lattice_indices is not None:
        parts.append(f"{selection.num_lattice:,} for the lattice alone, framed in green")
    if config is None:
        return [*parts, f"threshold level {selection.level} ({selection.metric})"]
    # Level and metric are what a search for max_tokens found; without one, those that were set.
    threshold, metric = float(config.threshold), config.metric
    if config.max_tokens is not None:
        threshold, metric = selection.level / 255, selection.metric
    parts.append(config.method)
    parts.append("threshold 0" if threshold == 0 else f"threshold {threshold:.3g} ({metric})")
    return parts if config.anchored else [*parts, "sliding"]


def retain_bar(selection: Selection, shown_before: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """uint8 ``(blocks, 3)``: the share that the method keeps, the share that the lattice adds, the rest, and at the
    right end the share that an earlier image shows."""
    earlier = read_shown_before(shown_before, selection)
    lattice = selection.lattice_indices
    framed = 0 if lattice is None else int((~earlier.reshape(-1)[lattice]).sum())
    kept = selection.num_kept - int(earlier.sum())
    bar = np.empty((selection.num_blocks, 3), np.uint8)
    bar[:] = _BAR_DROPPED
    bar[:kept] = LATTICE
    bar[: kept - framed] = _BAR_KEPT
    bar[selection.num_blocks - int(earlier.sum()) :] = SHOWN_BEFORE
    return bar


def frame_lattice(tiles: NDArray[np.uint8], lattice: NDArray[np.int32]) -> None:
    """Draw a frame on the rim of the lattice's blocks, in place.

    Args:
        tiles: uint8 ``(rows, size, cols, size, 3)``, a view of the picture.
        lattice: flat indices of blocks.
    """
    size = tiles.shape[1]
    row, col = np.divmod(lattice, tiles.shape[2])
    rim = np.ones((size, size), bool)
    width = max(1, size // 10)
    rim[width:-width, width:-width] = False
    y, x = np.nonzero(rim)
    tiles[row[:, None], y, col[:, None], x] = LATTICE


def with_strip(
    image: Image.Image, parts: Sequence[str], bar: NDArray[np.uint8], labels: Sequence[str] = ()
) -> Image.Image:
    """The image with a strip below it: a bar, labels evenly along it, and lines of text.

    Args:
        parts: the text; lines break between parts.
        bar: uint8 ``(n, 3)``: the bar's colours from left to right.
        labels: what the bar's colours mean, from its left end to its right end.

    Returns:
        An RGB image, the given one at its top left; wider than it only where the text would not fit.
    """
    width = max(image.width, _LEAST_WIDTH)
    size = round(max((width + image.height) / 120, width * _FONT_PER_WIDTH))
    size = min(max(size, _SMALLEST_FONT), _LARGEST_FONT)
    font = ImageFont.load_default(size)
    pad, height, leading = size // 2 + 2, max(4, size // 4) * (2 if labels else 1), size * 3 // 2
    lines = _wrap(parts, font, width - 2 * pad)
    rows = len(lines) + bool(labels)
    canvas = Image.new("RGB", (width, image.height + height + 2 * pad + leading * rows), _STRIP)
    canvas.paste(image)
    colours = bar[np.arange(width) * len(bar) // width]
    canvas.paste(Image.fromarray(np.repeat(colours[None], height, axis=0)), (0, image.height))
    draw = ImageDraw.Draw(canvas)
    middle = image.height + height + pad + leading // 2
    for index, label in enumerate(labels):
        x = pad + (width - 2 * pad) * index / max(1, len(labels) - 1)
        anchor = "lm" if index == 0 else "rm" if index == len(labels) - 1 else "mm"
        draw.text((x, middle), label, font=font, fill=_STRIP_TEXT, anchor=anchor)
    for index, line in enumerate(lines, start=rows - len(lines)):
        draw.text((pad, middle + index * leading), line, font=font, fill=_STRIP_TEXT, anchor="lm")
    return canvas


def _wrap(parts: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = list(parts[:1])
    for part in parts[1:]:
        longer = f"{lines[-1]}   ·   {part}"
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines
