"""The selections of a sequence: per image what is kept, and from which kept block of which image each is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, SelectionError
from .selection import Selection


@dataclass(frozen=True)
class SequenceReport:
    """What happened to one image of a sequence.

    Attributes:
        total: its blocks.
        alone: those that its own selection keeps.
        kept: those that are kept with references.
        references: how many blocks each reference image took the place of, by its number in the sequence.
    """

    total: int
    alone: int
    kept: int
    references: dict[int, int]


@dataclass(frozen=True, eq=False)
class SequenceImage:
    """What is kept of one image of a sequence.

    Attributes:
        number: of the image in the sequence, from 0.
        alone: its own selection, without references.
        reference: int32 ``(rows, cols, 2)``: the number of the image and the flat index of the kept block that each
            block is copied from; itself where it is kept.
    """

    number: int
    alone: Selection
    reference: NDArray[np.int32]

    @cached_property
    def keep(self) -> NDArray[np.bool_]:
        """bool ``(rows, cols)``: True where the block is kept."""
        own = np.arange(self.alone.num_blocks).reshape(self.alone.grid)
        return np.asarray((self.reference[..., 0] == self.number) & (self.reference[..., 1] == own))

    @cached_property
    def kept_indices(self) -> NDArray[np.int32]:
        """int32 ``(num_kept,)``: flat row-major indices of the kept blocks, ascending, at least one."""
        return np.flatnonzero(self.keep).astype(np.int32)

    @property
    def shown_before(self) -> NDArray[np.bool_]:
        """bool ``(rows, cols)``: the blocks that its own selection keeps and a reference image takes the place of."""
        return self.alone.keep & ~self.keep

    @property
    def report(self) -> SequenceReport:
        """What happened to it."""
        images, counts = np.unique(self.reference[..., 0][self.shown_before], return_counts=True)
        references = dict(zip(images.tolist(), counts.tolist(), strict=True))
        return SequenceReport(self.alone.num_blocks, self.alone.num_kept, len(self.kept_indices), references)


@dataclass(frozen=True, eq=False)
class Selections:
    """The result of :func:`select_sequence`.

    Attributes:
        alone: per image its own selection, without references.
        reference: per image int32 ``(rows, cols, 2)``: the number of the image and the flat index of the kept block
            that each block is copied from; itself where it is kept.
    """

    alone: tuple[Selection, ...]
    reference: tuple[NDArray[np.int32], ...]

    def __post_init__(self) -> None:
        if len(self.alone) != len(self.reference):
            raise SelectionError(f"{len(self.alone)} selections have references of {len(self.reference)} images")
        for number, (selection, reference) in enumerate(zip(self.alone, self.reference, strict=True)):
            if reference.dtype != np.int32 or reference.shape != (*selection.grid, 2):
                raise SelectionError(
                    f"the references of image {number} must be int32 of shape {(*selection.grid, 2)}; "
                    f"got {reference.dtype} of shape {reference.shape}"
                )
        # Where each image's blocks begin among those of all.
        starts = np.cumsum([0, *(selection.num_blocks for selection in self.alone)])
        keep = np.concatenate([image.keep.reshape(-1) for image in self.images] or [np.empty(0, bool)])
        for image in self.images:
            other, block = image.reference.reshape(-1, 2).T
            known = (other >= 0) & (other <= image.number)
            known &= (block >= 0) & (block < np.diff(starts)[np.where(known, other, 0)])
            known[known] = keep[starts[other[known]] + block[known]]
            if not known.all():
                raise SelectionError(
                    f"image {image.number} refers to blocks of image {other[~known][0]} that are not kept blocks of it "
                    f"or of an earlier image"
                )

    def __len__(self) -> int:
        return len(self.alone)

    @cached_property
    def images(self) -> tuple[SequenceImage, ...]:
        """The same, image by image."""
        return tuple(map(SequenceImage, range(len(self)), self.alone, self.reference))

    @property
    def keep(self) -> tuple[NDArray[np.bool_], ...]:
        """Per image bool ``(rows, cols)``: True where the block is kept."""
        return tuple(image.keep for image in self.images)

    @property
    def kept_indices(self) -> tuple[NDArray[np.int32], ...]:
        """Per image int32 ``(num_kept,)``: flat row-major indices of its kept blocks, ascending, at least one."""
        return tuple(image.kept_indices for image in self.images)

    @property
    def num_blocks(self) -> int:
        """Blocks of all images."""
        return sum(selection.num_blocks for selection in self.alone)

    @property
    def num_kept(self) -> int:
        """Kept blocks of all images."""
        return sum(len(kept) for kept in self.kept_indices)

    @property
    def retain_ratio(self) -> float:
        """Kept blocks over all blocks, in (0, 1]."""
        return self.num_kept / self.num_blocks

    def reports(self) -> list[SequenceReport]:
        """What happened to each image."""
        return [image.report for image in self.images]

    def reconstruct(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """The images rebuilt from kept blocks alone.

        Args:
            images: uint8 ``(H, W, C)`` each, those that the selections were made on (only kept blocks are read).

        Returns:
            uint8 ``(H, W, C)`` each.

        Raises:
            ImageError: they are not as many, or not of these sizes.
        """
        if len(images) != len(self):
            raise ImageError(f"these selections are of {len(self)} images; got {len(images)}")
        blocks: list[NDArray[np.uint8]] = []
        rebuilt = []
        for keep, reference, image, selection in zip(self.keep, self.reference, images, self.alone, strict=True):
            # Kept blocks only: what is not kept is not there to be read.
            blocks.append(np.where(keep[..., None, None, None], selection.blocks_of(image), np.uint8(0)))
            out = np.empty_like(blocks[-1])
            for source in np.unique(reference[..., 0]).tolist():
                here = reference[..., 0] == source
                row, col = np.divmod(reference[here, 1], self.alone[source].grid[1])
                out[here] = blocks[source][row, col]
            rebuilt.append(selection.joined(out))
        return rebuilt

    def __repr__(self) -> str:
        return (
            f"Selections({self.num_kept} of {self.num_blocks} blocks kept ({self.retain_ratio:.1%}), "
            f"{len(self)} images)"
        )
