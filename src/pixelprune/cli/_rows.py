"""What ``inspect`` finds out of each image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What is reported of one image. Sizes in pixels, ratios in (0, 1]; a warning if its budget loses content.

    ``lattice`` counts the kept blocks that only the lattice keeps.
    """

    name: str
    width: int
    height: int
    resized_width: int
    resized_height: int
    blocks: int
    kept: int
    lattice: int
    retained: float
    distinct: float
    level: int
    milliseconds: float
    overlay: str | None
    warning: str | None


@dataclass(frozen=True)
class Failure:
    """An image that could not be measured, and why: one line that names it."""

    name: str
    error: str
