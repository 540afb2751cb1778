"""Which block each image token is: one tensor beside ``input_ids`` that pads, slices, stacks and moves like it.

``pixelprune_kept`` is int64 ``(batch, length)``: 0 on text and padding; on the token of a kept block 1 + the index of
that block, counted over the blocks of the row's images one after the other. So the values of a row ascend, and 1, the
first block of the first image, which is always kept, begins a new count: rows that are joined, as packing and a second
turn join them, stay readable. Videos have tokens of their own and are counted in the same way, apart from images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PrunedInputError

#: The key in the processor's output, and the keyword of ``forward`` and ``generate`` of an enabled model.
KEPT = "pixelprune_kept"

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class KeptImage:
    """One image of a batch, one video, or the frames of one that share their tokens.

    Attributes:
        row: its row of the batch.
        tokens: int64 ``(num_kept,)``: where its tokens are in that row of ``input_ids``.
        kept: int64 ``(num_kept,)``: its kept flat block indices, ascending.
        blocks: the blocks of its full grid.
    """

    row: int
    tokens: Indices
    kept: Indices
    blocks: int

    @property
    def is_whole(self) -> bool:
        """Whether no block is missing."""
        return len(self.kept) == self.blocks

    def frames(self, count: int) -> list[KeptImage]:
        """A video cut along its time into ``count`` grids of equal size.

        Raises:
            PrunedInputError: one of them has no kept block.
        """
        size = self.blocks // count
        ends = np.searchsorted(self.kept, np.arange(count + 1) * size)
        if (np.diff(ends) == 0).any():
            raise PrunedInputError(
                f"frames {int(np.argmin(np.diff(ends)))} of a video of {count} in row {self.row} keep no block. {_HINT}"
            )
        return [
            KeptImage(self.row, self.tokens[begin:end], self.kept[begin:end] - number * size, size)
            for number, (begin, end) in enumerate(pairwise(ends.tolist()))
        ]


def write_kept(
    rows: Sequence[NDArray[np.integer]], image_token_id: int, kept: Sequence[NDArray[np.integer]], blocks: Sequence[int]
) -> list[Indices]:
    """The rows of ``pixelprune_kept``.

    Args:
        rows: token ids of each row, padded or not, with as many placeholders as blocks are kept.
        image_token_id: the placeholder.
        kept: per image, over all rows, its kept flat block indices.
        blocks: per image the blocks of its full grid.

    Raises:
        PrunedInputError: the placeholders are not those of these images.
    """
    out, image = [], 0
    for number, ids in enumerate(rows):
        places = np.flatnonzero(ids == image_token_id)
        values = np.zeros(len(ids), np.int64)
        done = offset = 0
        while done < len(places):
            count = len(kept[image]) if image < len(kept) else 0
            if not 0 < count <= len(places) - done:
                raise PrunedInputError(
                    f"row {number} has {len(places)} image tokens, which are not those of whole images: the images "
                    f"keep {[len(indices) for indices in kept]} blocks; give each image one placeholder, and cut no "
                    f"text inside an image"
                )
            if done and places[done] == places[done - 1] + 1:
                # The model's own position code takes one run of image tokens for one image.
                raise PrunedInputError(
                    f"row {number} has a run of {done + count} image tokens or more that are of two images, which the "
                    f"model takes for one; give each image one placeholder between other tokens"
                )
            values[places[done : done + count]] = kept[image].astype(np.int64) + (1 + offset)
            done, offset, image = done + count, offset + blocks[image], image + 1
        out.append(values)
    if image != len(kept):
        raise PrunedInputError(f"{len(kept)} images were passed but the text has placeholders for {image}")
    return out


def whole_kept(is_image: Any) -> Any:
    """``pixelprune_kept`` where nothing is pruned.

    Args:
        is_image: bool ``(..., length)``, an array or a tensor: where ``input_ids`` has image tokens.
    """
    return is_image.cumsum(-1) * is_image


def read_kept(kept: NDArray[np.int64] | None, is_image: NDArray[np.bool_], blocks: Sequence[int]) -> list[KeptImage]:
    """The images of a batch, in the order of ``image_grid_thw``.

    Args:
        kept: ``pixelprune_kept``; ``None`` if nothing is pruned. Its rows may be shorter or longer than those of
            ``input_ids``, as where a collator appends answers to prompts: then a row's n-th value belongs to its n-th
            image token.
        is_image: bool ``(batch, length)``: where ``input_ids`` has image tokens.
        blocks: per image the blocks of its full grid.

    Raises:
        PrunedInputError: the three do not fit together.
    """
    if kept is None:
        images = read_kept(whole_kept(is_image), is_image, blocks)
        for image in images:
            if not image.is_whole:
                count = int(is_image[image.row].sum())
                raise PrunedInputError(
                    f"row {image.row} of input_ids has {count} image tokens, which are not those of whole images of "
                    f"{list(blocks)} blocks"
                )
        return images
    images = []
    for row, values in enumerate(align_kept(kept, is_image)):
        tokens = np.flatnonzero(is_image[row])
        for begin, end in _counts(values[tokens], row):
            images += _images_of(values[tokens[begin:end]] - 1, tokens[begin:end], blocks[len(images) :], row)
    if len(images) != len(blocks):
        raise PrunedInputError(
            f"image_grid_thw has {len(blocks)} images but {KEPT} has blocks of {len(images)}. {_HINT}"
        )
    return images


def align_kept(kept: NDArray[np.int64], is_vision: NDArray[np.bool_]) -> Indices:
    """``pixelprune_kept`` in the shape of ``input_ids``, each value on its token.

    Args:
        kept: as for :func:`read_kept`.
        is_vision: bool ``(batch, length)``: where ``input_ids`` has tokens of images or videos.

    Raises:
        PrunedInputError: the two do not fit together.
    """
    if kept.ndim != 2 or len(kept) != len(is_vision):
        raise PrunedInputError(
            f"{KEPT} must have the rows of input_ids, {len(is_vision)}; got shape {tuple(kept.shape)}. {_HINT}"
        )
    aligned = np.zeros(is_vision.shape, np.int64)
    for row in range(len(kept)):
        tokens, places = np.flatnonzero(is_vision[row]), np.flatnonzero(kept[row])
        if len(tokens) != len(places) or (kept.shape == is_vision.shape and not np.array_equal(tokens, places)):
            raise PrunedInputError(
                f"row {row} of input_ids has {len(tokens)} image tokens but row {row} of {KEPT} has {len(places)} "
                f"blocks{'' if len(tokens) != len(places) else ' at other places'}. {_HINT}"
            )
        aligned[row, tokens] = kept[row, places]
    return aligned


_HINT = "Pass the processor's whole output to the model, and cut or join all of it alike"


def _counts(values: Indices, row: int) -> list[tuple[int, int]]:
    """Where each count of a row begins and ends: at each 1."""
    if not len(values):
        return []
    begins = np.flatnonzero(values == 1)
    if not len(begins) or begins[0] != 0:
        raise PrunedInputError(f"row {row} of {KEPT} does not begin with the first block of an image. {_HINT}")
    ends = np.append(begins[1:], len(values))
    for begin, end in zip(begins, ends, strict=True):
        if (np.diff(values[begin:end]) <= 0).any():
            raise PrunedInputError(f"the blocks in row {row} of {KEPT} do not ascend. {_HINT}")
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _images_of(indices: Indices, tokens: Indices, blocks: Sequence[int], row: int) -> list[KeptImage]:
    """Cut one count into images."""
    images: list[KeptImage] = []
    done = offset = 0
    while done < len(indices):
        total = blocks[len(images)] if len(images) < len(blocks) else 0
        end = int(np.searchsorted(indices, offset + total))
        if end == done:
            raise PrunedInputError(
                f"block {indices[done]} in row {row} of {KEPT} is in none of its images, which have {list(blocks)} "
                f"blocks. {_HINT}"
            )
        images.append(KeptImage(row, tokens[done:end], indices[done:end] - offset, total))
        done, offset = end, offset + total
    return images
