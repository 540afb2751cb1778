"""How redundant is an image: what any block-wise method could at best drop, and what each rule does drop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .config import METHODS, Method, Metric, PruneConfig
from .select import _check, select
from .selection import Selection


class RetainRow(NamedTuple):
    """One line of :func:`retain_table`."""

    method: str
    threshold: float
    kept: int
    total: int
    retain_ratio: float


def distinct_ratio(image: NDArray[np.uint8], block_size: int = 32) -> float:
    """Distinct blocks over all blocks, in (0, 1]: no exact method that keeps whole blocks can keep fewer.

    Args:
        image: uint8 ``(H, W, 3)`` or ``(H, W, 1)``, H and W multiples of ``block_size``.
        block_size: side of a block in pixels.

    Raises:
        ImageError: the image's type, shape or size is not as above.
    """
    _check(image, block_size)
    image = np.asarray(image)
    selection = select(image, block_size=block_size)
    return count_distinct(image, selection) / selection.num_blocks


def count_distinct(image: NDArray[np.uint8], selection: Selection) -> int:
    """Distinct blocks of an image, given an exact selection of it: dropped blocks equal kept ones, so these suffice.

    Args:
        image: uint8 ``(H, W, C)``, the image the selection was made on.
        selection: made at threshold 0.

    Raises:
        ConfigError: the selection was made at a threshold.
    """
    if selection.level:
        raise ConfigError(f"distinct blocks need a selection at threshold 0; got one at level {selection.level}")
    rows, cols = selection.grid
    size = selection.block_size
    distinct: set[bytes] = set()
    for band, keep in zip(image.reshape(rows, size, cols, -1), selection.keep, strict=True):
        blocks = band[:, keep].swapaxes(0, 1).tobytes()  # the kept blocks of a row of blocks, one after the other
        step = size * band.shape[2]
        distinct.update(blocks[start : start + step] for start in range(0, len(blocks), step))
    return len(distinct)


def retain_table(
    image: NDArray[np.uint8],
    block_size: int = 32,
    methods: Iterable[str] = METHODS,
    thresholds: Iterable[float] = (0.0, 0.02, 0.05),
    metric: str = "max",
) -> list[RetainRow]:
    """What each method keeps at each threshold, methods outermost, anchored.

    Args:
        image: uint8 ``(H, W, 3)`` or ``(H, W, 1)``, H and W multiples of ``block_size``.
        block_size: side of a block in pixels.
        methods: names from :data:`pixelprune.core.config.METHODS`.
        thresholds: on the 0..1 scale.
        metric: a name from :data:`pixelprune.core.config.METRICS`.

    Raises:
        ConfigError: a method, threshold or metric is not allowed.
        ImageError: the image's type, shape or size is not as above.
    """
    thresholds = tuple(thresholds)
    table = []
    for method in methods:
        for threshold in thresholds:
            config = PruneConfig(method=cast(Method, method), metric=cast(Metric, metric), threshold=threshold)
            selection = select(image, config, block_size=block_size)
            kept, total = selection.num_kept, selection.num_blocks
            table.append(RetainRow(method, threshold, kept, total, kept / total))
    return table
