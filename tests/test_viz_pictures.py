"""The token grid, the flow of sources, the reconstruction and the error map say what the selection says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pixelprune import PruneConfig, Selection, select
from pixelprune.errors import ImageError
from pixelprune.viz import PICTURES, error_map, overlay, reconstruction, source_flow, token_grid
from pixelprune.viz._frame import LATTICE, retain_bar, with_strip
from pixelprune.viz.flow import links

SIZE = 32
CAUSAL = ("pred2d", "adaptive", "serpentine", "components")


def noisy_page(seed: int = 0) -> np.ndarray:
    """Flat areas, near-equal blocks and noise: (6 x 8 blocks)."""
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 3, (6, 8, 1, 1, 1)) * 90 + generator.integers(0, 4, (6, 8, 1, 1, 1))
    blocks = np.broadcast_to(base, (6, 8, SIZE, SIZE, 3)).astype(np.uint8).copy()
    blocks[2, 3] = generator.integers(0, 256, (SIZE, SIZE, 3))
    return blocks.swapaxes(1, 2).reshape(6 * SIZE, 8 * SIZE, 3)


def reached(selection: Selection) -> np.ndarray:
    """bool (rows, cols): the links lead from this block to its source, followed one by one."""
    across, down = links(selection)
    rows, cols = selection.grid
    seen = selection.keep.copy()
    for _ in range(rows * cols):
        before = seen.copy()
        seen[:, 1:] |= across & seen[:, :-1]
        seen[:, :-1] |= across & seen[:, 1:]
        seen[1:] |= down & seen[:-1]
        seen[:-1] |= down & seen[1:]
        if (seen == before).all():
            break
    return seen


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
@pytest.mark.parametrize("level", [0, 255])
def test_text_stands_below_the_image(picture, level):
    pixels = np.full((3 * SIZE, 20 * SIZE, 3), level, np.uint8)
    selection = select(pixels, block_size=SIZE)
    shown = picture(pixels, selection, PruneConfig())
    assert shown.mode == "RGB" and shown.width >= pixels.shape[1] and shown.height > pixels.shape[0]
    strip = np.asarray(shown)[-20:].min(axis=2)
    assert strip.max() < 60 or (strip > 180).mean() < 0.4  # the foot of the strip: its ground, at most letters


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_another_size_is_refused(picture):
    selection = select(np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(ImageError, match=r"of a uint8 image of 64 x 96 \(H x W\) pixels; got"):
        picture(np.zeros((96, 64, 3), np.uint8), selection)


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_pictures_follow_the_selection_and_leave_their_input_alone(picture):
    pixels = noisy_page()
    pixels.flags.writeable = False
    exact, near = select(pixels), select(pixels, PruneConfig(threshold=0.02))
    assert exact.num_kept > near.num_kept
    assert picture(pixels, exact).tobytes() != picture(pixels, near).tobytes()
    assert picture(Image.fromarray(pixels), near).tobytes() == picture(pixels, near).tobytes()


def test_grid_shows_kept_tiles_whole_and_no_other(examples):
    pixels = examples["slide.png"]
    selection = select(pixels)
    step, (rows, cols) = SIZE + SIZE // 8, selection.grid
    sheet = np.asarray(token_grid(pixels, selection))[step - SIZE : step - SIZE + rows * step]
    cells = sheet[:, step - SIZE : step - SIZE + cols * step].reshape(rows, step, cols, step, 3).swapaxes(1, 2)
    tiles = pixels.reshape(rows, SIZE, cols, SIZE, 3).swapaxes(1, 2)
    same = (cells[:, :, :SIZE, :SIZE] == tiles).all(axis=(2, 3, 4))
    np.testing.assert_array_equal(same, selection.keep)
    gone = cells[:, :, :SIZE, :SIZE][~selection.keep]
    assert (gone == gone[0, 0, 0]).all()


def test_packed_grid_shows_kept_tiles_in_reading_order(examples):
    pixels = examples["slide.png"]
    selection = select(pixels)
    step, (rows, cols) = SIZE + SIZE // 8, selection.grid
    sheet_rows = -(-selection.num_kept // cols)
    sheet = np.asarray(token_grid(pixels, selection, packed=True))[step - SIZE : step - SIZE + sheet_rows * step]
    cells = sheet[:, step - SIZE : step - SIZE + cols * step].reshape(sheet_rows, step, cols, step, 3).swapaxes(1, 2)
    tiles = pixels.reshape(rows, SIZE, cols, SIZE, 3).swapaxes(1, 2).reshape(-1, SIZE, SIZE, 3)
    shown = cells[:, :, :SIZE, :SIZE].reshape(-1, SIZE, SIZE, 3)[: selection.num_kept]
    np.testing.assert_array_equal(shown, tiles[selection.kept_indices])
    assert (shown != tiles[selection.kept_indices[::-1]]).any()


@pytest.mark.parametrize("method", CAUSAL)
@pytest.mark.parametrize("threshold", [0, 0.02])
def test_links_lead_from_every_dropped_block_to_its_source(method, threshold, examples):
    for name in ("slide.png", "application-form.png"):
        selection = select(examples[name], PruneConfig(method, threshold=threshold))
        assert selection.num_kept < selection.num_blocks
        assert reached(selection).all()


def test_links_join_only_blocks_of_one_source(examples):
    selection = select(examples["slide.png"])
    across, down = links(selection)
    source = selection.source
    assert (source[:, :-1][across] == source[:, 1:][across]).all() and across.any()
    assert (source[:-1][down] == source[1:][down]).all() and down.any()
    apart = Selection(np.arange(source.size, dtype=np.int32).reshape(source.shape), SIZE)
    assert not links(apart)[0].any() and not links(apart)[1].any()


def test_flow_gives_a_block_and_what_it_stands_for_one_colour():
    pixels = np.full((2 * SIZE, 4 * SIZE, 3), 255, np.uint8)
    pixels[SIZE:] = 0
    selection = select(pixels)  # the reference of the upper row is block 0, of the lower one block 4
    shown = np.asarray(source_flow(pixels, selection))[: 2 * SIZE, : 4 * SIZE]
    corner = shown[4::SIZE, 4::SIZE].astype(int)
    assert (corner[0, 1:] == corner[0, 1]).all() and (corner[1, 1:] == corner[1, 1]).all()
    assert np.abs(corner[0, 1] - corner[1, 1]).max() > 60
    assert (corner[0, 0] == 255).all() and (corner[1, 0] == 0).all()


def test_reconstruction_is_that_of_the_selection():
    pixels = noisy_page()
    selection = select(pixels, PruneConfig(threshold=0.02))
    shown = np.asarray(reconstruction(pixels, selection))[: pixels.shape[0]]
    np.testing.assert_array_equal(shown, selection.reconstruct(pixels))
    assert (shown != pixels).any()


def test_error_map_lights_up_exactly_where_the_reconstruction_is_off():
    pixels = np.full((4 * SIZE, 8 * SIZE, 3), 200, np.uint8)
    pixels[SIZE + 9, 3 * SIZE + 9, 1] += 2
    pixels[2 * SIZE + 9, 5 * SIZE + 9, 2] += 5
    selection = select(pixels, PruneConfig(threshold=0.02))
    assert selection.num_kept == 1
    shown = np.asarray(error_map(pixels, selection))[: pixels.shape[0]].astype(int)
    weak, strong = shown[SIZE + 9, 3 * SIZE + 9], shown[2 * SIZE + 9, 5 * SIZE + 9]
    lit = shown.max(axis=2) > 80
    assert lit.sum() == 2 * 9  # drawn three pixels wide
    assert strong.sum() > weak.sum() + 200
    exact = np.asarray(error_map(pixels, select(pixels)))[: pixels.shape[0]]
    assert exact.max() < 80


def test_error_scale_is_labelled_with_its_ends():
    pixels = np.full((4 * SIZE, 8 * SIZE, 3), 200, np.uint8)
    pictures = []
    for error in (1, 2, 3, 5):
        pixels[SIZE + 9, 3 * SIZE + 9] = 200 + error
        pictures.append(error_map(pixels, select(pixels, PruneConfig(threshold=0.02))))
    strips = [np.asarray(picture)[4 * SIZE :].tobytes() for picture in pictures]
    assert len(set(strips)) == 4


def test_strip_grows_with_the_width_so_that_a_phone_shows_it():
    bar = np.zeros((1, 3), np.uint8)
    for width in (384, 1920, 3840):
        strip = np.asarray(with_strip(Image.new("RGB", (width, 64)), ["HHHH"], bar))[64:].min(axis=2)
        rows = np.flatnonzero((strip > 150).any(axis=1))
        letter = (rows[-1] - rows[0] + 1) * 390 / width
        assert letter > 4  # points, of a capital letter on a phone 390 points wide


def test_blocks_that_only_the_lattice_keeps_are_framed_in_a_colour_of_their_own(examples):
    pixels = examples["slide.png"]
    selection = select(pixels, PruneConfig(lattice=3))
    assert selection.num_lattice > 20
    framed = np.zeros(selection.num_blocks, bool)
    framed[selection.lattice_indices] = True
    rows, cols = selection.grid
    plain = select(pixels)
    for draw in (overlay, token_grid):
        step = SIZE + SIZE // 8 if draw is token_grid else SIZE
        edge = step - SIZE
        tiles = np.asarray(draw(pixels, selection))[edge : edge + rows * step, edge : edge + cols * step]
        tiles = tiles.reshape(rows, step, cols, step, 3).swapaxes(1, 2)[:, :, :SIZE, :SIZE]
        rims = (tiles[:, :, [1, -2]][:, :, :, 1:-1] == LATTICE).all(axis=(2, 3, 4))
        np.testing.assert_array_equal(rims.ravel(), framed)
        insides = tiles[:, :, 4:-4, 4:-4].reshape(selection.num_blocks, -1)
        expected = pixels.reshape(rows, SIZE, cols, SIZE, 3).swapaxes(1, 2)[:, :, 4:-4, 4:-4]
        assert np.array_equal(insides[framed], expected.reshape(selection.num_blocks, -1)[framed])
        assert (np.asarray(draw(pixels, plain)) != LATTICE).any(axis=-1).all()  # control: no lattice, no frame


def test_the_bar_shows_what_the_method_keeps_and_what_the_lattice_adds():
    pixels = np.zeros((6 * SIZE, 6 * SIZE, 3), np.uint8)
    selection = select(pixels, PruneConfig(lattice=2))  # 1 of 36, and 8 more
    colours, counts = np.unique(retain_bar(selection), axis=0, return_counts=True)
    assert sorted(counts) == [1, 8, 27]
    assert counts[(colours == LATTICE).all(axis=1)] == [8]
