"""A sequence of images: blocks that an earlier image shows at the same place are dropped too.

First within each image, by :func:`pixelprune.select`; then a block that is left is dropped if it equals, value for
value, the block at the same place of a reference image. At a threshold above 0 that block must be one that the first
step keeps: every block is then within the threshold of a block of its own image, which equals what it is copied from,
and errors never add up along a sequence. What is kept of an image depends on the pixels of that image and of its
reference images alone: caches can be keyed by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ImageError, SelectionError
from .budget import first_that_fits
from .config import PruneConfig, References, is_integer
from .select import select
from .selection import Selection
from .walk import pixels_and_words

if TYPE_CHECKING:
    import torch

Image: TypeAlias = "NDArray[np.uint8] | torch.Tensor"


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
            for other in np.unique(reference[..., 0]).tolist():
                blocks = reference[reference[..., 0] == other][:, 1]
                kept = self.kept_indices[other] if 0 <= other <= number else np.empty(0, np.int32)
                if not np.isin(blocks, kept).all():
                    raise SelectionError(
                        f"image {number} refers to blocks of image {other} that are not kept blocks of it or of an "
                        f"earlier image"
                    )

    def __len__(self) -> int:
        return len(self.alone)

    @cached_property
    def keep(self) -> tuple[NDArray[np.bool_], ...]:
        """Per image bool ``(rows, cols)``: True where the block is kept."""
        return tuple(
            np.asarray(
                (reference[..., 0] == number)
                & (reference[..., 1] == np.arange(selection.num_blocks).reshape(selection.grid))
            )
            for number, (selection, reference) in enumerate(zip(self.alone, self.reference, strict=True))
        )

    @cached_property
    def kept_indices(self) -> tuple[NDArray[np.int32], ...]:
        """Per image int32 ``(num_kept,)``: flat row-major indices of its kept blocks, ascending, at least one."""
        return tuple(np.flatnonzero(keep).astype(np.int32) for keep in self.keep)

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
        reports = []
        for number, (selection, reference) in enumerate(zip(self.alone, self.reference, strict=True)):
            dropped_by = reference[..., 0][selection.keep & ~self.keep[number]]
            images, counts = np.unique(dropped_by, return_counts=True)
            references = dict(zip(images.tolist(), counts.tolist(), strict=True))
            kept = len(self.kept_indices[number])
            reports.append(SequenceReport(selection.num_blocks, selection.num_kept, kept, references))
        return reports

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


def select_sequence(
    images: Sequence[Image],
    config: PruneConfig | None = None,
    *,
    references: References | None = None,
    block_size: int = 32,
    max_sequence_tokens: int | None = None,
) -> Selections:
    """Choose the blocks to keep of each image of a sequence: a screenshot history, the pages of a document.

    Args:
        images: uint8 ``(H, W, 3)`` or ``(H, W, 1)`` each, in order, as for :func:`pixelprune.select`.
        config: the settings; ``PruneConfig(references="previous")`` if omitted. ``max_tokens`` bounds each image's own
            selection, before references. Of several reference images the latest that shows a block is its reference.
        references: in place of ``config.references``, if given.
        block_size: side of a block in pixels.
        max_sequence_tokens: keep at most this many blocks of all images together, by raising the threshold as
            ``max_tokens`` does. Then what is kept depends on the whole sequence.

    Returns:
        The selections. An image without a reference has exactly what :func:`pixelprune.select` gives, and every image
        keeps at least one block: where nothing else is left, its first.

    Raises:
        ConfigError: a setting is not allowed, or the budget is below one block an image.
        ImageError: an image's type, shape or size is not as above; the message names its number.
    """
    config = PruneConfig(references="previous") if config is None else config
    if references is not None:
        config = config.replace(references=references)
    images = list(images)

    def alone(level: int | None) -> list[Selection]:
        chosen = config if level is None else config.replace(threshold=level / 255, max_tokens=None)
        return [_select(image, chosen, block_size, number) for number, image in enumerate(images)]

    equal = _equality(images, block_size)

    def run(level: int | None) -> Selections:
        chosen = alone(level)
        exact = all(selection.level == 0 for selection in chosen) and (config.metric == "max" or config.threshold == 0)
        return _with_references(chosen, images, config.references, exact, equal)

    if max_sequence_tokens is None:
        return run(None)
    if not is_integer(max_sequence_tokens) or max_sequence_tokens < 1:
        raise ConfigError(f"max_sequence_tokens must be a whole number of at least 1; got {max_sequence_tokens!r}")

    def within(level: int) -> Selections | None:
        tried = run(level)
        return tried if tried.num_kept <= max_sequence_tokens else None

    found = first_that_fits(config.first_level, within)
    if found is None:
        raise ConfigError(
            f"max_sequence_tokens={max_sequence_tokens} is below what {len(images)} images keep at the highest "
            f"threshold, {run(255).num_kept}; raise it, or send fewer images"
        )
    return found


def _select(image: Image, config: PruneConfig, block_size: int, number: int) -> Selection:
    try:
        return select(image, config, block_size=block_size)
    except ImageError as error:
        raise ImageError(f"image {number} of the sequence: {error}") from error


Equality = Callable[[int, int, NDArray[np.bool_]], NDArray[np.bool_]]


def _equality(images: list[Image], block_size: int) -> Equality:
    """Which blocks of two images are equal, among those that are asked for; of tensors, where they lie."""
    # Not at the top: importing the package loads no compiler.
    from . import kernels as untyped

    kernels: Any = untyped

    words: dict[int, NDArray[np.unsignedinteger]] = {}

    def equal(number: int, other: int, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        result: NDArray[np.bool_]
        image = images[number]
        cols = image.shape[1] // block_size
        if not isinstance(image, np.ndarray):
            same: Any = image == images[other]
            blocks = same.reshape(image.shape[0] // block_size, block_size, cols, -1).all(3).all(1)
            result = blocks.flatten().cpu().numpy() & wanted
            return result
        for each in (number, other):
            if each not in words:
                words[each] = pixels_and_words(images[each], block_size)[1]  # type: ignore[arg-type]  # both are arrays
        result = kernels.equal_blocks(words[number], words[other], cols, block_size, wanted)
        return result

    return equal


def _candidates(number: int, references: References, images: list[Image]) -> list[int]:
    """The reference images of an image, later ones first."""
    earlier: list[int]
    if references == "none":
        earlier = []
    elif references == "previous":
        earlier = [number - 1]
    elif references == "first+previous":
        earlier = [number - 1, 0] if number > 1 else [number - 1]
    else:
        earlier = list(range(number - 1, -1, -1))
    return [
        other
        for other in earlier
        if other >= 0 and type(images[other]) is type(images[number]) and images[other].shape == images[number].shape
    ]


def _with_references(
    alone: list[Selection], images: list[Image], references: References, exact: bool, equal: Equality
) -> Selections:
    resolved: list[NDArray[np.int32]] = []  # per image (blocks, 2)
    for number, selection in enumerate(alone):
        left = selection.keep.reshape(-1).copy()
        own = np.stack([np.full(left.size, number), np.arange(left.size)], 1).astype(np.int32)
        for other in _candidates(number, references, images):
            same = equal(number, other, left if exact else left & alone[other].keep.reshape(-1))
            own[same] = resolved[other][same]
            left &= ~same
            if not left.any():
                break
        if not left.any():
            own[0] = number, 0
        resolved.append(own[selection.source.reshape(-1)])
    shaped = [r.reshape(*s.grid, 2) for r, s in zip(resolved, alone, strict=True)]
    for array in shaped:
        array.flags.writeable = False
    return Selections(tuple(alone), tuple(shaped))
