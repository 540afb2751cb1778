"""A sequence of images: blocks that an earlier image shows at the same place are dropped too.

First within each image, by :func:`pixelprune.select`; then a block that is left is dropped if it equals, value for
value, the block at the same place of a reference image. At a threshold above 0 that block must be one that the first
step keeps: every block is then within the threshold of a block of its own image, which equals what it is copied from,
and errors never add up along a sequence. What is kept of an image depends on the pixels of that image and of its
reference images alone: caches can be keyed by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ImageError
from .budget import within_budget
from .config import PruneConfig, References, is_integer
from .select import select
from .selections import Selections, SequenceImage
from .walk import pixels_and_words

if TYPE_CHECKING:
    import torch

Image: TypeAlias = "NDArray[np.uint8] | torch.Tensor"


def reference_numbers(number: int, references: References) -> list[int]:
    """The images that one image of a sequence may refer to, by their numbers, ascending.

    What is kept of an image depends on its own pixels and on those of these images alone: it is the same in any
    sequence in which these come before it and, of them, the same one is the previous and the first.
    """
    if references == "any":
        return list(range(number))
    first = [0] if references == "first+previous" else []
    previous = [] if references == "none" else [number - 1]
    return sorted({*first, *previous} & set(range(number)))


class SequenceSelector:
    """Selects one image of a sequence after the other, and holds only those that later ones may refer to.

    Args:
        config: the settings; ``PruneConfig(references="previous")`` if omitted.
        block_size: side of a block in pixels.
    """

    def __init__(self, config: PruneConfig | None = None, *, block_size: int = 32) -> None:
        self.config = PruneConfig(references="previous") if config is None else config
        self.block_size = block_size
        self._count = 0
        self._held: dict[int, _Held] = {}

    def add(self, image: Image) -> SequenceImage:
        """Select the next image.

        Args:
            image: uint8 ``(H, W, 3)`` or ``(H, W, 1)``, as for :func:`pixelprune.select`. It is not copied, and must
                not change as long as later images may refer to it.

        Raises:
            ImageError: its type, shape or size is not as above; the message names its number.
        """
        number = self._count
        try:
            selection = select(image, self.config, block_size=self.block_size)
        except ImageError as error:
            raise ImageError(f"image {number} of the sequence: {error}") from error
        left = selection.keep.flatten()
        own = np.empty((left.size, 2), np.int32)
        own[:, 0], own[:, 1] = number, np.arange(left.size)
        for other in self._references(image):
            # Any block of an exact image is copied from an equal one. Otherwise only those that it keeps are.
            same = _equal(image, other.image, self.block_size, left if other.exact else left & other.kept_alone)
            own[same] = other.resolved[same]
            left &= ~same
            if not left.any():
                break
        if not left.any():
            own[0] = number, 0
        resolved = own[selection.source.reshape(-1)]
        resolved.flags.writeable = False
        exact = selection.level == 0 and (self.config.metric == "max" or self.config.threshold == 0)
        self._hold(_Held(image, selection.keep.reshape(-1), resolved, exact))
        return SequenceImage(number, selection, resolved.reshape(*selection.grid, 2))

    def _references(self, image: Image) -> list[_Held]:
        """What the next image may refer to, later ones first."""
        held = [self._held[number] for number in sorted(self._held, reverse=True)]
        return [other for other in held if type(other.image) is type(image) and other.image.shape == image.shape]

    def _hold(self, image: _Held) -> None:
        keeps_first, keeps_all = self.config.references == "first+previous", self.config.references == "any"
        if not keeps_all:
            self._held = {number: held for number, held in self._held.items() if keeps_first and number == 0}
        if self.config.references != "none":
            self._held[self._count] = image
        self._count += 1


@dataclass(frozen=True, eq=False)
class _Held:
    """An image that later ones may refer to.

    Attributes:
        kept_alone: bool ``(blocks,)``: what its own selection keeps.
        resolved: int32 ``(blocks, 2)``: where each block is copied from.
        exact: every block is copied from one that equals it.
    """

    image: Image
    kept_alone: NDArray[np.bool_]
    resolved: NDArray[np.int32]
    exact: bool


def _equal(image: Image, other: Image, block_size: int, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the wanted blocks are equal in two images of one size: bool ``(blocks,)``, on their device."""
    cols = image.shape[1] // block_size
    if not isinstance(image, np.ndarray):
        same: Any = image == other
        blocks = same.reshape(image.shape[0] // block_size, block_size, cols, -1).all(3).all(1)
        return np.asarray(blocks.flatten().cpu().numpy() & wanted)
    # Not at the top: importing the package loads no compiler.
    from . import kernels as untyped

    kernels: Any = untyped
    words, others = (pixels_and_words(np.asarray(each), block_size)[1] for each in (image, other))
    return np.asarray(kernels.equal_blocks(words, others, cols, block_size, wanted))


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

    def run(used: PruneConfig) -> Selections:
        selector = SequenceSelector(used, block_size=block_size)
        selected = [selector.add(image) for image in images]
        return Selections(tuple(image.alone for image in selected), tuple(image.reference for image in selected))

    if max_sequence_tokens is None:
        return run(config)
    if not is_integer(max_sequence_tokens) or max_sequence_tokens < 1:
        raise ConfigError(f"max_sequence_tokens must be a whole number of at least 1; got {max_sequence_tokens!r}")

    def attempt(used: PruneConfig) -> Selections | None:
        tried = run(used)
        return tried if tried.num_kept <= max_sequence_tokens else None

    found = within_budget(config, attempt)
    if found is None:
        least = run(config.replace(threshold=1, max_tokens=None)).num_kept
        raise ConfigError(
            f"max_sequence_tokens={max_sequence_tokens} is below what {len(images)} images keep at the highest "
            f"threshold, {least}; raise it, or send fewer images"
        )
    return found


def warm_up(config: PruneConfig, block_size: int = 32) -> None:
    """Compile the rules of ``config``, or load what was compiled before: the first images need not wait for it."""
    select_sequence([np.zeros((block_size, block_size, 3), np.uint8)] * 2, config, block_size=block_size)
