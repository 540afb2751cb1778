"""Positions of pruned sequences: expand to whole images, let the model compute, gather at the kept tokens.

So a kept token has the (temporal, height, width) position that it has in the full sequence, and text after an image
starts where it would have started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.geometry import expand
from .kept import KeptImage

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
    input_ids: NDArray[np.int64],
    attention_mask: NDArray[np.bool_] | None,
    image_token_id: int,
    grids: NDArray[np.int64],
    images: Sequence[KeptImage],
) -> NDArray[np.int64]:
    """Positions of a batch of pruned sequences.

    Args:
        rope_index: the model's ``get_rope_index``.
        input_ids: ``(batch, length)``, image placeholders at their kept count.
        attention_mask: ``(batch, length)``, False on padding; ``None`` without padding.
        image_token_id: the placeholder.
        grids: int64 ``(images, 3)``, full grids in patches, in the order of ``images``.
        images: the images of the batch, from :func:`~pixelprune.hf.kept.read_kept`.

    Returns:
        int64 ``(4, batch, length)``: text position, then temporal, height and width; 0 on padding.
    """
    positions = np.zeros((4, *input_ids.shape), np.int64)
    first = 0
    for row, ids in enumerate(input_ids):
        seen = np.ones(len(ids), bool) if attention_mask is None else attention_mask[row]
        block = np.full(len(ids), -1, np.int64)
        sizes: list[int] = []
        for image in images[first:]:
            if image.row != row:
                break
            block[image.tokens] = image.kept + sum(sizes)
            sizes.append(image.blocks)
        last = first + len(sizes)
        full, at = expand(ids[seen], block[seen], sizes, image_token_id)
        tokens = torch.from_numpy(full[None])
        vision, _ = rope_index(
            tokens,
            mm_token_type_ids=(tokens == image_token_id).int(),
            image_grid_thw=torch.from_numpy(grids[first:last]) if sizes else None,
        )
        positions[0, row, seen] = np.arange(len(at))
        positions[1:, row, seen] = vision[:, 0].numpy()[:, at]
        first = last
    return positions
