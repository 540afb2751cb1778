"""Images on their way to a vision tower: select on the resized pixels, then normalise and lay out kept blocks only.

Engines hand over the pixels as their image processor resizes them and the value that it gives to each 8-bit level.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .budget import RareWarning, budget_warning
from .config import PruneConfig
from .select import select
from .selection import Selection
from .sequence import SequenceSelector

if TYPE_CHECKING:
    from torch import Tensor

    #: uint8 ``(H, W, C)``, resized; and float32 or uint8 ``(C, 256)``: what the model takes for each 8-bit level of
    #: each channel.
    PixelsAndTable: TypeAlias = tuple[NDArray[np.uint8] | Tensor, NDArray[np.float32] | NDArray[np.uint8]]

logger = logging.getLogger(__name__)
_warn_of_budget = RareWarning(logger)


@dataclass(frozen=True)
class ImageReport:
    """What happened to one image.

    Attributes:
        total, kept: blocks (tokens of the language model) before and after.
        lattice: how many blocks only the lattice keeps, before references.
        retain_ratio: kept / total.
        method: the rule; ``none`` where nothing was to be pruned.
        threshold: the threshold used, on the 0..1 scale (found by the search if ``max_tokens`` was set).
        selection_ms: wall time of the selection in milliseconds.
        warning: what a budget (``max_tokens``) dropped that should be seen, in a line; ``None`` if nothing.
        references: how many blocks each earlier image took the place of, by its number in the row.
        metric: the distance between blocks that the threshold is of; with a budget perhaps not the configured one.
    """

    total: int
    kept: int
    retain_ratio: float
    method: str
    threshold: float
    selection_ms: float
    lattice: int = 0
    warning: str | None = None
    references: Mapping[int, int] = field(default_factory=dict)
    metric: str = "max"

    @property
    def alone(self) -> int:
        """The blocks that are kept without references."""
        return self.kept + sum(self.references.values())


@dataclass(frozen=True)
class ImageSelection:
    """What is kept of one image.

    Attributes:
        selection: its own selection, without references.
        kept_indices: int32 ``(num_kept,)``: flat row-major indices of the kept blocks, ascending, at least one.
        report: what happened.
    """

    selection: Selection
    kept_indices: NDArray[np.int32]
    report: ImageReport

    @property
    def num_kept(self) -> int:
        """How many blocks are kept."""
        return len(self.kept_indices)

    @classmethod
    def of_whole(cls, rows: int, cols: int, block_size: int) -> ImageSelection:
        """Every block of a grid of rows x cols blocks."""
        source = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
        report = ImageReport(rows * cols, rows * cols, 1.0, "none", 0.0, 0.0)
        return cls(Selection(source, block_size), source.reshape(-1), report)


def prepare(
    images: Iterable[PixelsAndTable],
    config: PruneConfig,
    *,
    patch_size: int,
    merge_size: int,
    temporal_patch_size: int,
    wanted: Collection[int] | None = None,
) -> Iterator[tuple[ImageSelection, NDArray[Any] | Tensor]]:
    """Select, then lay out the kept blocks, of each image of a row.

    Args:
        images: the row's images in order, each with its table of levels; a tensor on another device is processed there.
        config: the settings. One image after the other is taken, selected and laid out.
        patch_size, merge_size, temporal_patch_size: as for :func:`~pixelprune.core.layout.kept_patches`.
        wanted: numbers of the images to yield; the others are only referred to. All if omitted.

    Yields:
        What is kept, and its patches ``(num_kept * merge_size**2, values)``: an array of the table's type, or a tensor
        where the pixels are one.

    Raises:
        ImageError: as :func:`pixelprune.select`.
    """
    sizes = {"patch_size": patch_size, "merge_size": merge_size, "temporal_patch_size": temporal_patch_size}
    block_size = patch_size * merge_size
    selector = None if config.references == "none" else SequenceSelector(config, block_size=block_size)
    for number, (pixels, table) in enumerate(images):
        start = time.perf_counter()
        if selector is None:
            selection = select(pixels, config, block_size=block_size)
            kept, references = selection.kept_indices, {}
        else:
            image = selector.add(pixels)
            selection, kept, references = image.alone, image.kept_indices, image.report.references
        elapsed = (time.perf_counter() - start) * 1e3
        if wanted is None or number in wanted:
            yield _reported(selection, kept, config, elapsed, references), _laid_out(pixels, kept, table, sizes)


def _reported(
    selection: Selection, kept: NDArray[np.int32], config: PruneConfig, elapsed: float, references: Mapping[int, int]
) -> ImageSelection:
    # The level was searched for if there is a budget; otherwise report what was asked for.
    threshold = float(config.threshold) if config.max_tokens is None else selection.level / 255
    report = ImageReport(
        total=selection.num_blocks,
        kept=len(kept),
        retain_ratio=len(kept) / selection.num_blocks,
        method=config.method,
        threshold=threshold,
        selection_ms=elapsed,
        lattice=selection.num_lattice,
        warning=budget_warning(selection, config),
        references=references,
        metric=selection.metric,
    )
    if report.warning is not None:
        _warn_of_budget(report.warning)
    return ImageSelection(selection, kept, report)


def _laid_out(
    pixels: NDArray[np.uint8] | Tensor,
    kept: NDArray[np.int32],
    table: NDArray[np.float32] | NDArray[np.uint8],
    sizes: Mapping[str, int],
) -> NDArray[Any] | Tensor:
    if isinstance(pixels, np.ndarray):
        # Not at the top: vLLM's CPU workers cannot start where numba is loaded, and their modules import this one.
        from .layout import kept_patches

        return kept_patches(pixels, kept, table, **sizes)
    from .layout_torch import kept_patches_on_device

    return kept_patches_on_device(pixels, kept, table, **sizes)
