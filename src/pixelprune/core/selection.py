"""The selection: which blocks of an image are kept, and which kept block stands for each dropped one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError

#: The predictors among which ``adaptive`` chooses, by the number kept in :attr:`Selection.row_predictors`.
ROW_PREDICTORS: tuple[str, ...] = ("pred2d", "left", "above", "pred2d-up")


@dataclass(frozen=True, eq=False)
class Selection:
    """The result of :func:`pixelprune.select`; the one object that engines need.

    Attributes:
        source: int32 ``(rows, cols)``: flat index of the kept block that stands for this one, itself where kept.
        block_size: side of a block in pixels.
        level: the 8-bit threshold level that was used, 0..255 (found by the search if ``max_tokens`` was set).
        row_predictors: uint8 ``(rows,)`` for ``adaptive``: the row's choice, an index into
            :data:`ROW_PREDICTORS`; a decoder needs it. ``None`` for the other methods.
        lattice_indices: int32 ``(num_lattice,)``: flat indices, ascending, of the kept blocks that only the lattice
            keeps; the method alone would have dropped them. ``None`` without a lattice.
    """

    source: NDArray[np.int32]
    block_size: int
    level: int = 0
    row_predictors: NDArray[np.uint8] | None = None
    lattice_indices: NDArray[np.int32] | None = None

    @cached_property
    def keep(self) -> NDArray[np.bool_]:
        """bool ``(rows, cols)``: True where the block is kept."""
        indices = np.arange(self.source.size, dtype=np.int32).reshape(self.source.shape)
        return np.asarray(self.source == indices)

    @cached_property
    def kept_indices(self) -> NDArray[np.int32]:
        """int32 ``(num_kept,)``: flat row-major indices of the kept blocks, ascending."""
        return np.flatnonzero(self.keep).astype(np.int32)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        rows, cols = self.source.shape
        return int(rows), int(cols)

    @property
    def num_blocks(self) -> int:
        """Blocks in the image: tokens of the language model without pruning."""
        return int(self.source.size)

    @property
    def num_kept(self) -> int:
        """Blocks kept: tokens of the language model with pruning."""
        return int(self.kept_indices.size)

    @property
    def num_lattice(self) -> int:
        """Blocks that only the lattice keeps."""
        return 0 if self.lattice_indices is None else int(self.lattice_indices.size)

    @property
    def retain_ratio(self) -> float:
        """Kept blocks over all blocks, in (0, 1]."""
        return self.num_kept / self.num_blocks

    def reconstruct(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image rebuilt from kept blocks alone.

        Args:
            image: uint8 ``(H, W, C)``, the image the selection was made on (only kept blocks are read).

        Returns:
            uint8 ``(H, W, C)``: each dropped block replaced by the kept block that stands for it.
        """
        rows, cols = self.grid
        size = self.block_size
        array: NDArray[Any] = np.asarray(image)
        if array.ndim != 3 or array.shape[:2] != (rows * size, cols * size):
            raise ImageError(
                f"this selection is of an image of {rows * size} x {cols * size} (H x W) pixels with channels last; "
                f"got an array of shape {array.shape}"
            )
        channels = array.shape[2]
        blocks = array.reshape(rows, size, cols, size, channels).swapaxes(1, 2)
        row, col = np.divmod(self.source, cols)
        rebuilt: NDArray[np.uint8] = blocks[row, col].swapaxes(1, 2).reshape(rows * size, cols * size, channels)
        return rebuilt

    def __repr__(self) -> str:
        rows, cols = self.grid
        return f"Selection({self.num_kept} of {self.num_blocks} blocks kept ({self.retain_ratio:.1%}), {rows} x {cols})"
