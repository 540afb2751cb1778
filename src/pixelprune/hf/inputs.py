"""The images and videos of a model's call, kept blocks only: read, checked, placed and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import PrunedInputError
from ..models.registry import family_of
from .encode import encode_kept
from .kept import KEPT, KeptImage, align_kept, read_kept
from .modality import MODALITIES, Modality
from .positions import Placed, pruned_positions


@dataclass(frozen=True)
class Vision:
    """The images, or the videos, of a call.

    Attributes:
        modality: which of the two.
        pixels: ``(patches, values)``: kept patches only, one item after the other.
        grid: int64 ``(items, 3)``: full grids in patches.
        items: which blocks are kept, and where their tokens are.
    """

    modality: Modality
    pixels: Tensor
    grid: Tensor
    items: Sequence[KeptImage]

    def only(self, numbers: Sequence[int]) -> Vision:
        """Some of the items; itself if these are all, without a copy."""
        if len(numbers) == len(self.items):
            return self
        unit = len(self.pixels) // sum(len(item.kept) for item in self.items)
        pieces = torch.split(self.pixels, [len(item.kept) * unit for item in self.items])
        chosen = [self.items[number] for number in numbers]
        return Vision(self.modality, torch.cat([pieces[n] for n in numbers]), self.grid[list(numbers)], chosen)

    def encoded(self, base: Any) -> Any:
        """What the model takes as ``mm_encoder_outputs``, with one tensor per image and per frames of one token."""
        return encode_kept(base.visual, family_of(base.config.model_type), self.pixels, *self._frames())

    def encoded_by_row(self, base: Any) -> Any:
        """The same with one tensor per row, so that expanding rows for beams cannot reorder images within one."""
        features = self.encoded(base)
        rows = [item.row for item, count in zip(self.items, self._counts, strict=True) for _ in range(count)]

        def join(parts: Any) -> tuple[Tensor, ...]:
            by_row: dict[int, list[Tensor]] = {}
            for row, part in zip(rows, parts, strict=True):
                by_row.setdefault(row, []).append(part)
            return tuple(torch.cat(parts) for parts in by_row.values())

        features.pooler_output = join(features.pooler_output)
        if getattr(features, "deepstack_features", None) is not None:
            features.deepstack_features = [join(parts) for parts in features.deepstack_features]
        return features

    @cached_property
    def _counts(self) -> list[int]:
        # On a GPU this waits for the device: once.
        counts: list[int] = self.grid[:, 0].tolist()
        return counts

    def _frames(self) -> tuple[Tensor, list[Any]]:
        """Grids and kept blocks of single frames: towers attend within the frames of one token, as between images."""
        grid = self.grid.repeat_interleave(self.grid[:, 0], 0, output_size=sum(self._counts))
        grid[:, 0] = 1
        frames = [f for item, count in zip(self.items, self._counts, strict=True) for f in item.frames(count)]
        return grid, [frame.kept for frame in frames]


def pruned_vision(base: Any, call: Mapping[str, Any], input_ids: Any, kept: Any) -> list[Vision] | None:
    """The images and videos of a call in which patches are missing; ``None`` where nothing is pruned.

    Args:
        base: the base model.
        call: the keyword arguments.
        input_ids: those of the call, int64 ``(batch, length)``, or ``None``.
        kept: its ``pixelprune_kept``, or ``None``.

    Raises:
        PrunedInputError: they do not fit together.
    """
    _check_positions(call.get("position_ids"), input_ids, call.get("inputs_embeds"))
    for modality in MODALITIES:
        pixels, grid = call.get(modality.pixels), call.get(modality.grid)
        if pixels is None or grid is None:
            continue
        if kept is not None and (pixels.ndim != 2 or grid.ndim != 2):
            raise PrunedInputError(
                f"{modality.pixels} must be (patches, values) and {modality.grid} ({modality.name}s, 3); got "
                f"{tuple(pixels.shape)} and {tuple(grid.shape)}. Join them along their first dimension, do not stack "
                f"them"
            )
        rows, patches = pixels.shape[:-1].numel(), int(grid.prod(-1).sum())
        if rows == patches:
            continue
        if kept is None:
            raise PrunedInputError(
                f"{modality.pixels} has {rows} rows but {modality.grid} is of {patches} patches, and {KEPT}, "
                f"which says which of them are kept, is missing; pass the processor's whole output to the model"
            )
        if input_ids is None:
            raise PrunedInputError(f"pruned {modality.pixels} need input_ids beside them; got inputs_embeds or nothing")
    if kept is None or input_ids is None:
        return None
    vision = read_vision(base, call, input_ids, kept)
    return None if all(item.is_whole for part in vision for item in part.items) else vision


def read_vision(base: Any, call: Mapping[str, Any], input_ids: Tensor, kept: Tensor | None) -> list[Vision]:
    """The images and videos of a call, pruned or whole; arguments and errors as for :func:`pruned_vision`."""
    given = [m for m in MODALITIES if call.get(m.pixels) is not None and call.get(m.grid) is not None]
    if not given:
        return []
    ids = input_ids.cpu().numpy()
    masks = [ids == getattr(base.config, modality.token_id) for modality in given]
    values = None if kept is None else align_kept(kept.cpu().numpy(), np.logical_or.reduce(masks))
    unit = _merge_size(base) ** 2
    vision = []
    for modality, mask in zip(given, masks, strict=True):
        pixels, grid = call[modality.pixels], call[modality.grid]
        items = read_kept(None if values is None else values * mask, mask, (grid.prod(-1) // unit).tolist())
        patches = sum(len(item.kept) for item in items) * unit
        if patches != len(pixels):
            raise PrunedInputError(
                f"{KEPT} is of {patches} patches but {modality.pixels} has {len(pixels)} rows; pass the processor's "
                f"whole output to the model"
            )
        vision.append(Vision(modality, pixels, grid, items))
    return vision


def place(base: Any, input_ids: Tensor, call: Mapping[str, Any], vision: Sequence[Vision]) -> Tensor:
    """``position_ids`` int64 ``(4, batch, length)`` of a call, beside its ``input_ids``."""
    mask = call.get("attention_mask")
    positions = pruned_positions(
        base.get_rope_index,
        input_ids.cpu().numpy(),
        mask.cpu().numpy().astype(bool) if mask is not None and mask.shape == input_ids.shape else None,
        [
            Placed(part.modality, getattr(base.config, part.modality.token_id), part.grid.cpu().numpy(), part.items)
            for part in vision
        ],
        call.get("second_per_grid_ts"),
    )
    return torch.from_numpy(positions).to(input_ids.device)


def _merge_size(base: Any) -> int:
    return int(base.config.vision_config.spatial_merge_size)


def _check_positions(position_ids: Any, input_ids: Any, inputs_embeds: Any) -> None:
    """Positions of another shape than the tokens would be broadcast or cut in silence."""
    tokens = inputs_embeds if input_ids is None else input_ids
    if position_ids is None or tokens is None or position_ids.ndim < 3:
        return
    batch, length = tokens.shape[:2]
    # Stock generate passes one axis where all are equal.
    if len(position_ids) not in (1, 3, 4) or tuple(position_ids.shape[1:]) != (batch, length):
        raise PrunedInputError(
            f"position_ids must be (4, batch, length) = (4, {batch}, {length}); got {tuple(position_ids.shape)}. Leave "
            f"them out: an enabled model computes them"
        )
