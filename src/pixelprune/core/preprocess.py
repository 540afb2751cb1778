"""One image on its way to a vision tower: select on the resized pixels, then normalise and lay out kept blocks only.

Engines hand over the pixels as their image processor resizes them and the value that it gives to each 8-bit level.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .budget import budget_warning
from .config import PruneConfig
from .select import select
from .selection import Selection

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageReport:
    """What happened to one image.

    Attributes:
        total, kept: blocks (tokens of the language model) before and after.
        lattice: how many of the kept ones only the lattice keeps.
        retain_ratio: kept / total.
        method: the rule; ``none`` where nothing was to be pruned.
        threshold: the threshold used, on the 0..1 scale (found by the search if ``max_tokens`` was set).
        selection_ms: wall time of the selection in milliseconds.
        warning: what a budget (``max_tokens``) dropped that should be seen, in a line; ``None`` if nothing.
    """

    total: int
    kept: int
    retain_ratio: float
    method: str
    threshold: float
    selection_ms: float
    lattice: int = 0
    warning: str | None = None


@dataclass(frozen=True)
class ImageSelection:
    """One image's selection and its report."""

    selection: Selection
    report: ImageReport

    @classmethod
    def of_whole(cls, rows: int, cols: int, block_size: int) -> ImageSelection:
        """Every block of a grid of rows x cols blocks."""
        source = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
        return cls(Selection(source, block_size), ImageReport(rows * cols, rows * cols, 1.0, "none", 0.0, 0.0))


def prepare(
    pixels: NDArray[np.uint8] | Tensor,
    config: PruneConfig,
    table: NDArray[np.float32] | NDArray[np.uint8],
    *,
    patch_size: int,
    merge_size: int,
    temporal_patch_size: int,
) -> tuple[ImageSelection, NDArray[Any] | Tensor]:
    """Select, then lay out the kept blocks.

    Args:
        pixels: uint8 ``(H, W, C)``, resized; a tensor on another device is processed there.
        config: the settings.
        table: float32 or uint8 ``(C, 256)``: what the model takes for each 8-bit level of each channel.
        patch_size, merge_size, temporal_patch_size: as for :func:`~pixelprune.core.layout.kept_patches`.

    Returns:
        What is kept, and its patches ``(num_kept * merge_size**2, values)``: an array of the table's type, or a tensor
        where the pixels are one.

    Raises:
        ImageError: as :func:`pixelprune.select`.
    """
    # Not at the top: vLLM's CPU workers cannot start where numba is loaded, and their modules import this one.
    from .layout import kept_patches

    start = time.perf_counter()
    selection = select(pixels, config, block_size=patch_size * merge_size)
    elapsed = (time.perf_counter() - start) * 1e3
    # The level was searched for if there is a budget; otherwise report what was asked for.
    threshold = float(config.threshold) if config.max_tokens is None else selection.level / 255
    report = ImageReport(
        total=selection.num_blocks,
        kept=selection.num_kept,
        retain_ratio=selection.retain_ratio,
        method=config.method,
        threshold=threshold,
        selection_ms=elapsed,
        lattice=selection.num_lattice,
        warning=budget_warning(selection, config),
    )
    if report.warning is not None:
        logger.warning("%s", report.warning)
    sizes = {"patch_size": patch_size, "merge_size": merge_size, "temporal_patch_size": temporal_patch_size}
    rows: NDArray[Any] | Tensor
    if isinstance(pixels, np.ndarray):
        rows = kept_patches(pixels, selection.kept_indices, table, **sizes)
    else:
        from .layout_torch import kept_patches_on_device

        rows = kept_patches_on_device(pixels, selection.kept_indices, table, **sizes)
    return ImageSelection(selection, report), rows
