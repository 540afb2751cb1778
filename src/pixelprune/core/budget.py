"""Budgets: the search for a level that meets one, and a warning where only a threshold that loses content does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .config import PruneConfig
from .selection import Selection

#: The highest 8-bit level (a threshold of 0.05) at which answers were measured, without a loss; see docs/reader.md.
HIGHEST_MEASURED_LEVEL = 12


T = TypeVar("T")


def first_that_fits(first: int, attempt: Callable[[int], T | None]) -> T | None:
    """What an attempt gives at a level that meets a budget, from ``first`` up to 255.

    Kept counts nearly always fall with the level, so the levels between one that keeps too many and one that fits are
    halved: at most 10 attempts. Where counts fall strictly, the level found is the lowest that fits; in any case it
    fits and the level below does not.

    Args:
        first: the lowest level allowed.
        attempt: selects at a level; ``None`` if that keeps too many.

    Returns:
        ``None`` if not even level 255 fits.
    """
    found = attempt(first)
    if found is not None:
        return found
    low, high = first, 255
    while high - low > 1:
        middle = (low + high) // 2
        result = attempt(middle)
        if result is None:
            low = middle
        else:
            found, high = result, middle
    return attempt(high) if found is None else found


def budget_warning(selection: Selection, config: PruneConfig) -> str | None:
    """One line if ``max_tokens`` raised the threshold beyond what was measured; None otherwise."""
    level = selection.level
    if config.max_tokens is None or level <= max(config.level, HIGHEST_MEASURED_LEVEL):
        return None
    return (
        f"max_tokens={config.max_tokens} took threshold {level / 255:.2g}: blocks that differ by up to {level} of 255 "
        f"levels are dropped, and content with them; {selection.num_kept} of {selection.num_blocks} are kept. "
        f"Allow more tokens, or take a smaller image"
    )
