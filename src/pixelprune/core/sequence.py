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
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ImageError
from .config import PruneConfig, is_integer
from .select import select
from .selection import Selection
from .walk import pixels_and_words

References = Literal["previous", "first+previous", "any"]

#: Which earlier images an image may refer to; always of its own size.
REFERENCES: tuple[str, ...] = get_args(References)


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
        blocks: dict[int, NDArray[np.uint8]] = {}
        rebuilt = []
        for number, (image, selection) in enumerate(zip(images, self.alone, strict=True)):
            # Kept blocks only: what is not kept is not there to be read.
            blocks[number] = np.where(self.keep[number].reshape(-1, 1, 1, 1), _blocks(image, selection), np.uint8(0))
            reference = self.reference[number].reshape(-1, 2)
            out = np.empty_like(blocks[number])
            for source in np.unique(reference[:, 0]).tolist():
                here = reference[:, 0] == source
                out[here] = blocks[source][reference[here, 1]]
            (rows, cols), size = selection.grid, selection.block_size
            rebuilt.append(out.reshape(rows, cols, size, size, -1).swapaxes(1, 2).reshape(image.shape))
        return rebuilt

    def __repr__(self) -> str:
        return (
            f"Selections({self.num_kept} of {self.num_blocks} blocks kept ({self.retain_ratio:.1%}), "
            f"{len(self)} images)"
        )


def select_sequence(
    images: Sequence[NDArray[np.uint8]],
    config: PruneConfig | None = None,
    *,
    references: References = "previous",
    block_size: int = 32,
    max_sequence_tokens: int | None = None,
) -> Selections:
    """Choose the blocks to keep of each image of a sequence: a screenshot history, the pages of a document.

    Args:
        images: uint8 ``(H, W, 3)`` or ``(H, W, 1)`` each, in order, as for :func:`pixelprune.select`.
        config: the settings; ``PruneConfig()`` if omitted. ``max_tokens`` bounds each image's own selection, before
            references. ``random`` is refused.
        references: which earlier images of the same size an image may refer to: the one before it (``previous``),
            that and the first of the sequence (``first+previous``), or every one (``any``). Later ones come first.
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
    config = PruneConfig() if config is None else config
    if references not in REFERENCES:
        raise ConfigError(f"references must be one of {', '.join(REFERENCES)}; got {references!r}")
    if config.method == "random":
        raise ConfigError("method 'random' predicts nothing, so it has no references; choose another method")
    images = list(images)

    def alone(level: int | None) -> list[Selection]:
        chosen = config if level is None else config.replace(threshold=level / 255, max_tokens=None)
        return [_select(image, chosen, block_size, number) for number, image in enumerate(images)]

    equal = _equality(images, block_size)

    def run(level: int | None) -> Selections:
        chosen = alone(level)
        exact = all(selection.level == 0 for selection in chosen) and (config.metric == "max" or config.threshold == 0)
        return _with_references(chosen, images, references, exact, equal)

    return run(None) if max_sequence_tokens is None else _within(max_sequence_tokens, config, run)


def _select(image: NDArray[np.uint8], config: PruneConfig, block_size: int, number: int) -> Selection:
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image {number} of the sequence must be a numpy array; got {type(image).__name__}")
    try:
        return select(image, config, block_size=block_size)
    except ImageError as error:
        raise ImageError(f"image {number} of the sequence: {error}") from error


def _within(budget: int, config: PruneConfig, run: Callable[[int], Selections]) -> Selections:
    """The lowest level that fits, by bisection: kept counts all but never rise with the level."""
    if not is_integer(budget) or budget < 1:
        raise ConfigError(f"max_sequence_tokens must be a whole number of at least 1; got {budget!r}")
    low, high = config.first_level, 255
    found = run(low)
    if found.num_kept <= budget:
        return found
    found = run(high)
    if found.num_kept > budget:
        raise ConfigError(
            f"max_sequence_tokens={budget} is below what {len(found)} images keep at the highest threshold, "
            f"{found.num_kept}; raise it, or send fewer images"
        )
    while high - low > 1:
        middle = (low + high) // 2
        tried = run(middle)
        if tried.num_kept <= budget:
            high, found = middle, tried
        else:
            low = middle
    return found


Equality = Callable[[int, int, NDArray[np.bool_]], NDArray[np.bool_]]


def _equality(images: list[NDArray[np.uint8]], block_size: int) -> Equality:
    """Which blocks of two images are equal, among those that are asked for."""
    # Not at the top: importing the package loads no compiler.
    from . import kernels as untyped

    kernels: Any = untyped

    words: dict[int, NDArray[np.unsignedinteger]] = {}

    def equal(number: int, other: int, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        for each in (number, other):
            if each not in words:
                words[each] = pixels_and_words(images[each], block_size)[1]
        cols = images[number].shape[1] // block_size
        result: NDArray[np.bool_] = kernels.equal_blocks(words[number], words[other], cols, block_size, wanted)
        return result

    return equal


def _candidates(number: int, references: str, images: list[NDArray[np.uint8]]) -> list[int]:
    """The reference images of an image, later ones first."""
    if references == "previous":
        earlier = [number - 1]
    elif references == "first+previous":
        earlier = [number - 1, 0] if number > 1 else [number - 1]
    else:
        earlier = list(range(number - 1, -1, -1))
    return [other for other in earlier if other >= 0 and images[other].shape == images[number].shape]


def _with_references(
    alone: list[Selection], images: list[NDArray[np.uint8]], references: str, exact: bool, equal: Equality
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


def _blocks(image: NDArray[np.uint8], selection: Selection) -> NDArray[np.uint8]:
    """uint8 ``(blocks, size, size, C)``"""
    (rows, cols), size = selection.grid, selection.block_size
    if image.ndim != 3 or image.shape[:2] != (rows * size, cols * size):
        raise ImageError(f"an image of {rows * size} x {cols * size} (H x W) pixels is expected; got {image.shape}")
    return image.reshape(rows, size, cols, size, -1).swapaxes(1, 2).reshape(rows * cols, size, size, -1)
