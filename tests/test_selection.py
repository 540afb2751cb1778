"""A selection is checked where it is made, cannot be written to, and is written and read back."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import CONFIGS, images

from pixelprune import PixelPruneError, Selection, select
from pixelprune.core.selection import FORMAT
from pixelprune.errors import SelectionError

SOURCE = np.array([[0, 0, 2], [0, 4, 4]], np.int32)


def same(a, b):
    return (
        np.array_equal(a.source, b.source)
        and np.array_equal(a.row_predictors, b.row_predictors)
        and np.array_equal(a.lattice_indices, b.lattice_indices)
        and (a.block_size, a.level) == (b.block_size, b.level)
    )


def arrays_of(selection):
    return [
        a
        for a in (
            selection.source,
            selection.keep,
            selection.kept_indices,
            selection.row_predictors,
            selection.lattice_indices,
        )
        if a is not None
    ]


def test_what_a_selection_holds():
    selection = Selection(SOURCE, 8, 5, np.array([0, 3], np.uint8))
    assert selection.kept_indices.tolist() == [0, 2, 4]
    assert selection.keep.tolist() == [[True, False, True], [False, True, False]]
    assert (selection.grid, selection.num_blocks, selection.num_kept, selection.retain_ratio) == ((2, 3), 6, 3, 0.5)
    assert (selection.block_size, selection.level) == (8, 5)


def test_block_0_need_not_be_kept():
    """References go anywhere in the image; the rules of today keep block 0, a selection does not have to."""
    assert Selection(np.array([[1, 1]], np.int32), 8).kept_indices.tolist() == [1]


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.int8, list])
def test_whole_numbers_of_any_kind_become_int32(kind):
    selection = Selection(SOURCE.tolist() if kind is list else SOURCE.astype(kind), np.int64(8), np.uint8(5), [0, 3])
    assert selection.source.dtype == np.int32 and selection.row_predictors.dtype == np.uint8
    assert (type(selection.block_size), type(selection.level)) == (int, int)
    assert same(selection, Selection(SOURCE, 8, 5, np.array([0, 3], np.uint8)))


def changed(index, value):
    source = SOURCE.copy()
    source.flat[index] = value
    return source


@pytest.mark.parametrize(
    "arguments, seen",
    [
        ((SOURCE.ravel(), 8), r"source must be .* 2 dimensions; got int32 of shape \(6,\)"),
        ((SOURCE[None], 8), r"got int32 of shape \(1, 2, 3\)"),
        ((SOURCE.astype(float), 8), "source must be .* whole numbers .* got float64"),
        ((SOURCE > 0, 8), "got bool"),
        ((None, 8), "got object of shape"),
        (([[0, 0], [0]], 8), "source must be .* got object"),
        ((SOURCE[:0], 8), "0 blocks; got no block"),
        ((changed(1, -1), 8), "indices of 6 blocks; got -1 to 4"),
        ((changed(1, 6), 8), "indices of 6 blocks; got 0 to 6"),
        ((SOURCE.astype(np.int64) + 2**32, 8), "from -2147483648 to 2147483647; got 4294967296 to 4294967300"),
        (
            (changed(1, 3), 8),
            "must be a kept block, .*; block 1 has 3, which has 0",
        ),  # the reference of a dropped block
        ((changed(0, 2), 8), "block 1 has 0, which has 2"),  # a kept block that is no longer its own reference
        ((SOURCE, 0), "block_size must be .* got 0"),
        ((SOURCE, 8.0), "block_size must be .* got 8.0"),
        ((SOURCE, True), "block_size must be .* got True"),
        ((SOURCE, 8, -1), "level must be .* got -1"),
        ((SOURCE, 8, 256), "level must be .* got 256"),
        ((SOURCE, 8, 5.0), "level must be .* got 5.0"),
        ((SOURCE, 8, 0, np.array([0, 4])), "one of 0 to 3 for each of 2 rows; got 2 of up to 4"),
        ((SOURCE, 8, 0, np.array([0])), "for each of 2 rows; got 1 of up to 0"),
        ((SOURCE, 8, 0, np.array([0.0, 1.0])), "row_predictors must be .* 1 dimensions; got float64"),
        ((SOURCE, 8, 0, None, [3]), "lattice_indices must be flat indices of kept blocks"),
        ((SOURCE, 8, 0, None, [4, 0]), "lattice_indices must be .* ascending"),
        ((SOURCE, 8, 0, None, [6]), "lattice_indices must be flat indices"),
        ((SOURCE, 8, 0, None, [[0]]), "lattice_indices must be .* 1 dimensions"),
        ((SOURCE, 8, 0, np.array([0, 256])), "row_predictors must hold numbers from 0 to 255; got 0 to 256"),
    ],
)
def test_a_selection_that_is_not_consistent_is_refused(arguments, seen):
    with pytest.raises(SelectionError, match=seen) as caught:
        Selection(*arguments)
    assert isinstance(caught.value, (PixelPruneError, ValueError))
    assert "\n" not in str(caught.value)


def test_every_wrong_reference_is_seen():
    """Of all values that one entry can have, those that are taken are the ones that a slow check takes."""
    for index in range(6):
        for value in range(6):
            source = changed(index, value)
            sound = all(source.flat[reference] == reference for reference in source.flat)
            try:
                Selection(source, 8)
            except SelectionError:
                assert not sound
            else:
                assert sound


@settings(max_examples=60, deadline=None)
@given(drawn=images(), config=CONFIGS, way=st.sampled_from(("copy", "deepcopy", "pickle", "replace", "dict", "json")))
def test_copies_are_equal_and_read_only(drawn, config, way):
    image, size = drawn
    selection = select(image, config.replace(max_tokens=None), block_size=size)
    selection.kept_indices  # noqa: B018  (cached values must not travel as arrays that can be written to)
    other = {
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "pickle": lambda s: pickle.loads(pickle.dumps(s)),
        "replace": dataclasses.replace,
        "dict": lambda s: Selection.from_dict(s.to_dict()),
        "json": lambda s: Selection.from_dict(json.loads(json.dumps(s.to_dict()))),
    }[way](selection)
    assert other is not selection and same(other, selection)
    for array in (*arrays_of(selection), *arrays_of(other)):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert np.array_equal(other.reconstruct(image), selection.reconstruct(image))


def test_the_callers_array_stays_the_callers():
    source, choices = SOURCE.copy(), np.zeros(2, np.uint8)
    selection = Selection(source, 8, row_predictors=choices)
    source[0, 1], choices[0] = 1, 3
    assert selection.source[0, 1] == 0 and selection.row_predictors[0] == 0
    assert source.flags.writeable and choices.flags.writeable


@pytest.mark.parametrize("choices", [None, np.array([0, 3], np.uint8)], ids=["no choices", "choices"])
def test_a_file_is_read_back(choices, tmp_path):
    selection = Selection(SOURCE, 8, 5, choices, None if choices is None else [2, 4])
    selection.save(tmp_path / "selection.npz")
    assert same(Selection.load(tmp_path / "selection.npz"), selection)
    assert not same(Selection.load(tmp_path / "selection.npz"), dataclasses.replace(selection, level=6))
    with np.load(tmp_path / "selection.npz") as file:
        assert file["format"] == FORMAT


@pytest.mark.parametrize(
    "values, seen",
    [
        ({"format": FORMAT + 1}, f"must be of format {FORMAT}; got {FORMAT + 1}"),
        ({"format": None}, f"must be of format {FORMAT}; got None"),
        ({"level": 300}, "level must be .* got 300"),
        ({"source": [[1, 0]]}, "must be a kept block"),
        ({"image": 3}, "a selection has block_size, format, lattice_indices, level, .*; got .*image"),
    ],
)
def test_another_format_is_refused(values, seen, tmp_path):
    good = Selection(SOURCE, 8).to_dict()
    with pytest.raises(SelectionError, match=seen):
        Selection.from_dict({**good, **values})
    arrays = {name: value for name, value in {**good, **values}.items() if value is not None}
    np.savez(tmp_path / "selection.npz", **arrays)
    with pytest.raises(SelectionError, match=f"selection.npz: .*{seen}"):
        Selection.load(tmp_path / "selection.npz")


def test_what_is_no_selection_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("a selection")
    np.save(tmp_path / "array.npy", SOURCE)
    np.savez(tmp_path / "objects.npz", source=np.array([{}], object))
    for name in ("text.npz", "array.npy", "objects.npz"):
        with pytest.raises(SelectionError, match=f"{name}: not a selection in an .npz file"):
            Selection.load(tmp_path / name)
    with pytest.raises(SelectionError, match=r"missing.npz: cannot be read \(No such file"):
        Selection.load(tmp_path / "missing.npz")
    with pytest.raises(SelectionError, match=f"must be of format {FORMAT}; got None"):
        Selection.from_dict({})
    with pytest.raises(SelectionError, match=f"must be of format {FORMAT}; got 5"):
        Selection.from_dict(5)
    values = Selection(SOURCE, 8).to_dict()
    del values["level"]
    with pytest.raises(SelectionError, match="a selection has block_size, format, lattice_indices, level"):
        Selection.from_dict(values)


def test_a_lattice_that_adds_nothing_is_not_no_lattice():
    """Of an empty list numpy makes an array of floats."""
    selection = Selection(SOURCE, 8, lattice_indices=[])
    again = Selection.from_dict(json.loads(json.dumps(selection.to_dict())))
    assert again.lattice_indices is not None and again.lattice_indices.dtype == np.int32 and not again.num_lattice
