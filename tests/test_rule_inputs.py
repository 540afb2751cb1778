"""``select`` takes an image however it lies in memory, from any thread, within any budget, and refuses the rest."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from strategies import images

from pixelprune import PixelPruneError, PruneConfig, select
from pixelprune.core import select as rule
from pixelprune.core.config import METHODS, METRICS
from pixelprune.errors import ImageError


def unaligned(image):
    """A copy that starts at an odd address."""
    buffer = np.zeros(image.size + 8, np.uint8)
    start = 1 - buffer.ctypes.data % 2
    copy = buffer[start : start + image.size].reshape(image.shape)
    copy[:] = image
    assert copy.ctypes.data % 2 == 1
    return copy


def read_only(image):
    copy = image.copy()
    copy.flags.writeable = False
    return copy


def cut_out(image):
    """A view into a larger image, whose rows are longer."""
    frame = np.pad(image, ((3, 5), (7, 2), (0, 0)), constant_values=99)
    return frame[3 : 3 + image.shape[0], 7 : 7 + image.shape[1]]


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "upside down": lambda image: image[::-1].copy()[::-1],
    "mirrored": lambda image: image[:, ::-1].copy()[:, ::-1],
    "channels reversed": lambda image: image[..., ::-1].copy()[..., ::-1],
    "transposed": lambda image: image.transpose(1, 0, 2).copy().transpose(1, 0, 2),
    "channels first": lambda image: image.transpose(2, 0, 1).copy().transpose(1, 2, 0),
    "every second": lambda image: image.repeat(2, axis=0).repeat(2, axis=1)[::2, ::2],
    "cut out": cut_out,
    "without alpha": lambda image: np.pad(image, ((0, 0), (0, 0), (0, 1)), constant_values=7)[..., :-1],
    "read-only": read_only,
    "unaligned": unaligned,
    "subclass": lambda image: image.view(np.memmap),
}


def same(a, b):
    choices_equal = np.array_equal(a.row_predictors, b.row_predictors)  # of None and None, too
    return np.array_equal(a.source, b.source) and (a.level, a.metric) == (b.level, b.metric) and choices_equal


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@settings(max_examples=25, deadline=None)
@given(drawn=images(), threshold=st.sampled_from((0, 0.02)), metric=st.sampled_from(METRICS))
def test_memory_layout_does_not_matter(layout, drawn, threshold, metric):
    image, size = drawn
    other = layout(image)
    before, writeable = other.copy(), other.flags.writeable
    assert np.array_equal(other, image)
    for method in METHODS:
        config = PruneConfig(method, metric, threshold)
        assert same(select(other, config, block_size=size), select(image, config, block_size=size)), method
    assert np.array_equal(other, before)
    assert other.flags.writeable == writeable


def test_comparison_of_layouts_sees_other_pixels(examples):
    """Control: had strides been ignored, the image would have read upside down, and the result been another."""
    image = examples["docs-page.png"]
    for method in METHODS:
        config = PruneConfig(method)
        assert not same(select(image, config), select(np.ascontiguousarray(image[::-1]), config)), method


def test_many_threads_at_once(examples):
    names = ("docs-page.png", "slide.png", "phone.png", "dashboard-dark.png")
    configs = [PruneConfig(method, threshold=threshold) for method in METHODS for threshold in (0, 0.05)]
    jobs = list(itertools.product(names, configs))
    alone = [select(examples[name], config) for name, config in jobs]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda job: select(examples[job[0]], job[1]), jobs * 3))
    assert all(same(a, b) for a, b in zip(alone * 3, together, strict=True))
    assert not same(alone[0], alone[1])


def counted_walks(monkeypatch):
    """The limits of the walks that select makes from here on."""
    limits = []
    walk_over = rule.numpy_walk

    def counting(image, size):
        walk = walk_over(image, size)
        return lambda *settings: limits.append(settings[2]) or walk(*settings)

    monkeypatch.setattr(rule, "numpy_walk", counting)
    return limits


def halved(fits, first, last):
    """The slow twin of the search, over what fits by level: a level that fits, and the level below does not."""
    if fits[first] or not fits[last]:
        return first if fits[first] else None
    low, high = first, last
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits[middle] else (middle, high)
    return high


def searched(fits, metric, first):
    """The slow twin of the order of metrics: levels of max up to 12, or the configured one, and then those of mae."""
    if metric != "max":
        return metric, halved(fits[metric], first, 255)
    level = halved(fits["max"], first, max(first, 12))
    return ("mae", halved(fits["mae"], 1, 255)) if level is None else ("max", level)


def falls(counts):
    return counts == sorted(counts, reverse=True)


@settings(max_examples=40, deadline=None)
@given(
    drawn=images(longest=4),
    method=st.sampled_from(METHODS),
    metric=st.sampled_from(METRICS),
    threshold=st.sampled_from((0, 0.02, 0.5)),
    anchored=st.booleans(),
)
def test_a_budget_finds_a_level_that_fits_above_one_that_does_not(drawn, method, metric, threshold, anchored):
    """All levels are tried here; where counts fall with the level, the level found is the lowest that fits, and what is
    kept falls with the budget."""
    image, size = drawn
    config = PruneConfig(method, metric, threshold, anchored)
    # 0.02 is 5.1 levels: level 5 for the metric that has levels, not enough for the others.
    first = config.level if metric == "max" else math.ceil(threshold * 255)
    at_levels = {
        name: {
            level: select(image, config.replace(metric=name, threshold=level / 255), block_size=size)
            for level in range(256)
        }
        for name in {metric, "mae"}
    }
    allowed = {name: range(first if name == metric else 1, 256) for name in at_levels}
    monotone = all(falls([at_levels[name][n].num_kept for n in allowed[name]]) for name in at_levels)
    kept = []
    for budget in range(1, at_levels[metric][first].num_kept + 1):
        fits = {name: {n: each.num_kept <= budget for n, each in found.items()} for name, found in at_levels.items()}
        with pytest.MonkeyPatch.context() as patch:
            walks = counted_walks(patch)
            selection = select(image, config.replace(max_tokens=budget), block_size=size)
        assert len(walks) <= 12
        assert selection.num_kept <= budget
        assert (selection.metric, selection.level) == searched(fits, metric, first)
        assert same(selection, at_levels[selection.metric][selection.level])
        lowest = allowed[selection.metric][0]
        assert selection.level == lowest or not fits[selection.metric][selection.level - 1]
        if monotone:
            assert selection.level == next(n for n in allowed[selection.metric] if fits[selection.metric][n])
        kept.append(selection.num_kept)
    if monotone:
        assert kept == sorted(kept)


def page_in_black_and_white(rows=12, cols=8, size=16, seed=0):
    """White blocks with 0 to 60 black pixels, so that each but the empty ones differs from all others."""
    rng = np.random.default_rng(seed)
    image = np.full((rows * size, cols * size, 3), 255, np.uint8)
    for row in range(rows):
        for col in range(cols):
            ink = rng.permutation(size * size)[: rng.integers(0, 61)]
            block = image[row * size : (row + 1) * size, col * size : (col + 1) * size]
            block[ink // size, ink % size] = 0
    return image


@pytest.mark.parametrize("method", ["pred2d", "adaptive", "raster", "serpentine", "components"])
def test_a_budget_of_a_page_in_black_and_white_drops_the_least_ink(method):
    """As much as is needed and no more; by levels of max, all but one block would go at once."""
    image = page_in_black_and_white()
    exact = select(image, PruneConfig(method), block_size=16)
    at_254, at_255 = (select(image, PruneConfig(method, threshold=n / 255), block_size=16) for n in (254, 255))
    assert (at_254.num_kept, at_255.num_kept) == (exact.num_kept, 1), "control: nothing between all and one"
    before = exact
    for share in (0.9, 0.75, 0.5, 0.25):
        budget = int(share * exact.num_kept)
        selection = select(image, PruneConfig(method, max_tokens=budget), block_size=16)
        assert 0.8 * budget <= selection.num_kept <= budget
        assert selection.metric == "mae" and selection.level > before.level
        error = np.abs(selection.reconstruct(image).astype(int) - image)
        by_block = selection.blocks_of(error.astype(np.uint8)).mean((2, 3, 4))
        assert by_block.max() <= selection.level, "no block is further from its reference"
        assert error.max() == 255
        before = selection


@pytest.mark.parametrize("anchored", [True, False], ids=["anchored", "sliding"])
@pytest.mark.parametrize("method", METHODS)
def test_a_budget_of_a_hostile_image_costs_few_walks(method, anchored, monkeypatch):
    """Blocks of black and white noise keep everything up to level 254 of ``max``: no search is longer."""
    image = np.random.default_rng(0).integers(0, 2, (64, 64, 3), np.uint8) * 255
    walks = counted_walks(monkeypatch)
    for metric in METRICS:
        for threshold in (0, 0.5, 0.99, 1):
            for budget in (1, 2, 40, 63):
                walks.clear()
                config = PruneConfig(method, metric, threshold, anchored, max_tokens=budget)
                assert select(image, config, block_size=8).num_kept <= budget
                assert 1 <= len(walks) <= 12
    walks.clear()
    selection = select(image, PruneConfig(method, anchored=anchored, max_tokens=63), block_size=8)
    assert selection.metric == "mae" and selection.level > 50
    assert 10 <= len(walks) <= 12  # two of max, which has no level that fits, and a search over those of mae


@pytest.mark.parametrize("metric", METRICS)
def test_the_level_found_need_not_be_the_lowest(examples, metric):
    """Counts can rise with the level, and then a lower level may fit too: what the documentation says of max_tokens."""
    image = examples["dashboard-4k.png"]
    top = 13 if metric == "max" else 256
    counts = [select(image, PruneConfig(metric=metric, threshold=level / 255)).num_kept for level in range(top)]
    rises = [level for level in range(1, top) if counts[level] > counts[level - 1]]
    assert len(rises) < top * 0.2
    for rise in rises:
        budget = counts[rise - 1]
        selection = select(image, PruneConfig(metric=metric, max_tokens=budget))
        lowest = next(level for level, count in enumerate(counts) if count <= budget)
        assert counts[selection.level] == selection.num_kept <= budget
        assert selection.level == halved([count <= budget for count in counts], 0, top - 1) >= lowest


def test_a_budget_that_is_roomy_changes_nothing(examples):
    image = examples["slide.png"]
    for method in METHODS:
        config = PruneConfig(method, threshold=0.02)
        assert same(select(image, config.replace(max_tokens=10**9)), select(image, config))


def blank(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    "image, block_size, seen",
    [
        (blank(32, 32, 3, dtype=np.float32), 32, "must be uint8.* got float32"),
        (blank(32, 32, 3, dtype=np.int8), 32, "must be uint8.* got int8"),
        (blank(32, 32, 3, dtype=bool), 32, "must be uint8.* got bool"),
        (blank(32, 32, 3).tolist(), 32, "numpy array or a torch tensor; got list"),
        (Image.new("RGB", (32, 32)), 32, "numpy array or a torch tensor; got Image"),
        (None, 32, "numpy array or a torch tensor; got NoneType"),
        (blank(32, 32), 32, r"channels last; got shape \(32, 32\)"),
        (blank(1, 32, 32, 3), 32, r"channels last; got shape \(1, 32, 32, 3\)"),
        (blank(3, 32, 32), 32, r"channels last; got shape \(3, 32, 32\)"),
        (blank(32, 32, 4), 32, r"channels last; got shape \(32, 32, 4\)"),
        (blank(32, 32, 0), 32, r"channels last; got shape \(32, 32, 0\)"),
        (blank(0, 32, 3), 32, "not 0; got 0 x 32"),
        (blank(32, 0, 3), 32, "not 0; got 32 x 0"),
        (blank(33, 32, 3), 32, "multiples of block_size=32 and not 0; got 33 x 32"),
        (blank(32, 31, 3), 32, "multiples of block_size=32 and not 0; got 32 x 31"),
        (blank(32, 32, 3), 28, "multiples of block_size=28 and not 0; got 32 x 32"),
        (blank(32, 32, 3), 0, "block_size must be .* got 0"),
        (blank(32, 32, 3), -32, "block_size must be .* got -32"),
        (blank(32, 32, 3), 32.0, "block_size must be .* got 32.0"),
        (blank(32, 32, 3), "32", "block_size must be .* got '32'"),
        (blank(32, 32, 3), None, "block_size must be .* got None"),
        (blank(32, 32, 3), True, "block_size must be .* got True"),
        (blank(32, 32, 3), np.array([32]), r"block_size must be .* got array\(\[32\]\)"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_with_what_was_seen(image, block_size, seen):
    with pytest.raises(ImageError, match=seen) as caught:
        select(image, block_size=block_size)
    assert isinstance(caught.value, (PixelPruneError, ValueError))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("integer", [int, np.int64, np.uint8])
def test_any_integer_is_a_block_size(integer, examples):
    image = examples["slide.png"]
    selection = select(image, block_size=integer(32))
    assert same(selection, select(image))
    assert np.array_equal(selection.reconstruct(image), image)
    assert type(selection.block_size) is int


def test_reconstruct_reads_kept_blocks_only(examples):
    image = examples["docs-page.png"]
    selection = select(image)
    dropped = ~selection.keep.repeat(32, axis=0).repeat(32, axis=1)
    spoiled = image.copy()
    spoiled[dropped] = 77
    assert not np.array_equal(spoiled, image)
    assert np.array_equal(selection.reconstruct(spoiled), image)
    spoiled[~dropped] += 1
    assert not np.array_equal(selection.reconstruct(spoiled), image)


@pytest.mark.parametrize("shape", [(64, 64), (64, 96, 3), (32, 64, 3), (1, 64, 64, 3)])
def test_reconstruct_refuses_another_image(shape):
    selection = select(blank(64, 64, 3))
    with pytest.raises(ImageError, match="of 64 x 64") as caught:
        selection.reconstruct(blank(*shape))
    assert str(shape) in str(caught.value)


def test_a_selection_says_what_it_is(examples):
    selection = select(examples["slide.png"])
    rows, cols = selection.grid
    assert repr(selection).startswith(f"Selection({selection.num_kept} of {rows * cols} blocks kept (")
    assert repr(selection).endswith(f", {rows} x {cols})")
