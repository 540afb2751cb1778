"""Sequences of images, against a twin that looks at one block at a time; and what must hold for every sequence."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelprune import PruneConfig, select
from pixelprune.core.config import METHODS, REFERENCES
from pixelprune.core.selections import Selections
from pixelprune.core.sequence import SequenceSelector, reference_numbers, select_sequence
from pixelprune.errors import ConfigError, ImageError, SelectionError

SIZE = 4
PREDICTING = [method for method in METHODS if method != "random"]
configs = st.builds(
    PruneConfig,
    method=st.sampled_from(PREDICTING),
    metric=st.sampled_from(["max", "mae", "rmse"]),
    threshold=st.sampled_from([0.0, 0.001, 0.02, 0.05]),
    lattice=st.sampled_from([0, 0, 2]),
)
#: Some with a budget, which takes another level for each image: none, level 0 or a higher one.
budgets = st.builds(lambda config, most: config.replace(max_tokens=most), configs, st.sampled_from([None, 6, 9]))


@st.composite
def sequences(draw: st.DrawFn) -> list[np.ndarray]:
    """Images of one or two sizes; blocks of a few near levels, so that many are equal or close."""
    images: list[np.ndarray] = []
    for _ in range(draw(st.integers(1, 5))):
        rows, cols = draw(st.sampled_from([(3, 4), (3, 4), (3, 4), (2, 5)]))
        levels = draw(st.lists(st.sampled_from([0, 3, 6, 9, 200]), min_size=rows * cols, max_size=rows * cols))
        image = np.repeat(np.repeat(np.array(levels, np.uint8).reshape(rows, cols), SIZE, 0), SIZE, 1)
        if images and images[-1].shape[:2] == image.shape and draw(st.booleans()):
            changed = np.repeat(np.repeat(np.array(draw(masks(rows, cols))), SIZE, 0), SIZE, 1)
            image = np.where(changed, image, images[-1][..., 0])
        images.append(image[..., None].copy())
    return images


def masks(rows: int, cols: int) -> st.SearchStrategy[list[list[bool]]]:
    row = st.lists(st.booleans(), min_size=cols, max_size=cols)
    return st.lists(row, min_size=rows, max_size=rows)


def block(image: np.ndarray, index: int) -> np.ndarray:
    row, col = divmod(index, image.shape[1] // SIZE)
    return image[row * SIZE : (row + 1) * SIZE, col * SIZE : (col + 1) * SIZE]


def earlier(number: int, references: str) -> list[int]:
    return {
        "none": [],
        "previous": [number - 1],
        "first+previous": sorted({0, number - 1}, reverse=True),
        "any": list(range(number - 1, -1, -1)),
    }[references]


def twin(images: list[np.ndarray], config: PruneConfig, references: str) -> list[dict[int, tuple[int, int]]]:
    """Per image the reference of each block, found one block at a time."""
    alone = [select(image, config, block_size=SIZE) for image in images]
    found: list[dict[int, tuple[int, int]]] = []
    for number, (image, selection) in enumerate(zip(images, alone, strict=True)):
        own: dict[int, tuple[int, int]] = {}
        for index in selection.kept_indices.tolist():
            own[index] = (number, index)
            for other in earlier(number, references):
                if not 0 <= other < number or images[other].shape != image.shape:
                    continue
                exact = alone[other].level == 0 and (config.threshold == 0 or config.metric == "max")
                there = exact or index in alone[other].kept_indices
                if there and np.array_equal(block(image, index), block(images[other], index)):
                    own[index] = found[other][index]
                    break
        if all(image_of != number for image_of, _ in own.values()):
            own[0] = (number, 0)
        found.append({index: own[source] for index, source in enumerate(selection.source.reshape(-1).tolist())})
    return found


def as_dicts(selections: Selections) -> list[dict[int, tuple[int, int]]]:
    return [
        {index: (int(image), int(place)) for index, (image, place) in enumerate(reference.reshape(-1, 2))}
        for reference in selections.reference
    ]


@given(sequences(), budgets, st.sampled_from(REFERENCES))
@settings(max_examples=150, deadline=None)
def test_equals_the_twin(images: list[np.ndarray], config: PruneConfig, references: str) -> None:
    got = select_sequence(images, config, references=references, block_size=SIZE)
    assert as_dicts(got) == twin(images, config, references)
    for number, (keep, kept) in enumerate(zip(got.keep, got.kept_indices, strict=True)):
        own = [index for index, place in as_dicts(got)[number].items() if place == (number, index)]
        assert kept.tolist() == own == np.flatnonzero(keep).tolist() and len(own) >= 1
    report = got.reports()
    assert [r.alone - r.kept for r in report] == [sum(r.references.values()) for r in report]
    assert sum(r.kept for r in report) == got.num_kept and got.retain_ratio == got.num_kept / got.num_blocks


@given(sequences(), budgets, st.sampled_from(REFERENCES), st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_kept_depends_on_an_image_and_its_references_alone(
    images: list[np.ndarray], config: PruneConfig, references: str, data: st.DataObject
) -> None:
    """So some images can be selected with those that they may refer to, without the rest of the sequence."""
    whole = select_sequence(images, config, references=references, block_size=SIZE)
    numbers = range(len(images))
    for number in numbers:
        assert reference_numbers(number, references) == [
            n for n in earlier(number, references)[::-1] if 0 <= n < number
        ]
    wanted = data.draw(st.sets(st.sampled_from(numbers), min_size=1))
    part = sorted({each for number in wanted for each in (number, *reference_numbers(number, references))})
    got = select_sequence([images[n] for n in part], config, references=references, block_size=SIZE)
    for number in wanted:
        assert got.kept_indices[part.index(number)].tolist() == whole.kept_indices[number].tolist()


@given(sequences(), configs, st.sampled_from(REFERENCES))
@settings(max_examples=150, deadline=None)
def test_rebuilt_within_the_threshold(images: list[np.ndarray], config: PruneConfig, references: str) -> None:
    """Bit for bit at threshold 0; the metric's bound on each block above, however long the chain."""
    got = select_sequence(images, config, references=references, block_size=SIZE)
    for image, rebuilt in zip(images, got.reconstruct(images), strict=True):
        if config.threshold == 0:
            assert np.array_equal(image, rebuilt)
        for index in range(image.size // SIZE**2):
            difference = np.abs(block(image, index).astype(float) - block(rebuilt, index))
            distance = {
                "max": difference.max(),
                "mae": difference.mean(),
                "rmse": np.sqrt((difference**2).mean()),
            }[config.metric]
            assert distance <= config.threshold * 255 + 1e-6


@given(sequences(), budgets, st.sampled_from(REFERENCES), st.data())
@settings(max_examples=80, deadline=None)
def test_depends_on_its_own_and_its_references_pixels_alone(
    images: list[np.ndarray], config: PruneConfig, references: str, data: st.DataObject
) -> None:
    """What other images show, and what was kept of them, changes nothing: caches rely on it."""
    number = data.draw(st.integers(0, len(images) - 1))
    needed = {number, *(other for other in earlier(number, references) if other >= 0)}
    others = [
        image if index in needed else data.draw(st.sampled_from([255 - image, np.zeros_like(image)]))
        for index, image in enumerate(images)
    ]
    before = select_sequence(images, config, references=references, block_size=SIZE).kept_indices[number]
    after = select_sequence(others, config, references=references, block_size=SIZE).kept_indices[number]
    assert before.tolist() == after.tolist()


@given(sequences(), configs)
@settings(max_examples=40, deadline=None)
def test_without_a_reference_it_is_select(images: list[np.ndarray], config: PruneConfig) -> None:
    got = select_sequence(images, config, references="previous", block_size=SIZE)
    assert as_dicts(select_sequence(images, config.replace(references="previous"), block_size=SIZE)) == as_dicts(got)
    for number, image in enumerate(images):
        alone = select(image, config, block_size=SIZE)
        assert np.array_equal(got.alone[number].source, alone.source)
        if number == 0 or images[number - 1].shape != image.shape:
            assert got.kept_indices[number].tolist() == alone.kept_indices.tolist()


@pytest.mark.parametrize(
    ("references", "held"), [("none", []), ("previous", [3]), ("first+previous", [0, 3]), ("any", [0, 1, 2, 3])]
)
def test_one_by_one_holds_only_what_later_images_may_refer_to(references: str, held: list[int]) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 2, (3 * SIZE, 4 * SIZE, 1), np.uint8) * 9 for _ in range(4)]
    config = PruneConfig(references=references)
    together = select_sequence(images, config, block_size=SIZE)
    selector = SequenceSelector(config, block_size=SIZE)
    for number, image in enumerate(images):
        one = selector.add(image)
        assert one.number == number and np.array_equal(one.reference, together.reference[number])
        assert one.report == together.reports()[number] and one.shown_before.sum() == one.report.alone - one.report.kept
    kept = [weakref.ref(image) for image in images]
    del images, image
    gc.collect()
    assert [number for number, reference in enumerate(kept) if reference() is not None] == held


def fade(frames: int, step: int) -> list[np.ndarray]:
    """A detailed image that grows lighter by ``step`` levels a frame, and beside it a part that stays."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 100, (8 * SIZE, 8 * SIZE, 3), np.uint8)
    lighter = np.zeros_like(first)
    lighter[:, : 4 * SIZE] = step
    return [first + lighter * frame for frame in range(frames)]


def drift(images: list[np.ndarray], level: int) -> int:
    """The largest error of the variant that compares with the raw previous frame at a threshold, unanchored."""
    shown, worst = images[0].astype(int), 0
    for previous, image in pairwise(images):
        here, before = image.astype(int), previous.astype(int)
        for index in range(64):
            if np.abs(block(here, index) - block(before, index)).max() > level:
                block(shown, index)[...] = block(here, index)
        worst = max(worst, int(np.abs(shown - here).max()))
    return worst


def test_long_fades_do_not_drift() -> None:
    images, config = fade(24, 4), PruneConfig(threshold=0.02)
    got = select_sequence(images, config, references="previous", block_size=SIZE)
    errors = [np.abs(a.astype(int) - b).max() for a, b in zip(images, got.reconstruct(images), strict=True)]
    assert max(errors) <= config.level
    assert got.num_kept < sum(select(image, config, block_size=SIZE).num_kept for image in images)
    assert drift(images, config.level) > 10 * config.level, "control: the sliding variant drifts"


@pytest.mark.parametrize("references", REFERENCES[1:])
def test_a_real_screen_in_use(examples: dict[str, np.ndarray], references: str) -> None:
    """A screenshot, a word typed into it, another page, and back."""
    first, other = examples["dashboard-dark.png"], examples["docs-page.png"]
    typed = first.copy()
    typed[320:350, 400:520] = 255 - typed[320:350, 400:520]
    images = [first, typed, other, first]
    got = select_sequence(images, references=references)
    alone = [select(image).num_kept for image in images]
    assert got.kept_indices[0].tolist() == select(first).kept_indices.tolist()
    assert len(got.kept_indices[1]) <= 10 < alone[1] / 20
    assert (len(got.kept_indices[3]) == 1) == (references != "previous")
    assert all(np.array_equal(a, b) for a, b in zip(images, got.reconstruct(images), strict=True))
    moved = got.reference[1].copy()
    place = tuple(np.argwhere(moved[..., 0] == 0)[40])
    kept = got.kept_indices[0]
    moved[place][1] = kept[(kept.tolist().index(moved[place][1]) + 1) % len(kept)]
    broken = Selections(got.alone, (got.reference[0], moved, *got.reference[2:]))
    assert not all(np.array_equal(a, b) for a, b in zip(images, broken.reconstruct(images), strict=True)), "control"
    moved[place][1] = np.setdiff1d(np.arange(got.alone[0].num_blocks), kept)[0]
    with pytest.raises(SelectionError, match="image 1 refers to blocks of image 0 that are not kept"):
        Selections(got.alone, (got.reference[0], moved, *got.reference[2:]))
    with pytest.raises(SelectionError, match="4 selections have references of 1 images"):
        Selections(got.alone, got.reference[:1])
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(lambda _: select_sequence(images, references=references), range(4)):
            assert as_dicts(again) == as_dicts(got)


def test_budgets(examples: dict[str, np.ndarray]) -> None:
    images = [examples["diagram-jpeg.jpg"]] * 3
    whole = select_sequence(images)
    per_image = select_sequence(images, PruneConfig(max_tokens=200, references="previous"))
    assert max(len(kept) for kept in per_image.kept_indices) <= 200
    for budget in (whole.num_kept, whole.num_kept - 1, 300, 3):
        got = select_sequence(images, max_sequence_tokens=budget)
        assert 0 < got.num_kept <= budget
        level, metric = got.alone[0].level, got.alone[0].metric
        assert metric == ("max" if budget >= whole.num_kept - 1 else "mae")
        if level:
            config = PruneConfig(metric=metric, threshold=(level - 1) / 255, references="previous")
            assert select_sequence(images, config).num_kept > budget, "the next lower level does not fit"
        errors = [np.abs(a.astype(int) - b) for a, b in zip(images, got.reconstruct(images), strict=True)]
        by_block = [got.alone[0].blocks_of(error.astype(np.uint8)) for error in errors]
        furthest = [each.max() if metric == "max" else each.mean((2, 3, 4)).max() for each in by_block]
        assert max(furthest) <= level
    with pytest.raises(ConfigError, match=r"max_sequence_tokens=2 is below what 3 images keep .*, 3; raise it"):
        select_sequence(images, max_sequence_tokens=2)


@given(sequences(), configs, st.sampled_from(REFERENCES))
@settings(max_examples=40, deadline=None)
def test_tensors_are_selected_as_arrays_are(images: list[np.ndarray], config: PruneConfig, references: str) -> None:
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(image) for image in images]
    got = select_sequence(tensors, config, references=references, block_size=SIZE)
    assert as_dicts(got) == as_dicts(select_sequence(images, config, references=references, block_size=SIZE))


IMAGE = np.zeros((SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: select_sequence([IMAGE], references="next", block_size=SIZE), ConfigError, "one of none, prev"),
        (lambda: select_sequence([IMAGE], PruneConfig("random"), references="any"), ConfigError, "predicts nothing"),
        (lambda: select_sequence([IMAGE, IMAGE[:2]], block_size=SIZE), ImageError, "image 1 of the sequence: height"),
        (lambda: select_sequence([None], block_size=SIZE), ImageError, "image 0 .* torch tensor; got None"),
        (lambda: select_sequence([IMAGE], max_sequence_tokens=0, block_size=SIZE), ConfigError, "at least 1; got 0"),
        (lambda: select_sequence([IMAGE], block_size=SIZE).reconstruct([]), ImageError, "of 1 images; got 0"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_empty_sequence_is_empty() -> None:
    assert len(select_sequence([])) == 0
