"""Overlays: kept and dropped blocks tell themselves apart on any page, and nothing covers the image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pixelprune import PruneConfig, Selection, select
from pixelprune.errors import ImageError
from pixelprune.viz import overlay, token_grid
from pixelprune.viz._frame import SHOWN_BEFORE, caption, retain_bar

SIZE = 32


def checkerboard(rows: int, cols: int, size: int = SIZE) -> Selection:
    """Every other block kept; a dropped one refers to the block to its left, or above in the first column."""
    indices = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
    dropped = np.add.outer(np.arange(rows), np.arange(cols)) % 2 == 1
    neighbour = np.where(np.arange(cols) > 0, indices - 1, indices - cols)
    return Selection(np.where(dropped, neighbour, indices).astype(np.int32), size)


def lightness(picture: Image.Image) -> np.ndarray:
    """What is left for someone who sees no colours."""
    return np.asarray(picture.convert("L"), float)


def blocks(array: np.ndarray, rows: int, cols: int, size: int = SIZE) -> np.ndarray:
    """(rows, cols, size, size, ...): the image without the strip, block by block."""
    array = array[: rows * size, : cols * size]
    return array.reshape(rows, size, cols, size, *array.shape[2:]).swapaxes(1, 2)


def test_kept_blocks_are_clear_and_dropped_ones_are_not():
    pixels = np.random.default_rng(0).integers(0, 256, (8 * SIZE, 10 * SIZE, 3), dtype=np.uint8)
    selection = checkerboard(8, 10)
    shown = blocks(np.asarray(overlay(pixels, selection)), 8, 10)
    inside = (slice(None), slice(1, None), slice(1, None))  # without the grid's lines
    same = (shown == blocks(pixels, 8, 10))[:, :, 1:, 1:].all(axis=(2, 3, 4))
    np.testing.assert_array_equal(same, selection.keep)
    dropped = shown[~selection.keep][inside].astype(int)
    original = blocks(pixels, 8, 10)[~selection.keep][inside].astype(int)
    assert np.ptp(dropped.reshape(-1, 3), axis=0).max() < 0.5 * np.ptp(original.reshape(-1, 3), axis=0).min()


@pytest.mark.parametrize("level", [0, 24, 230, 255])
def test_dropped_blocks_stand_out_on_dark_and_light_pages_without_colour(level):
    selection = checkerboard(8, 10)
    pixels = np.full((8 * SIZE, 10 * SIZE, 3), level, np.uint8)
    gray = blocks(lightness(overlay(pixels, selection)), 8, 10).mean(axis=(2, 3))
    assert abs(gray[selection.keep].mean() - gray[~selection.keep].mean()) > 40
    everything = Selection(np.arange(80, dtype=np.int32).reshape(8, 10), SIZE)
    gray = blocks(lightness(overlay(pixels, everything)), 8, 10).mean(axis=(2, 3))
    assert abs(gray[selection.keep].mean() - gray[~selection.keep].mean()) < 1


@pytest.mark.parametrize("level", range(100, 150, 10))
def test_dropped_blocks_are_hatched_where_the_page_has_the_lightness_of_the_tint(level):
    selection = checkerboard(8, 10)
    pixels = np.full((8 * SIZE, 10 * SIZE, 3), level, np.uint8)
    spread = np.ptp(blocks(lightness(overlay(pixels, selection)), 8, 10)[:, :, 2:, 2:], axis=(2, 3))
    assert (spread[selection.keep] == 0).all()
    assert (spread[~selection.keep] > 8).all()


def test_dropped_blocks_have_one_colour_whatever_the_page_has():
    selection = checkerboard(8, 10)
    colours = [(30, 80, 220), (220, 40, 30), (20, 160, 60)]
    hues = []
    for colour in colours:
        pixels = np.broadcast_to(np.array(colour, np.uint8), (8 * SIZE, 10 * SIZE, 3))
        shown = blocks(np.asarray(overlay(pixels, selection)), 8, 10)[~selection.keep].astype(int)
        hues.append(np.ptp(shown.reshape(-1, 3).mean(axis=0) - np.array((86, 112, 184))))
    assert max(hues) < 60 < min(max(colour) - min(colour) for colour in colours)


@pytest.mark.parametrize(
    "rows, cols, size", [(1, 1, 28), (3, 40, 28), (40, 3, 32), (20, 60, 32), (70, 37, 32), (5, 5, 1)]
)
def test_strip_lies_below_the_image(rows, cols, size):
    pixels = np.full((rows * size, cols * size, 3), 200, np.uint8)
    selection = Selection(np.arange(rows * cols, dtype=np.int32).reshape(rows, cols), size)
    picture = overlay(pixels, selection, PruneConfig())
    assert picture.mode == "RGB"
    assert picture.width == max(cols * size, 192)
    assert rows * size < picture.height <= rows * size + max(120, 0.15 * rows * size)
    image, strip = np.split(np.asarray(picture), [rows * size])
    assert (image[:, : cols * size] > 100).all()
    text = strip.min(axis=2) > 180  # bright: letters, on a dark ground
    assert 0.002 < text.mean() < 0.3
    edge = 2
    assert not text[:, :edge].any() and not text[:, -edge:].any() and not text[-edge:].any()  # nothing is cut off


def test_strip_says_how_much_and_how():
    selection = select(np.zeros((64, 64, 3), np.uint8))
    pictures = [
        overlay(np.zeros((64, 64, 3), np.uint8), selection, config).tobytes()
        for config in (
            None,
            PruneConfig(),
            PruneConfig("raster"),
            PruneConfig(threshold=0.02),
            PruneConfig(threshold=0.02, metric="mae"),
            PruneConfig(anchored=False),
        )
    ]
    assert len(set(pictures)) == len(pictures)
    assert pictures[1] == overlay(np.zeros((64, 64, 3), np.uint8), selection, PruneConfig()).tobytes()


def test_arrays_images_and_gray_arrays_look_the_same():
    pixels = np.random.default_rng(1).integers(0, 256, (64, 96, 1), dtype=np.uint8)
    pixels.flags.writeable = False
    before = pixels.copy()
    selection = checkerboard(2, 3)
    expected = overlay(np.repeat(pixels, 3, axis=2), selection).tobytes()
    assert overlay(pixels, selection).tobytes() == expected
    assert overlay(Image.fromarray(pixels[..., 0]), selection).tobytes() == expected
    assert overlay(255 - pixels, selection).tobytes() != expected
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(
    "shape, dtype", [((64, 95, 3), "u1"), ((96, 64, 3), "u1"), ((64, 96), "u1"), ((64, 96, 3), "f4")]
)
def test_image_of_another_size_is_refused(shape, dtype):
    with pytest.raises(ImageError, match=r"of a uint8 image of 64 x 96 \(H x W\) pixels; got"):
        overlay(np.zeros(shape, dtype), checkerboard(2, 3))


def in_three(rows: int = 8, cols: int = 12) -> tuple[Selection, np.ndarray]:
    """A third of the blocks kept, a third predicted within the image, a third shown by an earlier one."""
    indices = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
    dropped = indices % 3 == 2
    return Selection(np.where(dropped, indices - 1, indices).astype(np.int32), SIZE), indices % 3 == 1


@pytest.mark.parametrize("level", [0, 24, 100, 118, 140, 230, 255])
def test_what_an_earlier_image_shows_looks_unlike_what_is_kept_and_what_is_predicted(level):
    selection, shown_before = in_three()
    pixels = np.full((8 * SIZE, 12 * SIZE, 3), level, np.uint8)
    picture = overlay(pixels, selection, shown_before=shown_before)
    shown = blocks(np.asarray(picture, float), 8, 12)[:, :, 2:, 2:]
    kept, predicted, earlier = selection.keep & ~shown_before, ~selection.keep, shown_before
    assert np.ptp(shown[kept], axis=(0, 1, 2)).max() == 0, "kept blocks are clear"
    red, _, blue = (shown[earlier] - shown[predicted].mean()).mean(axis=(0, 1, 2))
    assert red > 20 and blue < -40, "orange against blue, which every kind of colour blindness tells apart"
    if not 90 < level < 150:  # there hatching alone tells kept from dropped without colours
        gray = blocks(lightness(picture), 8, 12)[:, :, 2:, 2:].mean(axis=(2, 3))
        assert min(abs(gray[kept].mean() - gray[which].mean()) for which in (predicted, earlier)) > 40
    # Without colours the hatching does it: light lines that fall, dark ones that rise.
    for which, slope, sign in ((predicted, 1, 1), (earlier, -1, -1)):
        tile = blocks(lightness(picture), 8, 12)[:, :, 2:, 2:][which][0]
        line = (tile - np.median(tile)) * sign > 3
        y, x = np.nonzero(line)
        assert line.any() and len(set(((x + slope * y) % (SIZE // 2)).tolist())) <= 2
        assert len(set(((x - slope * y) % (SIZE // 2)).tolist())) > 4, "control: not the other way"


def test_counts_of_a_sequence_are_in_the_strip_and_in_the_bar():
    selection, shown_before = in_three()
    assert caption(selection, None, int(shown_before.sum()))[:4] == [
        "32 of 96 blocks kept",
        "33.3% retained",
        "32 predicted within the image, in blue",
        "32 shown by an earlier image, in orange",
    ]
    assert caption(selection, None)[:2] == ["64 of 96 blocks kept", "66.7% retained"]
    colours, counts = np.unique(retain_bar(selection, shown_before), axis=0, return_counts=True)
    assert len(colours) == 3 and set(counts) == {32} and (retain_bar(selection, shown_before)[-1] == SHOWN_BEFORE).all()
    nothing = np.zeros_like(shown_before)
    assert (retain_bar(selection, nothing) == retain_bar(selection)).all(), "control"


def test_grid_leaves_out_what_an_earlier_image_shows():
    selection, shown_before = in_three()
    pixels = np.random.default_rng(2).integers(0, 256, (8 * SIZE, 12 * SIZE, 3), dtype=np.uint8)
    step = SIZE + SIZE // 8
    picture = np.asarray(token_grid(pixels, selection, shown_before=shown_before))
    tiles = picture[step - SIZE : step - SIZE + 8 * step, step - SIZE : step - SIZE + 12 * step]
    tiles = tiles.reshape(8, step, 12, step, 3).swapaxes(1, 2)[:, :, :SIZE, :SIZE]
    kept = selection.keep & ~shown_before
    np.testing.assert_array_equal((tiles == blocks(pixels, 8, 12)).all(axis=(2, 3, 4)), kept)
    flat = {tuple(colour) for which in (shown_before, ~selection.keep) for colour in tiles[which].reshape(-1, 3)}
    assert len(flat) == 2, "each kind of empty place has a colour of its own"
    packed = token_grid(pixels, selection, shown_before=shown_before, packed=True)
    assert packed.height < token_grid(pixels, selection, packed=True).height


@pytest.mark.parametrize("given", [np.zeros((2, 3), bool), np.zeros((8, 12), np.uint8), np.ones((8, 12), bool)])
@pytest.mark.parametrize("draw", [overlay, token_grid])
def test_blocks_of_another_image_are_refused(draw, given):
    selection, _ = in_three()
    with pytest.raises(ImageError, match=r"shown_before must be bool of shape \(8, 12\), True at kept blocks .*; got"):
        draw(np.zeros((8 * SIZE, 12 * SIZE, 3), np.uint8), selection, shown_before=given)
