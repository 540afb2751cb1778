"""pixelprune_kept: what is written is read back, however rows are padded, joined, sliced or lengthened."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelprune.errors import PrunedInputError
from pixelprune.hf.kept import KEPT, KeptImage, read_kept, write_kept

TEXT, HOLE, PAD = 7, 99, 0


def indices(draw: st.DrawFn, size: int, first: bool) -> np.ndarray:
    kept = draw(st.sets(st.integers(0, size - 1), min_size=1))
    return np.array(sorted({0, *kept} if first else kept), np.int32)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
    """Rows of text and images in any order, padded to one length; per image its kept blocks and its blocks.

    The first image of a row keeps its first block; later ones, which may refer to it, need not.
    """
    rows, kept, blocks = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        row: list[int] = []
        for number in range(draw(st.integers(0, 3))):
            row += [TEXT] * draw(st.integers(number > 0, 2))
            blocks.append(draw(st.integers(1, 9)))
            kept.append(indices(draw, blocks[-1], first=number == 0))
            row += [HOLE] * len(kept[-1])
        rows.append(row + [TEXT] * draw(st.integers(0, 2)))
    width = max(len(row) for row in rows) + 1
    left = draw(st.booleans())
    padded = [[PAD] * (width - len(row)) + row if left else row + [PAD] * (width - len(row)) for row in rows]
    return [np.array(row) for row in padded], kept, blocks


def described(images: list[KeptImage]) -> list[tuple[int, list[int], list[int], int]]:
    return [(i.row, i.tokens.tolist(), i.kept.tolist(), i.blocks) for i in images]


def expected(
    rows: list[np.ndarray], kept: list[np.ndarray], blocks: list[int]
) -> list[tuple[int, list[int], list[int], int]]:
    """Walk over the tokens and take each image's in turn."""
    images, number = [], 0
    for row, ids in enumerate(rows):
        holes = [place for place, token in enumerate(ids.tolist()) if token == HOLE]
        while holes:
            count = len(kept[number])
            images.append((row, holes[:count], kept[number].tolist(), blocks[number]))
            holes, number = holes[count:], number + 1
    return images


@given(batches(), st.integers(0, 4))
def test_written_and_read(batch: tuple[list[np.ndarray], list[np.ndarray], list[int]], more: int) -> None:
    rows, kept, blocks = batch
    values = np.stack(write_kept(rows, HOLE, kept, blocks))
    ids = np.stack(rows)
    assert values.shape == ids.shape and ((values > 0) == (ids == HOLE)).all()
    assert described(read_kept(values, ids == HOLE, blocks)) == expected(rows, kept, blocks)
    # A collator that appends answers to prompts leaves this tensor as it was.
    longer = np.concatenate([ids, np.full((len(ids), more), TEXT)], 1)
    assert described(read_kept(values, longer == HOLE, blocks)) == expected(list(longer), kept, blocks)
    # Rows behind one another, as packing joins them.
    joined = np.concatenate(rows)[None]
    packed = read_kept(np.concatenate(list(values))[None], joined == HOLE, blocks)
    assert [image.kept.tolist() for image in packed] == [k.tolist() for k in kept]
    assert [image.row for image in packed] == [0] * len(kept)
    # Slices of rows, with the images of those rows.
    for row in range(len(rows)):
        own = [image for image in expected(rows, kept, blocks) if image[0] == row]
        part = read_kept(values[row : row + 1], ids[row : row + 1] == HOLE, [image[3] for image in own])
        assert [image.kept.tolist() for image in part] == [image[2] for image in own]


@given(batches())
def test_nothing_pruned(batch: tuple[list[np.ndarray], list[np.ndarray], list[int]]) -> None:
    """Without the tensor every image is whole, and reads as the tensor of whole images does."""
    rows, kept, blocks = batch
    whole = []
    number = 0
    for ids in rows:
        row, holes = [], int((ids == HOLE).sum())
        while holes:
            holes -= len(kept[number])
            row += [TEXT, *[HOLE] * blocks[number]]
            number += 1
        whole.append(row)
    width = max(map(len, whole)) + 1
    ids = np.array([row + [PAD] * (width - len(row)) for row in whole])
    every = [np.arange(size) for size in blocks]
    values = np.stack(write_kept(list(ids), HOLE, every, blocks))
    images = read_kept(None, ids == HOLE, blocks)
    assert described(images) == described(read_kept(values, ids == HOLE, blocks))
    assert all(image.is_whole for image in images)


ROW = np.array([TEXT, HOLE, HOLE, HOLE, TEXT, HOLE, HOLE, PAD])
VALUES = np.array([0, 1, 3, 4, 0, 7, 12, 0])  # blocks 0, 2, 3 of 4, and 2, 7 of 8


@pytest.mark.parametrize(
    ("values", "blocks", "message"),
    [
        (VALUES[None, :-2], [4, 8], r"row 0 of input_ids has 5 image tokens but row 0 of pixelprune_kept has 4 blocks"),
        (np.roll(VALUES, 1)[None], [4, 8], r"has 5 blocks at other places"),
        (np.stack([VALUES, VALUES]), [4, 8], r"must have the rows of input_ids, 1; got shape \(2, 8\)"),
        (VALUES[None], [4], r"block 6 in row 0 of pixelprune_kept is in none of its images, which have \[4\] blocks"),
        (VALUES[None], [4, 8, 2], r"image_grid_thw has 3 images but pixelprune_kept has blocks of 2"),
        (VALUES[None], [4, 7], r"block 11 in row 0 .* is in none of its images"),
        (np.array([[0, 2, 3, 4, 0, 7, 12, 0]]), [4, 8], r"does not begin with the first block of an image"),
        (np.array([[0, 1, 4, 3, 0, 7, 12, 0]]), [4, 8], r"do not ascend"),
        (np.array([[0, 1, 3, 4, 0, -7, 12, 0]]), [4, 8], r"do not ascend"),
        (None, [4, 8], r"row 0 of input_ids has 5 image tokens, which are not those of whole images"),
    ],
)
def test_what_does_not_fit_together_is_refused(values: np.ndarray | None, blocks: list[int], message: str) -> None:
    read = read_kept(VALUES[None], ROW[None] == HOLE, [4, 8])
    assert [image.kept.tolist() for image in read] == [[0, 2, 3], [2, 7]]
    with pytest.raises(PrunedInputError, match=message):
        read_kept(values, ROW[None] == HOLE, blocks)


def test_placeholders_of_other_images_are_refused() -> None:
    for kept in ([np.array([0, 1])], [np.array([0, 1]), np.array([0]), np.array([0, 1]), np.array([0])]):
        with pytest.raises(PrunedInputError, match=r"row 0 has (5 image tokens|a run of)|were passed but the text has"):
            write_kept([ROW], HOLE, kept, [4] * len(kept))
    assert KEPT == "pixelprune_kept"
