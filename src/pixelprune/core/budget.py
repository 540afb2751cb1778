"""What a budget costs: a warning where it could only be met by a threshold at which content is lost."""

from __future__ import annotations

from .config import PruneConfig
from .selection import Selection

#: The highest 8-bit level (a threshold of 0.05) at which answers were measured, without a loss; see docs/reader.md.
HIGHEST_MEASURED_LEVEL = 12


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
