"""A lattice adds its blocks to what the method keeps, and changes nothing else."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import THRESHOLDS, images

from pixelprune import PruneConfig, select
from pixelprune.core.config import METHODS, METRICS
from pixelprune.errors import BudgetError

RULES = tuple(method for method in METHODS if method != "random")
CAUSAL = tuple(method for method in RULES if method != "components")


def differences(selection, plain, step):
    """Where a selection is not the one without a lattice with the lattice's blocks added: a list of words."""
    source, added = reference.add_lattice(plain.source, step)
    found = []
    if not np.array_equal(selection.source, source):
        found.append("source")
    if not np.array_equal(selection.lattice_indices, added) or selection.num_lattice != len(added):
        found.append("lattice")
    if selection.num_kept != plain.num_kept + len(added):
        found.append("count")
    if not set(plain.kept_indices) <= set(selection.kept_indices):
        found.append("kept")
    if selection.level != plain.level or not np.array_equal(selection.row_predictors, plain.row_predictors):
        found.append("side information")
    return found


@pytest.mark.parametrize("method", RULES)
@settings(max_examples=60, deadline=None)
@given(drawn=images(), step=st.integers(2, 7), anchored=st.booleans())
def test_the_lattice_is_added_and_nothing_else_changes(method, drawn, step, anchored):
    image, size = drawn
    for metric, threshold in itertools.product(METRICS, THRESHOLDS):
        config = PruneConfig(method, metric, threshold, anchored)
        plain, selection = (select(image, c, block_size=size) for c in (config, config.replace(lattice=step)))
        assert differences(selection, plain, step) == [], config
        assert plain.lattice_indices is None and plain.num_lattice == 0
        assert selection.keep[::step, ::step].all()
        rebuilt = selection.reconstruct(image)
        if threshold == 0:
            assert np.array_equal(rebuilt, image)
        blocks, again = (reference.blocks_of(pixels, size)[0] for pixels in (image, rebuilt))
        assert all(np.array_equal(blocks[i], again[i]) for i in selection.lattice_indices)


def test_the_comparison_sees_every_kind_of_difference(examples):
    """Control: one lattice block left out, one that is none, another reference, another list."""
    image = examples["docs-page.png"][:320, :384]
    plain, right = select(image), select(image, PruneConfig(lattice=3))
    assert right.num_lattice > 3 and differences(right, plain, 3) == []
    assert differences(right, plain, 4) == ["source", "lattice", "count"]

    def with_source(i, value):
        source = right.source.copy()
        source.flat[i] = value
        lattice = right.lattice_indices
        return replace(right, source=source, lattice_indices=lattice[source.flat[lattice] == lattice])

    first = right.lattice_indices[0]
    dropped = np.flatnonzero(~right.keep)[0]
    other = next(i for i in right.kept_indices if i != right.source.flat[dropped])
    assert differences(with_source(first, plain.source.flat[first]), plain, 3) == ["source", "lattice", "count"]
    assert differences(with_source(dropped, dropped), plain, 3) == ["source", "count"]
    assert differences(with_source(dropped, other), plain, 3) == ["source"]
    assert differences(with_source(plain.kept_indices[-1], 0), plain, 3) == ["source", "count", "kept"]
    assert differences(replace(right, lattice_indices=right.lattice_indices[1:]), plain, 3) == ["lattice"]
    assert differences(replace(right, level=1), plain, 3) == ["side information"]


@pytest.mark.parametrize("method", CAUSAL)
def test_an_exact_selection_with_a_lattice_decodes(method, examples):
    """A lattice block equals its prediction at threshold 0, so that a decoder needs no word of the lattice."""
    image = examples["dashboard-dark.png"]
    selection = select(image, PruneConfig(method, lattice=4))
    assert selection.num_lattice > 50
    blocks, grid = reference.blocks_of(image, 32)
    kept = [blocks[i] for i in selection.kept_indices]
    assert np.array_equal(reference.decode(method, selection.keep, kept, selection.row_predictors, grid), image)


@pytest.mark.parametrize("step", [2, 3, 4, 6])
def test_every_method_on_real_images(real_pixels, step):
    for method, threshold in itertools.product(RULES, (0, 0.05)):
        config = PruneConfig(method, threshold=threshold)
        assert differences(select(real_pixels, config.replace(lattice=step)), select(real_pixels, config), step) == []


def test_a_lattice_that_is_wider_than_the_image_changes_nothing(examples):
    image = examples["slide.png"]
    selection = select(image, PruneConfig(lattice=10**6))
    assert np.array_equal(selection.source, select(image).source)
    assert selection.num_lattice == 0 and selection.lattice_indices.dtype == np.int32


@settings(max_examples=60, deadline=None)
@given(drawn=images(), step=st.integers(2, 5), seed=st.integers(0, 99), threshold=st.sampled_from(THRESHOLDS))
def test_random_keeps_as_many_as_pred2d_with_the_lattice(drawn, step, seed, threshold):
    image, size = drawn
    config = PruneConfig("random", threshold=threshold, seed=seed, lattice=step)
    drawn_blocks = select(image, config, block_size=size)
    assert drawn_blocks.num_kept == select(image, config.replace(method="pred2d"), block_size=size).num_kept
    assert drawn_blocks.lattice_indices is None  # they are drawn, not placed


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40, deadline=None)
@given(drawn=images(), step=st.integers(2, 5), metric=st.sampled_from(METRICS), data=st.data())
def test_a_budget_counts_the_lattice(method, drawn, step, metric, data):
    """A level at which method and lattice together fit, above one at which they do not; refused where the lattice alone
    does not. Where counts fall with the level, it is the lowest that fits."""
    image, size = drawn
    total = image.shape[0] * image.shape[1] // size**2
    budget = data.draw(st.integers(1, total))
    config = PruneConfig(method, metric, lattice=step)
    rows, cols = image.shape[0] // size, image.shape[1] // size
    least = len(range(0, rows, step)) * len(range(0, cols, step))
    if least > budget:
        with pytest.raises(BudgetError, match=rf"lattice={step} alone keeps {least} of {total} .*max_tokens={budget};"):
            select(image, config.replace(max_tokens=budget), block_size=size)
        return
    chosen = select(image, config.replace(max_tokens=budget), block_size=size)
    assert chosen.num_kept <= budget
    used = config.replace(metric=chosen.metric)
    least = 0 if chosen.metric == metric else 1
    levels = range(least, chosen.level + 1)
    at_level = [select(image, used.replace(threshold=level / 255), block_size=size) for level in levels]
    fits = [each.num_kept <= budget for each in at_level]
    assert fits[-1] and not any(fits[-2:-1])
    counts = [each.num_kept for each in at_level]
    if counts == sorted(counts, reverse=True):
        assert fits == [False] * (chosen.level - least) + [True]
    assert np.array_equal(chosen.source, at_level[-1].source)
