"""Patterns of dropped blocks that are kept as well: equal in number, only dropped blocks, and each of its own kind."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.tiny_reader import patterns


def masks():
    """Dropped blocks of pages of many shapes, from almost none to all."""
    rng = np.random.default_rng(3)
    for rows, columns in ((1, 1), (1, 9), (7, 4), (16, 20), (20, 13)):
        for share in (0.1, 0.5, 0.9, 1.0):
            yield rng.random((rows, columns)) < share


@pytest.mark.parametrize("step", [2, 4, 6])
def test_every_pattern_adds_as_many_dropped_blocks_as_the_regular_lattice(step) -> None:
    differ = 0
    for dropped in masks():
        regular = np.flatnonzero(dropped & patterns.grid(dropped.shape, step, step))
        for name in patterns.PATTERNS:
            found = patterns.added(name, dropped, step)
            assert len(set(found.tolist())) == len(found) == len(regular)
            assert dropped.flat[found].all() and (np.diff(found) > 0).all()
            differ += name != "regular" and found.tolist() != regular.tolist()
        assert patterns.added("regular", dropped, step).tolist() == regular.tolist()
    assert differ > 50


def test_what_patterns_prefer_is_what_their_names_say() -> None:
    everything = np.ones((16, 16), bool)
    places = {name: np.argwhere(patterns.PATTERNS[name](everything, 4)[0]) for name in ("staggered", "sparser in rows")}
    assert places["staggered"][:6].tolist() == [[0, 0], [0, 4], [0, 8], [0, 12], [4, 2], [4, 6]]
    assert sorted({row for row, _ in places["sparser in rows"].tolist()}) == [0, 8]
    # A region of 20 blocks, one of 3, and one block at a corner of the first, which does not touch it at a side.
    dropped = np.zeros((8, 8), bool)
    dropped[0:4, 0:5] = dropped[7, 3:6] = dropped[4, 5] = True
    assert sorted(len(region) for region in patterns.regions(dropped)) == [1, 3, 20]
    assert np.flatnonzero(patterns.large(dropped)).size == 20 and patterns.large(dropped)[:4, :5].all()
    assert np.argwhere(patterns.centres(dropped)).tolist()[1:] == [[4, 5], [7, 4]]
    # Kept blocks touch all but those of the first region that are not at its right or lower edge: the image's edge is
    # no block.
    inside = [[row, column] for row in range(3) for column in range(4)]
    assert np.argwhere(dropped & ~patterns.beside_kept(dropped)).tolist() == inside
