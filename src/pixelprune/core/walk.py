"""One walk over the blocks of an image, as a function of the settings; here the compiled one, over a numpy image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .config import METRICS

#: ``walk(method, metric, limit, anchored, budget) -> (source, row choices or None, kept count)``: int32 of shape
#: ``(rows, cols)`` and uint8 ``(rows,)``, unfinished where more than ``budget`` are kept; ``limit`` is a whole number.
Walked: TypeAlias = tuple[NDArray[np.int32], NDArray[np.uint8] | None, int]
Walk: TypeAlias = Callable[[str, str, int, bool, int], Walked]

#: A budget that no image reaches.
UNLIMITED = 2**62


def pixels_and_words(image: NDArray[np.uint8], size: int) -> tuple[NDArray[np.uint8], NDArray[np.unsignedinteger]]:
    """What the kernels read: the bytes ``(H, W * C)``, and the same as the widest words that divide a block's row."""
    height, width, channels = image.shape
    pixels = np.ascontiguousarray(image).reshape(height, width * channels)
    word = next(w for w in (8, 4, 2, 1) if size * channels % w == 0)
    words = pixels.view(f"u{word}")
    if not words.flags.aligned:
        pixels = pixels.copy()
        words = pixels.view(f"u{word}")
    # numba compiles anew for writable and read-only arrays: let it see one kind.
    pixels, words = pixels.view(), words.view()
    pixels.flags.writeable = words.flags.writeable = False
    return pixels, words


def numpy_walk(image: NDArray[np.uint8], size: int) -> Walk:
    """The compiled walk over an image.

    Args:
        image: uint8 ``(H, W, C)``, H and W multiples of ``size``.
        size: side of a block in pixels.
    """
    # Not at the top: it loads the compiler.
    from . import kernels as untyped

    kernels: Any = untyped
    rows, cols = image.shape[0] // size, image.shape[1] // size
    pixels, words = pixels_and_words(image, size)

    def walk(method: str, metric: str, limit: int, anchored: bool, budget: int) -> Walked:
        metric_id = METRICS.index(metric)
        anchored = anchored or limit == 0  # equality is transitive: the same result, with fewer comparisons
        common = (words, pixels, rows, cols, size, metric_id, limit, anchored)
        if method in ("pred2d", "adaptive"):
            source, choices, kept = kernels.walk_2d(*common, method == "adaptive", budget)
            return source, choices, kept
        if method == "components":
            source, kept = kernels.walk_components(*common, budget)
        else:
            source, kept = kernels.walk_scan(*common, method == "serpentine", budget)
        return source, None, kept

    return walk
