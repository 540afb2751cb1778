"""The selection: which blocks of an image are kept, and from which kept block each dropped one is copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, SelectionError
from .config import METRICS, Metric, is_integer

#: The predictors among which ``adaptive`` chooses, by the number kept in :attr:`Selection.row_predictors`.
ROW_PREDICTORS: tuple[str, ...] = ("pred2d", "left", "above", "pred2d-up")

#: The version of what :meth:`Selection.to_dict` and :meth:`Selection.save` write. Selections of several images, whose
#: references name an image and a block, will have another one.
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Selection:
    """The result of :func:`pixelprune.select`, of one image; the one object that engines need.

    It is checked where it is made, and its arrays are copies that cannot be written to.

    Attributes:
        source: int32 ``(rows, cols)``: flat index of the block's *reference*: the kept block that it is copied from;
            its own index where it is kept.
        block_size: side of a block in pixels.
        level: the 8-bit threshold level that was used, 0..255 (found by the search if ``max_tokens`` was set).
        row_predictors: uint8 ``(rows,)`` for ``adaptive``: the row's choice, an index into
            :data:`ROW_PREDICTORS`; a decoder needs it. ``None`` for the other methods.
        lattice_indices: int32 ``(num_lattice,)``: flat indices, ascending, of the kept blocks that only the lattice
            keeps; the method alone would have dropped them. ``None`` without a lattice.
        metric: the distance between blocks that the level is of; with a budget perhaps not the configured one.

    Raises:
        SelectionError: an attribute has another form, or the reference of a block is not a kept block.
    """

    source: NDArray[np.int32]
    block_size: int
    level: int = 0
    row_predictors: NDArray[np.uint8] | None = None
    lattice_indices: NDArray[np.int32] | None = None
    metric: Metric = "max"

    def __post_init__(self) -> None:
        source = _integers("source", self.source, 2, np.int32)
        flat = source.ravel()
        if not flat.size or flat.min() < 0 or flat.max() >= flat.size:
            seen = f"got {flat.min()} to {flat.max()}" if flat.size else "got no block"
            raise SelectionError(f"source must hold the flat indices of {source.size} blocks; {seen}")
        dangling = flat[flat] != flat
        if dangling.any():
            block = int(dangling.argmax())
            raise SelectionError(
                f"a reference must be a kept block, which is its own reference; block {block} has {flat[block]}, "
                f"which has {flat[flat[block]]}"
            )
        if not is_integer(self.block_size) or self.block_size < 1:
            raise SelectionError(f"block_size must be a whole number of at least 1; got {self.block_size!r}")
        if not is_integer(self.level) or not 0 <= self.level <= 255:
            raise SelectionError(f"level must be a whole number from 0 to 255; got {self.level!r}")
        if self.metric not in METRICS:
            raise SelectionError(f"metric must be one of {', '.join(METRICS)}; got {self.metric!r}")
        choices = self.row_predictors
        if choices is not None:
            choices = _integers("row_predictors", choices, 1, np.uint8)
            if len(choices) != len(source) or choices.max() >= len(ROW_PREDICTORS):
                raise SelectionError(
                    f"row_predictors must hold one of 0 to {len(ROW_PREDICTORS) - 1} for each of {len(source)} rows; "
                    f"got {len(choices)} of up to {choices.max(initial=0)}"
                )
        lattice = self.lattice_indices
        if lattice is not None:
            lattice = _integers("lattice_indices", lattice, 1, np.int32)
            inside = lattice[(lattice >= 0) & (lattice < flat.size)]
            if inside.size < lattice.size or (np.diff(lattice) <= 0).any() or (flat[inside] != inside).any():
                raise SelectionError(
                    f"lattice_indices must be flat indices of kept blocks, ascending; got {str(lattice)[:80]}"
                )
        values = (source, int(self.block_size), int(self.level), choices, lattice, str(self.metric))
        for field, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, field.name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are made anew, so that theirs are checked and read-only too.
        return Selection, tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def keep(self) -> NDArray[np.bool_]:
        """bool ``(rows, cols)``: True where the block is kept."""
        indices = np.arange(self.source.size, dtype=np.int32).reshape(self.source.shape)
        return _read_only(np.asarray(self.source == indices))

    @cached_property
    def kept_indices(self) -> NDArray[np.int32]:
        """int32 ``(num_kept,)``: flat row-major indices of the kept blocks, ascending."""
        return _read_only(np.flatnonzero(self.keep).astype(np.int32))

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
            uint8 ``(H, W, C)``: each dropped block replaced by its reference.
        """
        row, col = np.divmod(self.source, self.grid[1])
        return self.joined(self.blocks_of(image)[row, col])

    def blocks_of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut an image ``(H, W, C)`` of this size into blocks: a view, uint8 ``(rows, cols, size, size, C)``.

        Raises:
            ImageError: the image has another size.
        """
        (rows, cols), size = self.grid, self.block_size
        array: NDArray[np.uint8] = np.asarray(image)
        if array.ndim != 3 or array.shape[:2] != (rows * size, cols * size):
            raise ImageError(
                f"this selection is of an image of {rows * size} x {cols * size} (H x W) pixels with channels last; "
                f"got an array of shape {array.shape}"
            )
        return array.reshape(rows, size, cols, size, array.shape[2]).swapaxes(1, 2)

    def joined(self, blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image ``(H, W, C)`` of such blocks."""
        (rows, cols), size = self.grid, self.block_size
        return blocks.swapaxes(1, 2).reshape(rows * size, cols * size, blocks.shape[-1])

    def to_dict(self) -> dict[str, Any]:
        """The selection as plain JSON values; :meth:`from_dict` reads it back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
        return {"format": FORMAT, **plain}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Selection:
        """The selection that :meth:`to_dict` wrote.

        Raises:
            SelectionError: the format is another one, a value is missing or unknown, or the selection is not
                consistent.
        """
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            seen = values.get("format") if isinstance(values, Mapping) else values
            raise SelectionError(f"a selection must be of format {FORMAT}; got {seen!r}")
        expected = {"format", *(field.name for field in fields(cls))}
        if set(values) != expected:
            raise SelectionError(f"a selection has {', '.join(sorted(expected))}; got {', '.join(map(str, values))}")
        return cls(**{name: value for name, value in values.items() if name != "format"})

    def save(self, path: str | PathLike[str]) -> None:
        """Write the selection to a compressed ``.npz`` file, which :meth:`load` reads back."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, format=FORMAT, **{n: value for n, value in values.items() if value is not None})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Selection:
        """The selection that :meth:`save` wrote.

        Raises:
            SelectionError: the file cannot be read, or does not hold a selection of this format.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except OSError as error:
            raise SelectionError(f"{path}: cannot be read ({error.strerror or error})") from error
        except (ValueError, TypeError, EOFError, BadZipFile) as error:
            raise SelectionError(f"{path}: not a selection in an .npz file") from error
        values: dict[str, Any] = {name: array if array.ndim else array.item() for name, array in arrays.items()}
        try:
            return cls.from_dict({"row_predictors": None, "lattice_indices": None, **values})
        except SelectionError as error:
            raise SelectionError(f"{path}: {error}") from None

    def __repr__(self) -> str:
        rows, cols = self.grid
        return f"Selection({self.num_kept} of {self.num_blocks} blocks kept ({self.retain_ratio:.1%}), {rows} x {cols})"


def _integers(name: str, values: Any, dimensions: int, dtype: Any) -> NDArray[Any]:
    """A read-only copy of whole numbers, as an array of that type."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if isinstance(values, list) and not values:  # numpy takes an empty list for floats
        array = array.astype(dtype)
    if array.ndim != dimensions or array.dtype.kind not in "iu":
        raise SelectionError(
            f"{name} must be an array of whole numbers with {dimensions} dimensions; "
            f"got {array.dtype} of shape {array.shape}"
        )
    limits = np.iinfo(dtype)
    if array.dtype != dtype and array.size and not limits.min <= array.min() <= array.max() <= limits.max:
        raise SelectionError(
            f"{name} must hold numbers from {limits.min} to {limits.max}; got {array.min()} to {array.max()}"
        )
    return _read_only(np.array(array, dtype, order="C"))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
