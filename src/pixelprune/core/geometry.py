"""Where kept blocks lie: in the rows of patches, in attention windows, and in the prompt with whole images.

Everything here is arithmetic on flat indices, shared by the engines. A *block* is one token of the language model and
``unit = merge_size**2`` consecutive rows of patches. A *segment* is what a model
places as one grid of blocks: an image, or the frames of a video that share their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def rows_of_blocks(blocks: NDArray[np.integer], unit: int) -> Indices:
    """The rows of patches of some blocks: int64 ``(len(blocks) * unit,)``."""
    return np.asarray(blocks[:, None].astype(np.int64) * unit + np.arange(unit)).reshape(-1)


def joined_blocks(kept: Sequence[NDArray[np.integer]], blocks: Sequence[int]) -> Indices:
    """The kept blocks of several images, numbered over all blocks of all images.

    Args:
        kept: per image its kept flat block indices ``(num_kept,)``.
        blocks: per image the number of blocks of its full grid.

    Returns:
        int64 ``(sum of kept,)``.
    """
    offsets = np.cumsum([0, *blocks])[:-1]
    return np.concatenate([indices.astype(np.int64) + offset for indices, offset in zip(kept, offsets, strict=True)])


def sequence_bounds(counts: Sequence[int], unit: int) -> NDArray[np.int32]:
    """Where each image's kept patches begin and end (``cu_seqlens``): int32 ``(images + 1,)``.

    Args:
        counts: kept blocks per image.
        unit: patches in a block.
    """
    return np.cumsum([0, *(count * unit for count in counts)], dtype=np.int32)


def kept_windows(
    order: NDArray[np.integer], bounds: NDArray[np.integer], kept: NDArray[np.integer], unit: int
) -> tuple[Indices, NDArray[np.int32]]:
    """Attention windows without their pruned blocks.

    Args:
        order: all blocks in the order of the windows ``(blocks,)``.
        bounds: where each window begins and ends in that order, in patches, from 0; repeated bounds are allowed.
        kept: the kept blocks, ascending.
        unit: patches in a block.

    Returns:
        The kept blocks in the order of the windows, as int64 ranks among the kept ones ``(num_kept,)``; and the bounds
        of the windows that are not empty, in patches, int32.
    """
    keep = np.zeros(len(order), bool)
    keep[kept] = True
    rank = np.cumsum(keep) - 1
    kept_in_order = keep[order]
    filled = np.cumsum([0, *kept_in_order])[np.asarray(bounds) // unit] * unit
    return rank[order[kept_in_order]].astype(np.int64), np.unique(filled).astype(np.int32)


def expand(
    ids: NDArray[np.integer], block: NDArray[np.integer], sizes: Sequence[int], placeholder: int | Sequence[int]
) -> tuple[Indices, Indices]:
    """The prompt as it would be with whole images.

    Args:
        ids: token ids of one row without padding ``(length,)``, with as many placeholders as blocks are kept.
        block: per token the index of its block, counted over the blocks of the row's segments one after the other; -1
            on tokens that are no block. Ascending, with at least one block of each segment.
        sizes: blocks of each segment's full grid.
        placeholder: token id of a block; one for each segment, where they differ.

    Returns:
        int64 ``(full length,)``, the token ids with every segment at its full count; and int64 ``(length,)``, where
        each given token is among them.
    """
    counts = np.asarray(sizes, np.int64)
    ends = np.cumsum([0, *sizes])
    is_block = block >= 0
    segment = np.searchsorted(ends, block, side="right") - 1  # -1 for text
    before = np.zeros(len(ids) + 1, np.int64)  # dropped blocks between each token and the one before it
    indices, owner = block[is_block].astype(np.int64), segment[is_block]
    places = np.flatnonzero(is_block)
    first = np.diff(owner, prepend=-1) != 0
    before[places] = np.where(first, indices - ends[owner], np.diff(indices, prepend=0) - 1)
    last = np.append(first[1:], True)[: len(first)]
    np.add.at(before, places[last] + 1, ends[owner[last] + 1] - indices[last] - 1)
    at = np.cumsum(before[:-1] + 1) - 1
    begins = at[places[first]] - (indices - ends[owner])[first]  # of each segment
    segments = np.repeat(begins - ends[:-1], counts) + np.arange(ends[-1])
    full = np.empty(len(ids) + int(before.sum()), np.int64)
    full[segments] = np.repeat(np.broadcast_to(np.asarray(placeholder, np.int64), counts.shape), counts)
    full[at] = ids
    return full, at
