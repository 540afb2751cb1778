"""Where dropped blocks come from: the reference of each, and the way its value takes to get there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..core.config import PruneConfig
from ..core.selection import Selection
from ._frame import blend, caption, read, retain_bar, with_strip

# Okabe and Ito's colours, made for colour-blind readers to distinguish; without black, and without the yellow that
# vanishes on white.
_COLOURS = np.array(
    [(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0)], np.uint8
)
_SHARE = 0.55
_LINE, _CASING, _FRAME = (20, 24, 34), (255, 255, 255), (255, 194, 71)


def source_flow(
    image: NDArray[np.uint8] | Image.Image, selection: Selection, config: PruneConfig | None = None
) -> Image.Image:
    """Draw what each dropped block is predicted from.

    A kept block and all blocks that it is the reference of share a colour; lines lead from block to block back to the
    kept one, which is framed. Kept blocks that are the reference of no other stay clear.

    Args, returns, raises: as for :func:`pixelprune.viz.overlay`.
    """
    pixels = read(image, selection)
    size, (rows, cols) = selection.block_size, selection.grid
    dropped = ~selection.keep
    stands_for = np.unique(selection.source[dropped])
    colour_of = np.zeros(selection.num_blocks, np.intp)
    colour_of[stands_for] = np.arange(stands_for.size) % len(_COLOURS)
    colours = _COLOURS[colour_of[selection.source]]
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    tiles = (rows, size, cols, size, 3)
    shown = pixels.copy()
    row, col = np.nonzero(dropped)
    grays = np.repeat(gray.reshape(rows, size, cols, size)[row, :, col][..., None], 3, axis=3)
    shown.reshape(tiles)[row, :, col] = blend(grays, colours[row, col][:, None, None], _SHARE)
    picture = Image.fromarray(shown)
    _draw_lines(picture, selection)
    _draw_frames(picture, stands_for, cols, size)
    text = [
        f"{stands_for.size:,} kept blocks are the references of {row.size:,} dropped ones",
        *caption(selection, config),
    ]
    return with_strip(picture, text, retain_bar(selection))


def links(selection: Selection) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which neighbours hand a value on to each other: those with the same reference.

    Every causal rule predicts from a neighbour, and a dropped block takes over its neighbour's source, so these links
    lead from every dropped block to its source (but for ``raster``, whose runs also cross the ends of rows, and
    ``random``, which predicts nothing). Links that only close a square of four are left out.

    Returns:
        bool ``(rows, cols - 1)``: a block and the one to its right; bool ``(rows - 1, cols)``: and the one below.
    """
    source = selection.source
    across = source[:, :-1] == source[:, 1:]
    down = source[:-1] == source[1:]
    down[:, 1:] &= ~(down[:, :-1] & across[:-1] & across[1:])
    return across, down


def _draw_lines(picture: Image.Image, selection: Selection) -> None:
    """The links, dark on a light casing, so that they show on any colour."""
    size = selection.block_size
    across, down = links(selection)
    ends = [(row, col, row, col + 1) for row, col in np.argwhere(across).tolist()]
    ends += [(row, col, row + 1, col) for row, col in np.argwhere(down).tolist()]
    segments = [[place * size + size // 2 for place in end] for end in ends]
    draw = ImageDraw.Draw(picture)
    for colour, width in ((_CASING, max(3, size // 6)), (_LINE, max(1, size // 16))):
        for y, x, to_y, to_x in segments:
            draw.line((x, y, to_x, to_y), fill=colour, width=width)


def _draw_frames(picture: Image.Image, stands_for: NDArray[np.int32], cols: int, size: int) -> None:
    """A frame on the rim of every kept block that is the reference of others."""
    draw = ImageDraw.Draw(picture)
    width = max(1, size // 12)
    for index in stands_for.tolist():
        top, left = index // cols * size, index % cols * size
        draw.rectangle((left, top, left + size - 1, top + size - 1), outline=_LINE, width=2 * width)
        draw.rectangle((left, top, left + size - 1, top + size - 1), outline=_FRAME, width=width)
