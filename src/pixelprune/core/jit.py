"""Compile with numba: lazily, cached on disk where there is a writable place, in memory where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """``numba.njit`` without the GIL. Compiles at the first call, never at import.

    numba looks for a writable cache folder when it decorates and raises if it finds none (a read-only
    installation with a read-only home); the kernel then works all the same, compiled once per process.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        return cast(F, numba.njit(nogil=True)(function))
