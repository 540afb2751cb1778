"""Budgets: the search for a threshold that meets one, and a warning where only one that drops content does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .config import PruneConfig
from .selection import Selection

#: The highest 8-bit level of the metric max (a threshold of 0.05) at which answers were measured without a budget.
HIGHEST_MEASURED_LEVEL = 12

T = TypeVar("T")


def within_budget(config: PruneConfig, attempt: Callable[[PruneConfig], T | None]) -> T | None:
    """What an attempt gives at the first threshold that meets a budget, as far as halving finds the first.

    The levels of the configured metric come first. Of ``max``, none above :data:`HIGHEST_MEASURED_LEVEL`: two blocks in
    black and white differ by 255 levels, however little ink one of them has, so that all content goes at once. Beyond,
    blocks are compared by ``mae``, in which little ink is a small difference (measured: docs/choosing-settings.md).

    Args:
        config: the settings; the threshold is the lowest allowed.
        attempt: selects with these settings, which have no ``max_tokens``; ``None`` if that keeps too many.

    Returns:
        ``None`` if not even the highest threshold fits.
    """

    def at(metric: str) -> Callable[[int], T | None]:
        return lambda level: attempt(config.replace(metric=metric, threshold=level / 255, max_tokens=None))

    if config.metric != "max":
        return first_that_fits(config.first_level, 255, at(config.metric))
    found = first_that_fits(config.first_level, max(config.first_level, HIGHEST_MEASURED_LEVEL), at("max"))
    return first_that_fits(1, 255, at("mae")) if found is None else found


def first_that_fits(first: int, last: int, attempt: Callable[[int], T | None]) -> T | None:
    """What an attempt gives at a level that fits, from ``first`` to ``last``.

    Kept counts nearly always fall with the level, so that the levels between one that keeps too many and one that fits
    are halved: of 255 levels at most 10 are tried. Where counts fall strictly, the level found is the lowest that fits;
    in any case it fits, and it is the first or the level below it does not fit.

    Args:
        first, last: the lowest and the highest level allowed.
        attempt: selects at a level; ``None`` if that keeps too many.

    Returns:
        ``None`` if neither the first nor the last level fits.
    """
    found = attempt(first)
    if found is not None or first >= last:
        return found
    found = attempt(last)
    if found is None:
        return None
    low, high = first, last
    while high - low > 1:
        middle = (low + high) // 2
        result = attempt(middle)
        if result is None:
            low = middle
        else:
            found, high = result, middle
    return found


def budget_warning(selection: Selection, config: PruneConfig) -> str | None:
    """One line if ``max_tokens`` took a threshold beyond what was asked for and measured; None otherwise."""
    level, metric = selection.level, selection.metric
    asked = config.first_level if metric == config.metric else 0
    if config.max_tokens is None or level <= max(asked, HIGHEST_MEASURED_LEVEL if metric == "max" else 0):
        return None
    return (
        f"max_tokens={config.max_tokens} took threshold {level / 255:.2g} of {metric}: what differs by no more is "
        f"dropped, and content with it; {selection.num_kept} of {selection.num_blocks} blocks are kept. Allow more "
        f"tokens where answers suffer"
    )


class RareWarning:
    """Logs a warning at once, and others like it at most once a minute, with their number: a server's log stays short.

    Args:
        logger: where to.
        seconds: between two lines.
        clock: seconds, for tests.
    """

    def __init__(
        self, logger: logging.Logger, seconds: float = 60, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._seconds, self._clock = logger, seconds, clock
        self._lock = threading.Lock()
        self._next = float("-inf")
        self._silent = 0

    def __call__(self, message: str) -> None:
        with self._lock:
            now = self._clock()
            if now < self._next:
                self._silent += 1
                return
            silent, self._silent, self._next = self._silent, 0, now + self._seconds
        more = f" (so for {silent} more since the last such line)" if silent else ""
        self._logger.warning("%s%s", message, more)
