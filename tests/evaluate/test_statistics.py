"""Intervals against a slow bootstrap that is written as it is read, and what they say of known cases."""

from __future__ import annotations

import random
import statistics as stats

import pytest

from pixelprune.errors import ConfigError
from pixelprune.evaluate.statistics import Row, difference, score


def rows(scores, pages):
    return [
        Row(f"row {place}", value, f"page {page}")
        for place, (value, page) in enumerate(zip(scores, pages, strict=True))
    ]


def slow(values, clusters, resamples=4000):
    """Whole pages drawn again and again, and the mean of all their rows each time."""
    rng = random.Random(3)
    by_page = {}
    for value, page in zip(values, clusters, strict=True):
        by_page.setdefault(page, []).append(value)
    pages, means = list(by_page.values()), []
    for _ in range(resamples):
        drawn = [value for page in rng.choices(pages, k=len(pages)) for value in page]
        means.append(stats.fmean(drawn))
    cuts = stats.quantiles(means, n=40)
    return cuts[0], cuts[-1]


@pytest.fixture(scope="module")
def asked():
    """Two arms on 60 pages of 1 to 6 questions; pages differ much, the arms little."""
    rng = random.Random(1)
    pages = [page for page in range(60) for _ in range(rng.randint(1, 6))]
    ease = [rng.random() for _ in range(60)]
    base = [float(rng.random() < ease[page]) for page in pages]
    ours = [value if rng.random() < 0.9 else 0.0 for value in base]
    return pages, base, ours


def test_intervals_are_those_of_the_slow_bootstrap(asked) -> None:
    pages, base, ours = asked
    found = score(rows(base, pages))
    low, high = slow(base, pages)
    assert found.mean == pytest.approx(stats.fmean(base)) and found.rows == len(pages) and found.clusters == 60
    assert found.low == pytest.approx(low, abs=0.01) and found.high == pytest.approx(high, abs=0.01)
    gap = difference(rows(ours, pages), rows(base, pages))
    low, high = slow([a - b for a, b in zip(ours, base, strict=True)], pages)
    assert gap.low == pytest.approx(low, abs=0.01) and gap.high == pytest.approx(high, abs=0.01)
    assert gap.mean == pytest.approx(stats.fmean(ours) - stats.fmean(base)) and not gap.within_noise
    # Control: as if every row were a page of its own, the interval of a score is another, narrower one.
    alone = score(rows(base, range(len(pages))))
    assert alone.high - alone.low < 0.85 * (found.high - found.low)
    # Control: unpaired, the difference would be lost in what pages differ by.
    assert gap.high - gap.low < 0.5 * (found.high - found.low)


def test_an_arm_against_itself_is_zero(asked) -> None:
    pages, base, _ = asked
    gap = difference(rows(base, pages), rows(base, pages))
    assert (gap.mean, gap.low, gap.high) == (0, 0, 0) and gap.within_noise


def test_rows_are_paired_by_name_not_by_place(asked) -> None:
    pages, base, ours = asked
    shuffled = random.Random(2).sample(rows(ours, pages), len(pages))
    assert difference(shuffled, rows(base, pages)).mean == difference(rows(ours, pages), rows(base, pages)).mean


def test_noise_is_called_noise() -> None:
    rng = random.Random(4)
    pages = list(range(200))
    base = [float(rng.random() < 0.5) for _ in pages]
    flipped = [1 - value if rng.random() < 0.1 else value for value in base]
    assert difference(rows(flipped, pages), rows(base, pages)).within_noise
    worse = [0.0 if rng.random() < 0.2 else value for value in base]
    gap = difference(rows(worse, pages), rows(base, pages))
    assert not gap.within_noise and gap.high < 0


def test_one_page_has_no_interval() -> None:
    found = score(rows([0.0, 1.0], [1, 1]))
    assert found.mean == 0.5 and found.low is None and found.within_noise


def test_what_cannot_be_compared_is_refused(asked) -> None:
    pages, base, _ = asked
    with pytest.raises(ConfigError, match=r"2 are in one alone, such as 'row 0'"):
        difference(rows(base, pages)[2:], rows(base, pages))
    with pytest.raises(ConfigError, match="no rows"):
        score([])
    with pytest.raises(ConfigError, match="1 rows have the name of another"):
        score([Row("a", 1, "p"), Row("a", 0, "p")])
