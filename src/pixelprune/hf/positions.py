"""Positions of pruned sequences: written by the processor, read back by the model's hook.

A kept image token has the (temporal, height, width) position that it has in the full sequence, and text after an
image starts where it would have started. So the positions of the image tokens also say which blocks were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import PrunedInputError

RopeIndex = Callable[..., tuple[Tensor, Tensor]]


def rope_index_of(config: Any) -> RopeIndex:
    """The model's own ``get_rope_index``, without building the model: the method reads nothing but the config."""
    from transformers import AutoModel

    model_class: Any = AutoModel._model_mapping[type(config)]
    shell = model_class.__new__(model_class)
    shell.__dict__["config"] = config
    method: RopeIndex = shell.get_rope_index
    return method


def pruned_positions(
    rope_index: RopeIndex,
    rows: Sequence[NDArray[np.int64]],
    image_token_id: int,
    grids: NDArray[np.int64],
    kept: Sequence[NDArray[np.int32]],
    merge_size: int,
) -> list[NDArray[np.int64]]:
    """Positions of each row of a batch of pruned sequences.

    Expand each run of image tokens to the full grid, let the model compute, gather at the kept tokens.

    Args:
        rope_index: the model's ``get_rope_index``.
        rows: token ids of each row without padding, image placeholders already at their kept count.
        image_token_id: the placeholder.
        grids: int64 ``(images, 3)``, full grids in patches, in the order of the images over all rows.
        kept: per image its kept flat block indices.
        merge_size: side of a block in patches.

    Returns:
        Per row int64 ``(4, length)``: text position, then temporal, height and width.
    """
    positions = []
    image = 0
    for ids in rows:
        is_image = ids == image_token_id
        pieces: list[NDArray[np.int64]] = []  # token ids of the full sequence
        gather: list[NDArray[np.int64]] = []  # where the pruned sequence's tokens stand in it
        first = image
        length = 0
        for start, stop in _runs(is_image):
            if not is_image[start]:
                pieces.append(ids[start:stop])
                gather.append(np.arange(length, length + stop - start))
            else:
                if image >= len(kept) or stop - start != len(kept[image]):
                    raise PrunedInputError(
                        f"a run of {stop - start} image tokens in the text does not belong to one of the images, which "
                        f"keep {[len(k) for k in kept]} blocks; give each image one placeholder between other tokens"
                    )
                pieces.append(np.full(int(grids[image].prod()) // merge_size**2, image_token_id))
                gather.append(length + kept[image].astype(np.int64))
                image += 1
            length += len(pieces[-1])
        full = torch.from_numpy(np.concatenate(pieces)[None])
        vision, _ = rope_index(
            full,
            mm_token_type_ids=(full == image_token_id).int(),
            image_grid_thw=torch.from_numpy(grids[first:image]) if image > first else None,
        )
        text = np.arange(len(ids), dtype=np.int64)[None]
        positions.append(np.concatenate([text, vision[:, 0].numpy()[:, np.concatenate(gather)]]))
    if image != len(kept):
        raise PrunedInputError(f"{len(kept)} images were passed but the text has placeholders for {image}")
    return positions


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop of each maximal run of equal values."""
    if not mask.size:
        return []
    edges = np.flatnonzero(np.diff(mask)) + 1
    bounds = [0, *edges.tolist(), mask.size]
    return list(pairwise(bounds))


@dataclass(frozen=True)
class PlacedImage:
    """One image's run of tokens in a batch: its row, its first token, and its kept flat block indices."""

    row: int
    start: int
    kept: Tensor


def locate_images(
    input_ids: Tensor, position_ids: Tensor | None, image_token_id: int, grid_thw: Tensor, merge_size: int
) -> list[PlacedImage]:
    """Read back which blocks each image keeps, from the positions of its tokens.

    Args:
        input_ids: int64 ``(batch, length)``.
        position_ids: int64 ``(4, batch, length)``, as the processor made them.
        grid_thw: int64 ``(images, 3)``, full grids in patches.

    Returns:
        The images in the order of ``grid_thw``, their ``kept`` on the CPU.

    Raises:
        PrunedInputError: positions are missing, or do not describe blocks of these grids.
    """
    if position_ids is None or position_ids.ndim != 3 or position_ids.shape[0] != 4:
        shape = None if position_ids is None else tuple(position_ids.shape)
        raise PrunedInputError(
            f"pruned pixel_values need the position_ids that PrunedProcessor returned, of shape (4, batch, length); "
            f"got {shape}. Pass the processor's whole output to the model"
        )
    if position_ids.shape[1:] != input_ids.shape:
        raise PrunedInputError(
            f"position_ids {tuple(position_ids.shape)} do not fit input_ids {tuple(input_ids.shape)}"
        )
    ids = input_ids.cpu().numpy()
    positions = position_ids[1:].cpu().numpy()
    runs = [
        (row, start, stop)
        for row in range(len(ids))
        for start, stop in _runs(ids[row] == image_token_id)
        if ids[row, start] == image_token_id
    ]
    grids = grid_thw.cpu().tolist()
    if len(runs) != len(grids):
        raise PrunedInputError(
            f"the text has {len(runs)} runs of image tokens but image_grid_thw has {len(grids)} images"
        )
    images = []
    for (row, start, stop), (frames, height, width) in zip(runs, grids, strict=True):
        temporal, vertical, horizontal = positions[:, row, start:stop]
        rows, cols = height // merge_size, width // merge_size
        y, x = vertical - temporal[0], horizontal - temporal[0]
        kept = y * cols + x
        inside = (y >= 0).all() and (y < rows).all() and (x >= 0).all() and (x < cols).all()
        if frames != 1 or not inside or kept[0] != 0 or (np.diff(kept) <= 0).any():
            raise PrunedInputError(
                f"the positions of the image tokens in row {row} from {start} to {stop} do not describe blocks of a "
                f"{rows} x {cols} grid; pass position_ids as PrunedProcessor returned them"
            )
        images.append(PlacedImage(row, start, torch.from_numpy(kept)))
    return images
