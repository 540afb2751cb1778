"""How redundant is an image: what any block-wise method could at best drop, and what each rule does drop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from .config import METHODS, Method, Metric, PruneConfig
from .rule import _check, select


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
    height, width, channels = image.shape
    rows, cols = int(height) // block_size, int(width) // block_size
    distinct: set[bytes] = set()
    for band in np.asarray(image).reshape(rows, block_size, cols, block_size * channels):
        blocks = band.swapaxes(0, 1).tobytes()  # one row of blocks, block after block
        size = len(blocks) // cols
        distinct.update(blocks[start : start + size] for start in range(0, len(blocks), size))
    return len(distinct) / (rows * cols)


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
        methods: names from :data:`pixelprune.config.METHODS`.
        thresholds: on the 0..1 scale.
        metric: a name from :data:`pixelprune.config.METRICS`.

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
