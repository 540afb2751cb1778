"""Which blocks are kept: the others recede behind a tint, or are left out of the grid of tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.config import PruneConfig
from ..core.selection import Selection
from ._frame import SHOWN_BEFORE, blend, caption, frame_lattice, read, read_shown_before, retain_bar, with_strip

# Dropped blocks lose their colours and take this one: its middle lightness darkens white pages and lightens dark
# ones. Hatching tells them apart where a page is itself of this lightness, and for people who see no colours.
_TINT = (86, 112, 184)
_TINT_SHARE = 0.64
_HATCH = (255, 255, 255)
_HATCH_SHARE = 0.12
# Where an earlier image shows the block, dark and the other way: without colours, the tints look alike.
_HATCH_SHOWN_BEFORE = (0, 0, 0)
_HATCH_SHOWN_BEFORE_SHARE = 0.3
_GRID_SHARE = 0.22
_GRID = (128, 128, 128)

# Between tiles, and in place of those left out: apart in lightness from each other, from white pages and dark ones.
_GUTTER = (112, 120, 140)
_EMPTY = (72, 80, 104)
_EMPTY_SHOWN_BEFORE = (150, 78, 24)


def overlay(
    image: NDArray[np.uint8] | Image.Image,
    selection: Selection,
    config: PruneConfig | None = None,
    *,
    shown_before: NDArray[np.bool_] | None = None,
) -> Image.Image:
    """Draw a selection over its image.

    Kept blocks are clear, dropped blocks tinted blue, those that an earlier image shows orange, with the hatching the
    other way; a thin grid marks the blocks; those that only the lattice keeps are framed. A strip below, outside of
    the image, says how much was kept. An image narrower than the strip's text lies at its left edge.

    Args:
        image: uint8 ``(H, W, 3)`` or ``(H, W, 1)``, or a Pillow image, of the size the selection was made on.
        selection: what :func:`pixelprune.select` returned.
        config: the settings that made it; the strip then names the method, too.
        shown_before: of an image of a sequence, :attr:`pixelprune.core.selections.SequenceImage.shown_before`: bool
            ``(rows, cols)``, the blocks of the selection that an earlier image takes the place of.

    Returns:
        A Pillow RGB image of at least W x H pixels, the image at its top left.

    Raises:
        ImageError: the image, or ``shown_before``, is not of the selection's size.
    """
    pixels = read(image, selection)
    earlier = read_shown_before(shown_before, selection)
    size = selection.block_size
    shown = _dimmed(pixels, size)
    rows, cols = selection.grid
    tiles = (rows, size, cols, size, 3)
    _copy_blocks(pixels.reshape(tiles), shown.reshape(tiles), selection.keep & ~earlier)
    if earlier.any():
        _copy_blocks(_dimmed(pixels, size, shown_before=True).reshape(tiles), shown.reshape(tiles), earlier)
    _draw_grid(shown, size)
    if selection.lattice_indices is not None:
        lattice = selection.lattice_indices
        frame_lattice(shown.reshape(tiles), lattice[~earlier.reshape(-1)[lattice]])
    text = caption(selection, config, None if shown_before is None else int(earlier.sum()))
    return with_strip(Image.fromarray(shown), text, retain_bar(selection, shown_before))


def token_grid(
    image: NDArray[np.uint8] | Image.Image,
    selection: Selection,
    config: PruneConfig | None = None,
    *,
    shown_before: NDArray[np.bool_] | None = None,
    packed: bool = False,
) -> Image.Image:
    """Draw the image as the language model gets it: a grid of tiles set apart, one per token, dropped ones left out.

    Args:
        image, selection, config, shown_before: as for :func:`overlay`; empty places of blocks that an earlier image
            shows are orange.
        packed: set the kept tiles side by side in the order in which they are read, instead of each at its place.
            The model gets the places as positions; the length of its sequence is the number of tiles.

    Returns:
        A Pillow RGB image, an eighth of a block larger per block than the image.

    Raises:
        ImageError: the image, or ``shown_before``, is not of the selection's size.
    """
    pixels = read(image, selection)
    earlier = read_shown_before(shown_before, selection).reshape(-1)
    size, (rows, cols) = selection.block_size, selection.grid
    step = size + max(2, size // 8)
    tiles = pixels.reshape(rows, size, cols, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
    kept = np.flatnonzero(selection.keep.reshape(-1) & ~earlier)
    places = np.arange(kept.size) if packed else kept
    sheet_rows = -(-kept.size // cols) if packed else rows
    cells = np.full((sheet_rows * cols, step, step, 3), _GUTTER, np.uint8)
    cells[:, :size, :size] = _GUTTER if packed else _EMPTY
    if not packed:
        cells[earlier, :size, :size] = _EMPTY_SHOWN_BEFORE
    if selection.lattice_indices is not None:
        tiles = tiles.copy()
        frame_lattice(tiles.reshape(-1, size, 1, size, 3), selection.lattice_indices)
    cells[places, :size, :size] = tiles[kept]
    body = cells.reshape(sheet_rows, cols, step, step, 3).swapaxes(1, 2).reshape(sheet_rows * step, cols * step, 3)
    edge = step - size
    sheet = np.pad(body, ((edge, 0), (edge, 0), (0, 0)))
    sheet[:edge] = sheet[:, :edge] = _GUTTER
    said = caption(selection, config, None if shown_before is None else int(earlier.sum()))
    text = [f"each tile is one token of {size} x {size} pixels", *said]
    return with_strip(Image.fromarray(sheet), text, retain_bar(selection, shown_before))


def _copy_blocks(tiles: NDArray[np.uint8], to: NDArray[np.uint8], which: NDArray[np.bool_]) -> None:
    """Copy blocks of ``(rows, size, cols, size, 3)`` to their places in another image."""
    row, col = np.nonzero(which)
    to[row, :, col] = tiles[row, :, col]


def _dimmed(pixels: NDArray[np.uint8], block_size: int, shown_before: bool = False) -> NDArray[np.uint8]:
    """The whole image as it looks where blocks are dropped: gray, tinted, hatched. Pillow's tables are the fast way."""
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    plain = blend(levels, SHOWN_BEFORE if shown_before else _TINT, _TINT_SHARE)
    hatch, share = (_HATCH_SHOWN_BEFORE, _HATCH_SHOWN_BEFORE_SHARE) if shown_before else (_HATCH, _HATCH_SHARE)
    gray = Image.fromarray(pixels).convert("L")
    tinted, hatched = (
        Image.merge("RGB", [gray.point(channel) for channel in table.T.tolist()])
        for table in (plain, blend(plain, hatch, share))
    )
    period = max(2, block_size // 2)
    y, x = np.ogrid[:period, :period]
    line = np.where((x - y if shown_before else x + y) % period < max(1, block_size // 16), 255, 0).astype(np.uint8)
    mask = np.tile(line, (-(-gray.height // period), -(-gray.width // period)))[: gray.height, : gray.width]
    return np.array(Image.composite(hatched, tinted, Image.fromarray(mask)))


def _draw_grid(shown: NDArray[np.uint8], block_size: int) -> None:
    """Lines along the top and the left of every block, in place; wider where an image is shown at a smaller scale."""
    for offset in range(max(1, round(min(shown.shape[:2]) / 1200))):
        for line in (shown[offset::block_size], shown[:, offset::block_size]):
            line[:] = blend(line, _GRID, _GRID_SHARE)
