"""The rules do what their definitions say: equal to a slow twin, decodable, and with a bounded loss."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import THRESHOLDS, images

from pixelprune import PruneConfig, select
from pixelprune.core.config import METHODS, METRICS

RULES = tuple(method for method in METHODS if method != "random")
CAUSAL = ("pred2d", "adaptive", "raster", "serpentine")


def crop(image, size, rows=8, cols=9):
    """Blocks from the middle of a real image, where most of the content is."""
    top, left = image.shape[0] // 3, image.shape[1] // 3
    return image[top : top + rows * size, left : left + cols * size]


def differences(selection, image, size, config):
    """Where a selection is not what the slow twin selects: a list of words, empty if equal."""
    source, choices = reference.select(
        image, size, config.method, config.metric, config.threshold, anchored=config.anchored
    )
    found = []
    if not np.array_equal(selection.source, source):
        found.append("source")
    if not np.array_equal(selection.keep, source == np.arange(source.size).reshape(source.shape)):
        found.append("keep")
    if (choices is None) != (selection.row_predictors is None) or (
        choices is not None and not np.array_equal(selection.row_predictors, choices)
    ):
        found.append("row predictors")
    return found


def decode(selection, image, method, keep=None, row_predictors=None):
    """The image as a decoder rebuilds it from the keep mask, the kept blocks and the row choices."""
    keep = selection.keep if keep is None else keep
    row_predictors = selection.row_predictors if row_predictors is None else row_predictors
    blocks, grid = reference.blocks_of(image, selection.block_size)
    kept_blocks = [blocks[i] for i in np.flatnonzero(keep)]
    return reference.decode(method, keep, kept_blocks, row_predictors, grid)


def error(selection, image):
    """The largest difference, in 8-bit levels, that pruning makes."""
    return int(np.abs(selection.reconstruct(image).astype(np.int16) - image).max())


@pytest.mark.parametrize("anchored", [True, False], ids=["anchored", "sliding"])
@pytest.mark.parametrize("method", RULES)
@settings(max_examples=100, deadline=None)
@given(drawn=images())
def test_equals_the_slow_twin(method, anchored, drawn):
    image, size = drawn
    for metric, threshold in itertools.product(METRICS, THRESHOLDS):
        config = PruneConfig(method, metric, threshold, anchored)
        assert differences(select(image, config, block_size=size), image, size, config) == [], config


@pytest.mark.parametrize("size", [14, 28, 32])
def test_equals_the_slow_twin_on_real_images(real_pixels, size):
    image = crop(real_pixels, size)
    for method, metric, threshold, anchored in itertools.product(RULES, METRICS, THRESHOLDS, (True, False)):
        config = PruneConfig(method, metric, threshold, anchored)
        assert differences(select(image, config, block_size=size), image, size, config) == [], config


def test_the_comparison_sees_every_kind_of_difference(examples):
    """Control: one wrong source, one block more or fewer, one wrong row choice, or none at all."""
    image, config = crop(examples["docs-page.png"], 32), PruneConfig("adaptive")
    right = select(image, config)
    assert differences(right, image, 32, config) == []
    dropped, kept = np.flatnonzero(~right.keep)[-1], right.kept_indices

    def with_source(i, value):
        source = right.source.copy()
        source.flat[i] = value
        return replace(right, source=source)

    other_choice = right.row_predictors.copy()
    other_choice[-1] = (other_choice[-1] + 1) % 4
    other_kept = next(i for i in kept if i != right.source.flat[dropped])
    assert differences(with_source(dropped, other_kept), image, 32, config) == ["source"]
    assert differences(with_source(dropped, dropped), image, 32, config) == ["source", "keep"]
    assert differences(with_source(kept[-1], 0), image, 32, config) == ["source", "keep"]
    assert differences(replace(right, row_predictors=other_choice), image, 32, config) == ["row predictors"]
    assert differences(replace(right, row_predictors=None), image, 32, config) == ["row predictors"]


@pytest.mark.parametrize("metric, limit", [("max", 0), ("max", 1), ("mae", 1), ("rmse", 1)])
@pytest.mark.parametrize("size, channels", [(1, 1), (3, 1), (4, 1), (4, 3), (7, 3), (8, 3)])
def test_every_value_of_a_block_counts(size, channels, metric, limit):
    """Beside a gray block, a block in which any one value differs by one unit more than allowed, or just not."""
    values = size * size * channels
    threshold = {"max": limit, "mae": limit / values, "rmse": (limit / values) ** 0.5}[metric] / 255
    image = np.full((size, 2 * size, channels), 128, np.uint8)
    for y, x, channel in np.ndindex(size, size, channels):
        for sign in (1, -1):
            for step, kept in ((limit, 1), (limit + 1, 2)):
                image[y, size + x, channel] = 128 + sign * step
                for method in RULES:
                    assert select(image, PruneConfig(method, metric, threshold), block_size=size).num_kept == kept
        image[y, size + x, channel] = 128


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize(
    "metric, threshold, changed",
    [
        ("max", 0.02, {5: 1}),  # one value by 5 levels: 0.02 * 255 = 5.1
        ("max", 0.3, {76: 100}),  # 76.5
        ("max", 1, {255: 100}),
        ("mae", 0.02, {5: 90, 6: 10}),  # 510 levels over 100 values
        ("mae", 0.004, {1: 98, 2: 2}),  # 1.02
        ("rmse", 0.02, {51: 1}),  # 2601 = 5.1**2 * 100
        ("rmse", 0.3, {153: 25}),  # 153**2 / 4 = 76.5**2
    ],
)
def test_a_distance_of_exactly_the_threshold_is_equal(method, metric, threshold, changed):
    """Two blocks of 10 x 10 values: as far apart as allowed, and one value by one level further."""
    second = np.repeat(list(changed), list(changed.values()))
    second = np.pad(second, (0, 100 - second.size)).reshape(10, 10)
    further = second.copy()
    further.flat[np.argmax(second)] += 1
    config = PruneConfig(method, metric, threshold)

    def kept(block):
        image = np.hstack([np.zeros((10, 10)), block]).astype(np.uint8)[..., None]
        return select(image, config, block_size=10).num_kept

    assert kept(second) == 1
    if further.max() <= 255:
        assert kept(further) == 2


@pytest.mark.parametrize("metric", METRICS)
def test_a_threshold_written_as_a_fraction_means_its_level(metric):
    """Two one-value blocks as far apart as a level: equal at that level, be it rounded up or down, and not below."""
    for level in range(1, 256):
        image = np.array([[0, level]], np.uint8)[..., None]
        for threshold, kept in (
            (level / 255, 1),
            (math.nextafter(level / 255, 0), 1),
            ((level - 0.001) / 255, 2),
        ):
            assert select(image, PruneConfig("pred2d", metric, threshold), block_size=1).num_kept == kept


@pytest.mark.parametrize(
    "above, row, counts",
    [  # two rows of one-value blocks, and the blocks of the second that pred2d, left, above, pred2d-up would keep
        ("0001", "0221", (2, 2, 2, 1)),
        ("0000", "0010", (2, 2, 1, 2)),
        ("0001", "0000", (1, 0, 1, 1)),
        ("0101", "0122", (1, 2, 2, 2)),
        ("0001", "0021", (2, 2, 1, 1)),
        ("0010", "2211", (3, 2, 3, 2)),
        ("0001", "0100", (3, 2, 2, 3)),
        ("0010", "1110", (1, 2, 2, 1)),
        ("0110", "2210", (2, 3, 2, 3)),
        ("0001", "0022", (1, 1, 2, 2)),
        ("0010", "0211", (3, 2, 2, 2)),
        ("0001", "0001", (0, 1, 0, 0)),
        ("0000", "0011", (1, 1, 2, 1)),
        ("0001", "1022", (3, 3, 3, 4)),
        ("0000", "0000", (0, 0, 0, 0)),
    ],
)
def test_adaptive_takes_the_first_of_the_row_predictors_that_keep_fewest(above, row, counts):
    image = np.array([list(above), list(row)]).astype(np.uint8)[..., None]
    selection = select(image, PruneConfig("adaptive"), block_size=1)
    assert selection.keep[1].sum() == min(counts)
    assert selection.row_predictors.tolist() == [0, counts.index(min(counts))]


@settings(max_examples=100, deadline=None)
@given(drawn=images(), metric=st.sampled_from(METRICS), threshold=st.sampled_from(THRESHOLDS), anchored=st.booleans())
def test_every_selection_is_sound(drawn, metric, threshold, anchored):
    image, size = drawn
    for method in METHODS:
        selection = select(image, PruneConfig(method, metric, threshold, anchored), block_size=size)
        total = image.shape[0] // size * (image.shape[1] // size)
        kept = selection.kept_indices
        assert selection.keep[0, 0]
        assert (np.diff(kept) > 0).all()
        assert np.array_equal(kept, np.flatnonzero(selection.keep))
        assert np.isin(selection.source, kept).all()
        assert selection.source.dtype == kept.dtype == np.int32
        assert (selection.num_kept, selection.num_blocks) == (kept.size, total)
        assert selection.retain_ratio == kept.size / total
        blocks, grid = reference.blocks_of(image, size)
        assert selection.grid == selection.source.shape == selection.keep.shape == grid
        rebuilt = reference.image_of([blocks[i] for i in selection.source.flat], grid)
        assert np.array_equal(selection.reconstruct(image), rebuilt)


@settings(max_examples=100, deadline=None)
@given(drawn=images(longest=8))
def test_a_decoder_rebuilds_the_image_at_threshold_0(drawn):
    image, size = drawn
    for method in CAUSAL:
        selection = select(image, PruneConfig(method), block_size=size)
        assert np.array_equal(decode(selection, image, method), image), method
        assert np.array_equal(selection.reconstruct(image), image), method


def test_a_decoder_rebuilds_real_images_at_threshold_0(real_pixels):
    for method in CAUSAL:
        selection = select(real_pixels, PruneConfig(method))
        assert np.array_equal(decode(selection, real_pixels, method), real_pixels), method


@pytest.mark.parametrize("method", CAUSAL)
def test_the_decoder_needs_every_kept_block_and_row_choice(method, examples):
    """Controls: no kept block can be left out, and no other rule or row choice decodes."""
    image = examples["dashboard-dark.png"]
    selection = select(image, PruneConfig(method))
    assert selection.num_kept < selection.num_blocks / 2  # there is something to decode
    for i in selection.kept_indices[1::100]:
        keep = selection.keep.copy()
        keep.flat[i] = False
        assert not np.array_equal(decode(selection, image, method, keep), image)
    for other in {"pred2d", "raster", "serpentine"} - {method}:
        assert not np.array_equal(decode(selection, image, other), image)
    if method == "adaptive":
        # A row that chose otherwise keeps fewer than pred2d would: pred2d must mispredict a dropped block there.
        chosen = np.flatnonzero(selection.row_predictors)
        assert chosen.size > 10
        for row in chosen:
            choices = selection.row_predictors.copy()
            choices[row] = 0
            assert not np.array_equal(decode(selection, image, method, row_predictors=choices), image)


@settings(max_examples=100, deadline=None)
@given(drawn=images(), threshold=st.sampled_from(THRESHOLDS) | st.floats(0, 1))
def test_no_value_is_off_by_more_than_the_level(drawn, threshold):
    image, size = drawn
    for method in RULES:
        config = PruneConfig(method, threshold=threshold)
        selection = select(image, config, block_size=size)
        assert selection.level == config.level == int(np.floor(threshold * 255 + 1e-6))
        assert error(selection, image) <= selection.level, method


def test_no_value_of_a_real_image_is_off_by_more_than_the_level(real_pixels):
    for method, threshold in itertools.product(RULES, (0.02, 0.05, 0.3)):
        selection = select(real_pixels, PruneConfig(method, threshold=threshold))
        assert error(selection, real_pixels) <= selection.level, (method, threshold)


@pytest.mark.parametrize("method", RULES)
def test_sliding_comparisons_do_exceed_the_level(method):
    """Control for the bound: over a gradient of 5 levels per block, sliding errors add up and anchored ones do not."""
    ramp = np.repeat(np.arange(0, 200, 5, dtype=np.uint8), 8)
    image = np.tile(ramp[None, :, None], (8, 1, 3))
    sliding = select(image, PruneConfig(method, threshold=0.02, anchored=False), block_size=8)
    anchored = select(image, PruneConfig(method, threshold=0.02), block_size=8)
    assert (sliding.num_kept, error(sliding, image)) == (1, 195)
    assert (anchored.num_kept, error(anchored, image)) == (20, 5)


@settings(max_examples=40, deadline=None)
@given(drawn=images(), seed=st.integers(0, 2**40), threshold=st.sampled_from(THRESHOLDS))
def test_random_keeps_as_many_as_pred2d(drawn, seed, threshold):
    image, size = drawn
    pred2d = select(image, PruneConfig(threshold=threshold), block_size=size)
    drawn_twice = [select(image, PruneConfig("random", threshold=threshold, seed=seed), block_size=size) for _ in "ab"]
    assert drawn_twice[0].num_kept == pred2d.num_kept
    assert np.array_equal(drawn_twice[0].source, drawn_twice[1].source)
    assert np.array_equal(drawn_twice[0].source, reference.last_kept(drawn_twice[0].keep))


def test_random_draws_by_seed_and_evenly(examples):
    image = crop(examples["docs-page.png"], 32)
    draws = np.array([select(image, PruneConfig("random", seed=seed)).keep.ravel() for seed in range(400)])
    assert len({draw.tobytes() for draw in draws}) == 400
    share = (draws.sum(axis=1)[0] - 1) / (draws.shape[1] - 1)  # of the blocks after the first, each as likely
    assert draws[:, 0].all()
    assert np.abs(draws[:, 1:].mean(axis=0) - share).max() < 5 * np.sqrt(share * (1 - share) / 400)
