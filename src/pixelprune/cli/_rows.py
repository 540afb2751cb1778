"""What ``inspect`` finds out of each image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What is reported of one image. Sizes in pixels, ratios in (0, 1]; a warning if its budget loses content.

    ``alone`` counts the blocks that its own selection keeps, ``lattice`` those of them that only the lattice keeps,
    ``kept`` those that are left where ``references``, earlier images, take the place of some.
    """

    name: str
    width: int
    height: int
    resized_width: int
    resized_height: int
    blocks: int
    alone: int
    kept: int
    lattice: int
    retained: float
    references: list[Reference]
    distinct: float
    level: int
    metric: str
    milliseconds: float
    overlay: str | None
    warning: str | None


@dataclass(frozen=True)
class Reference:
    """How many blocks an earlier image takes the place of: its number among the rows, from 0."""

    image: int
    blocks: int


@dataclass(frozen=True)
class Columns:
    """What the table shows beside what it always does.

    Attributes:
        levels: the threshold levels, which a search for ``max_tokens`` finds for each image.
        lattice: how many blocks only the lattice keeps.
        sequence: what each image keeps alone, and with references, and from which images.
    """

    levels: bool
    lattice: bool
    sequence: bool


@dataclass(frozen=True)
class Failure:
    """An image that could not be measured, and why: one line that names it."""

    name: str
    error: str
