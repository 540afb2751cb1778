"""Where kept blocks lie, against twins that count one token, one patch, one window at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelprune.core.geometry import expand, joined_blocks, kept_windows, rows_of_blocks, sequence_bounds

TEXT, HOLE = 7, 99


@st.composite
def kept_images(draw: st.DrawFn) -> tuple[list[np.ndarray], list[int]]:
    """Per image its kept blocks, at least one, and how many blocks it has."""
    blocks = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    kept = [draw(st.sets(st.integers(0, size - 1), min_size=1)) for size in blocks]
    return [np.array(sorted(indices), np.int32) for indices in kept], blocks


@given(kept_images(), st.sampled_from([1, 4, 9]))
def test_rows_and_bounds(images: tuple[list[np.ndarray], list[int]], unit: int) -> None:
    kept, blocks = images
    rows, bounds, offset = [], [0], 0
    for indices, size in zip(kept, blocks, strict=True):
        for index in indices.tolist():
            rows += [(offset + index) * unit + inner for inner in range(unit)]
        bounds.append(len(rows))
        offset += size
    assert rows_of_blocks(joined_blocks(kept, blocks), unit).tolist() == rows
    assert sequence_bounds([len(indices) for indices in kept], unit).tolist() == bounds
    assert sequence_bounds([1], 4).dtype == np.int32
    # Control: the blocks of an image alone, without those before it.
    if len(kept) > 1:
        assert np.concatenate(kept).tolist() != joined_blocks(kept, blocks).tolist()


@given(kept_images(), st.randoms(), st.lists(st.integers(1, 4), max_size=8))
def test_windows(images: tuple[list[np.ndarray], list[int]], random: object, widths: list[int]) -> None:
    """Walk through the windows, leave out what is pruned, number what is left."""
    kept, blocks = images
    everything, total, unit = joined_blocks(kept, blocks), sum(blocks), 4
    order = list(range(total))
    random.shuffle(order)  # type: ignore[attr-defined]
    ends = sorted({0, total, *(min(total, sum(widths[: n + 1])) for n in range(len(widths)))})
    names = {block: rank for rank, block in enumerate(everything.tolist())}
    expected, bounds = [], [0]
    for begin, end in pairwise(ends):
        window = [names[block] for block in order[begin:end] if block in names]
        expected += window
        if window:
            bounds.append(len(expected) * unit)
    index, got = kept_windows(np.array(order), np.array([end * unit for end in ends]), everything, unit)
    assert index.tolist() == expected and got.tolist() == bounds and got.dtype == np.int32
    repeated = np.array([end * unit for end in ends for _ in range(2)])
    assert kept_windows(np.array(order), repeated, everything, unit)[1].tolist() == bounds


@given(kept_images(), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_expand(images: tuple[list[np.ndarray], list[int]], texts: list[int]) -> None:
    """Text of some lengths, none too, before, between and after the images."""
    kept, blocks = images
    ids: list[int] = []
    block: list[int] = []
    full: list[int] = []
    at: list[int] = []
    offset = 0
    for number, text in enumerate(texts):
        ids += [TEXT] * text
        block += [-1] * text
        at += range(len(full), len(full) + text)
        full += [TEXT] * text
        if number < len(kept):
            ids += [HOLE] * len(kept[number])
            block += (kept[number] + offset).tolist()
            at += (kept[number] + len(full)).tolist()
            full += [HOLE] * blocks[number]
            offset += blocks[number]
    got, where = expand(np.array(ids), np.array(block), blocks, HOLE)
    assert got.tolist() == full and where.tolist() == at
    assert got[where].tolist() == ids
    holes = [HOLE + number for number in range(len(kept))]
    for place, index in enumerate(block):
        if index >= 0:
            ids[place] = holes[int(np.searchsorted(np.cumsum(blocks), index, side="right"))]
    several, _ = expand(np.array(ids), np.array(block), blocks, holes)
    assert np.bincount(several, minlength=HOLE + 9)[HOLE : HOLE + len(kept)].tolist() == blocks
    assert several[where].tolist() == ids and np.where(several >= HOLE, HOLE, several).tolist() == full
    # Control: one block more in the first image moves all that follows.
    if len(kept) > 1 or texts[1]:
        moved = np.where(np.array(block) >= blocks[0], np.array(block) + 1, block)
        assert expand(np.array(ids), moved, [blocks[0] + 1, *blocks[1:]], HOLE)[1].tolist() != at


@pytest.mark.parametrize("length", [0, 3])
def test_expand_without_images(length: int) -> None:
    got, where = expand(np.full(length, TEXT), np.full(length, -1), [], HOLE)
    assert got.tolist() == [TEXT] * length and where.tolist() == list(range(length))
