"""Positions of pruned sequences: expand to whole images, let the model compute, gather at the kept tokens.

So a kept token has the (temporal, height, width) position that it has in the full sequence, and text after an image
starts where it would have started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.geometry import expand
from .kept import KeptImage
from .modality import VIDEO, Modality

RopeIndex = Callable[..., tuple[Tensor, Tensor]]


def rope_index_of(config: Any) -> RopeIndex:
    """The model's own ``get_rope_index``, without building the model: the method reads nothing but the config."""
    from transformers import AutoModel

    model_class: Any = AutoModel._model_mapping[type(config)]
    shell = model_class.__new__(model_class)
    shell.__dict__["config"] = config
    method: RopeIndex = shell.get_rope_index
    return method


@dataclass(frozen=True)
class Placed:
    """The images, or the videos, of a batch, as far as positions depend on them.

    Attributes:
        modality: which of the two.
        token_id: their placeholder.
        grids: int64 ``(items, 3)``, full grids in patches, in the order of ``items``.
        items: from :func:`~pixelprune.hf.kept.read_kept`.
    """

    modality: Modality
    token_id: int
    grids: NDArray[np.int64]
    items: Sequence[KeptImage]


def pruned_positions(
    rope_index: RopeIndex,
    input_ids: NDArray[np.int64],
    attention_mask: NDArray[np.bool_] | None,
    placed: Sequence[Placed],
    seconds: Sequence[float] | None = None,
) -> NDArray[np.int64]:
    """Positions of a batch of pruned sequences.

    Args:
        rope_index: the model's ``get_rope_index``.
        input_ids: ``(batch, length)``, placeholders at their kept count.
        attention_mask: ``(batch, length)``, False on padding; ``None`` without padding.
        placed: the images of the batch, and its videos.
        seconds: per video how long its frames of one token last (``second_per_grid_ts``), for models that take it.

    Returns:
        int64 ``(4, batch, length)``: text position, then temporal, height and width; 0 on padding.
    """
    positions = np.zeros((4, *input_ids.shape), np.int64)
    for row, ids in enumerate(input_ids):
        seen = np.ones(len(ids), bool) if attention_mask is None else attention_mask[row]
        block = np.full(len(ids), -1, np.int64)
        inputs: dict[str, Any] = {}
        segments: list[tuple[int, KeptImage]] = []
        for part in placed:
            own = [number for number, item in enumerate(part.items) if item.row == row]
            if not own:
                continue
            inputs[part.modality.grid] = torch.from_numpy(part.grids[own])
            if part.modality is VIDEO and seconds is not None:
                inputs["second_per_grid_ts"] = [float(seconds[number]) for number in own]
            # Frames apart, since some models write text between them.
            for number in own:
                segments += [(part.token_id, f) for f in part.items[number].frames(int(part.grids[number, 0]))]
        segments.sort(key=lambda segment: int(segment[1].tokens[0]))
        offset = 0
        for _, segment in segments:
            block[segment.tokens] = segment.kept + offset
            offset += segment.blocks
        sizes, holes = [segment.blocks for _, segment in segments], [token_id for token_id, _ in segments]
        full, at = expand(ids[seen], block[seen], sizes, holes)
        tokens = torch.from_numpy(full[None])
        types = torch.zeros_like(tokens, dtype=torch.int)
        for part in placed:
            types[tokens == part.token_id] = part.modality.token_type
        vision, _ = rope_index(tokens, mm_token_type_ids=types, **inputs)
        positions[0, row, seen] = np.arange(len(at))
        positions[1:, row, seen] = vision[:, 0].numpy()[:, at]
    return positions
