"""How sure a score is: bootstrap intervals over rows, where rows of one page or document stay together.

Questions about one page succeed and fail together, so rows are no independent sample; their clusters are. Two arms
answer the same rows, so their difference is taken row by row before it is resampled, which is what makes small
differences visible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

_RESAMPLES, _SEED, _LEVEL = 10_000, 20_240_604, 0.95
_CHUNK = 1 << 22  # numbers at a time


@dataclass(frozen=True)
class Row:
    """One answered row of a set.

    Attributes:
        name: of the row in its set.
        score: 0 to 1.
        cluster: what it shares with rows that succeed and fail together: its page, screen or document.
    """

    name: str
    score: float
    cluster: str


@dataclass(frozen=True)
class Estimate:
    """A mean over rows and its interval at 95 %, which is ``None`` where there are fewer than two clusters.

    Attributes:
        mean: of the rows.
        low, high: the interval.
        rows, clusters: how many.
    """

    mean: float
    low: float | None
    high: float | None
    rows: int
    clusters: int

    @property
    def within_noise(self) -> bool:
        """For a difference: whether the interval holds zero, or there is none."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


def score(rows: Sequence[Row]) -> Estimate:
    """The mean score of an arm.

    Raises:
        ConfigError: there are no rows, or two of one name.
    """
    _by_name(rows)
    return _estimate([row.score for row in rows], [row.cluster for row in rows])


def difference(rows: Sequence[Row], base: Sequence[Row]) -> Estimate:
    """By how much the mean score of ``rows`` is above that of ``base``, over the same rows.

    Raises:
        ConfigError: the two do not have the same rows, with the number and one example of those that only one has.
    """
    ours, others = _by_name(rows), _by_name(base)
    odd = sorted(ours.keys() ^ others.keys())
    if odd:
        raise ConfigError(
            f"the arms were not asked the same rows: {len(odd)} are in one alone, such as {odd[0]!r}; delete the "
            f"smaller cell's folder and run again"
        )
    # By the base's clusters: the rival's own images are not the same images.
    return _estimate(
        [ours[name].score - others[name].score for name in others], [others[name].cluster for name in others]
    )


def _by_name(rows: Sequence[Row]) -> Mapping[str, Row]:
    named = {row.name: row for row in rows}
    if not rows:
        raise ConfigError("there are no rows to average")
    if len(named) != len(rows):
        raise ConfigError(f"{len(rows) - len(named)} rows have the name of another; names must differ")
    return named


def _estimate(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    numbers = np.asarray(values, np.float64)
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(index.max()) + 1
    low = high = None
    if count > 1:
        sums = np.bincount(index, numbers, count).astype(np.float64)
        sizes = np.bincount(index, minlength=count).astype(np.float64)
        means = _resampled(sums, sizes)
        low, high = (float(edge) for edge in np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]))
    return Estimate(float(numbers.mean()), low, high, len(numbers), count)


def _resampled(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over as many clusters as there are, drawn with replacement, each time anew."""
    rng = np.random.default_rng(_SEED)
    count, means = len(sums), []
    step = max(1, _CHUNK // count)
    for start in range(0, _RESAMPLES, step):
        drawn = rng.integers(count, size=(min(step, _RESAMPLES - start), count))
        means.append(sums[drawn].sum(1) / sizes[drawn].sum(1))
    return np.concatenate(means)
