"""Which blocks are kept: the others recede behind a tint, or are left out of the grid of tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.config import PruneConfig
from ..core.selection import Selection
from ._frame import blend, caption, frame_lattice, read, retain_bar, with_strip

# Dropped blocks lose their colours and take this one: its middle lightness darkens white pages and lightens dark
# ones. Hatching tells them apart where a page is itself of this lightness, and for people who see no colours.
_TINT = (86, 112, 184)
_TINT_SHARE = 0.64
_HATCH = (255, 255, 255)
_HATCH_SHARE = 0.12
_GRID_SHARE = 0.22
_GRID = (128, 128, 128)

# Between tiles, and in place of those left out: apart in lightness from each other, from white pages and dark ones.
_GUTTER = (112, 120, 140)
_EMPTY = (72, 80, 104)


def overlay(
    image: NDArray[np.uint8] | Image.Image, selection: Selection, config: PruneConfig | None = None
) -> Image.Image:
    """Draw a selection over its image.

    Kept blocks are clear, dropped blocks tinted, a thin grid marks the blocks; those that only the lattice keeps are
    framed. A strip below, outside of the image,
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
    pixels = read(image, selection)
    size = selection.block_size
    shown = _dimmed(pixels, size)
    rows, cols = selection.grid
    tiles = (rows, size, cols, size, 3)
    row, col = np.nonzero(selection.keep)
    shown.reshape(tiles)[row, :, col] = pixels.reshape(tiles)[row, :, col]
    _draw_grid(shown, size)
    if selection.lattice_indices is not None:
        frame_lattice(shown.reshape(tiles), selection.lattice_indices)
    bar = retain_bar(selection)
    return with_strip(Image.fromarray(shown), caption(selection, config), bar)


def token_grid(
    image: NDArray[np.uint8] | Image.Image,
    selection: Selection,
    config: PruneConfig | None = None,
    *,
    packed: bool = False,
) -> Image.Image:
    """Draw the image as the language model gets it: a grid of tiles set apart, one per token, dropped ones left out.

    Args:
        image, selection, config: as for :func:`overlay`.
        packed: set the kept tiles side by side in the order in which they are read, instead of each at its place.
            Places are what the model is told, order is what its length depends on.

    Returns:
        A Pillow RGB image, an eighth of a block larger per block than the image.

    Raises:
        ImageError: the image is not of the selection's size.
    """
    pixels = read(image, selection)
    size, (rows, cols) = selection.block_size, selection.grid
    step = size + max(2, size // 8)
    tiles = pixels.reshape(rows, size, cols, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
    kept = selection.kept_indices
    places = np.arange(kept.size) if packed else kept
    sheet_rows = -(-kept.size // cols) if packed else rows
    cells = np.full((sheet_rows * cols, step, step, 3), _GUTTER, np.uint8)
    cells[:, :size, :size] = _GUTTER if packed else _EMPTY
    if selection.lattice_indices is not None:
        tiles = tiles.copy()
        frame_lattice(tiles.reshape(-1, size, 1, size, 3), selection.lattice_indices)
    cells[places, :size, :size] = tiles[kept]
    body = cells.reshape(sheet_rows, cols, step, step, 3).swapaxes(1, 2).reshape(sheet_rows * step, cols * step, 3)
    edge = step - size
    sheet = np.pad(body, ((edge, 0), (edge, 0), (0, 0)))
    sheet[:edge] = sheet[:, :edge] = _GUTTER
    text = [f"each tile is one token of {size} x {size} pixels", *caption(selection, config)]
    bar = retain_bar(selection)
    return with_strip(Image.fromarray(sheet), text, bar)


def _dimmed(pixels: NDArray[np.uint8], block_size: int) -> NDArray[np.uint8]:
    """The whole image as it looks where blocks are dropped: gray, tinted, hatched. Pillow's tables are the fast way."""
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    plain = blend(levels, _TINT, _TINT_SHARE)
    gray = Image.fromarray(pixels).convert("L")
    tinted, hatched = (
        Image.merge("RGB", [gray.point(channel) for channel in table.T.tolist()])
        for table in (plain, blend(plain, _HATCH, _HATCH_SHARE))
    )
    period = max(2, block_size // 2)
    y, x = np.ogrid[:period, :period]
    line = np.where((x + y) % period < max(1, block_size // 16), 255, 0).astype(np.uint8)
    mask = np.tile(line, (-(-gray.height // period), -(-gray.width // period)))[: gray.height, : gray.width]
    return np.array(Image.composite(hatched, tinted, Image.fromarray(mask)))


def _draw_grid(shown: NDArray[np.uint8], block_size: int) -> None:
    """Lines along the top and the left of every block, in place; wider where an image is shown at a smaller scale."""
    for offset in range(max(1, round(min(shown.shape[:2]) / 1200))):
        for line in (shown[offset::block_size], shown[:, offset::block_size]):
            line[:] = blend(line, _GRID, _GRID_SHARE)
