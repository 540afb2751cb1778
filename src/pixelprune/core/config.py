"""The settings: one frozen object, validated where it is made, passed down explicitly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from ..errors import ConfigError

Method = Literal["pred2d", "adaptive", "raster", "serpentine", "components", "random"]
Metric = Literal["max", "mae", "rmse"]

METHODS: tuple[str, ...] = get_args(Method)
METRICS: tuple[str, ...] = get_args(Metric)


@dataclass(frozen=True)
class PruneConfig:
    """What counts as redundant.

    Args:
        method: the rule that predicts a block from earlier ones.

            - ``pred2d``: LOCO-I's edge rule (ITU-T T.87) on whole blocks, as in arXiv 2604.00886.
            - ``adaptive``: per row of blocks, whichever of left, above, pred2d and pred2d with ties broken
              upward keeps fewest.
            - ``raster``, ``serpentine``: run lengths in scan order.
            - ``components``: one block per 4-connected region of equal blocks (after ShowUI). Not causal.
            - ``random``: as many blocks as ``pred2d`` keeps, drawn at random. A baseline, not a method.
        metric: distance between two blocks over all their values, on the 0..1 scale: the largest absolute
            difference (``max``), its mean (``mae``) or the root of its mean square (``rmse``).
        threshold: blocks at most this far apart are equal, 0..1. Zero is exact. Pixels are 8-bit, so for ``max``
            it means the level ``floor(255 * threshold)``.
        anchored: compare with the *kept* block that stands for a neighbour, so that errors never add up.
            ``False`` compares raw neighbours.
        max_tokens: keep at most this many blocks: the lowest 8-bit level, from ``threshold`` upward, that fits.
        seed: for ``random`` only.

    Raises:
        ConfigError: a value is not allowed.
    """

    method: Method = "pred2d"
    metric: Metric = "max"
    threshold: float = 0.0
    anchored: bool = True
    max_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method must be one of {', '.join(METHODS)}; got {self.method!r}")
        if self.metric not in METRICS:
            raise ConfigError(f"metric must be one of {', '.join(METRICS)}; got {self.metric!r}")
        if not _is_number(self.threshold) or not 0.0 <= float(self.threshold) <= 1.0:
            raise ConfigError(
                f"threshold must be a number from 0 to 1 (0.02 is 5 of 255 levels); got {self.threshold!r}"
            )
        if not isinstance(self.anchored, bool):
            raise ConfigError(f"anchored must be True or False; got {self.anchored!r}")
        if self.max_tokens is not None and (not is_integer(self.max_tokens) or self.max_tokens < 1):
            raise ConfigError(
                f"max_tokens must be a whole number of at least 1, the least reachable count "
                f"(block (0, 0) is always kept); got {self.max_tokens!r}"
            )
        if not is_integer(self.seed) or self.seed < 0:
            raise ConfigError(f"seed must be a whole number of at least 0; got {self.seed!r}")

    @property
    def level(self) -> int:
        """The threshold as an 8-bit level, 0..255."""
        return math.floor(float(self.threshold) * 255 + 1e-6)

    def replace(self, **changes: Any) -> PruneConfig:
        """A copy with some settings changed, validated again."""
        return replace(self, **changes)


def threshold_of(level: int) -> float:
    """The threshold with the fewest digits that means this 8-bit level, 0..255."""
    candidates = (math.ceil(level / 255 * scale) / scale for scale in (1, 10, 100, 1000))
    return next(value for value in candidates if PruneConfig(threshold=value).level == level)


def _is_number(value: object) -> bool:
    return is_integer(value) or (isinstance(value, (float, np.floating)) and math.isfinite(value))


def is_integer(value: object) -> bool:
    """A whole number, numpy's kinds included; booleans and arrays are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
