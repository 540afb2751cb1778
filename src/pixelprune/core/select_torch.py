"""The same rules for a torch tensor that is already on a device, without moving it.

The walk of :mod:`.kernels` is sequential: what a block is compared with depends on what was kept before it. Here every
block is compared at once, under a guess of the sources before it, and the guess is repaired until nothing changes.
A block depends on earlier blocks only, so an unchanged guess is the walk's own result, and each round settles at
least one more block of every chain; where the order does not matter (threshold 0, sliding) one round is enough.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .selection import ROW_PREDICTORS
from .walk import Walk, Walked, numpy_walk

_ROUNDS = 8  # after so many, long chains of near-equal blocks are quicker on the host
_CHUNK = 1 << 26  # values compared at a time, which bounds the scratch memory


def torch_walk(image: Tensor, size: int) -> Walk:
    """The walk over a tensor, as a function of the settings.

    Args:
        image: uint8 ``(H, W, C)`` on any device, H and W multiples of ``size``.
        size: side of a block in pixels.

    Returns:
        The walk, whose results are on the CPU. ``components`` with anchors and a threshold grows regions one after the
        other and runs on a host copy; so do images whose chains of near-equal blocks do not settle in a few rounds.
    """
    rows, cols, channels = image.shape[0] // size, image.shape[1] // size, image.shape[2]
    blocks = image.reshape(rows, size, cols, size, channels).swapaxes(1, 2).reshape(rows * cols, -1)

    def walk(method: str, metric: str, limit: int, anchored: bool, budget: int) -> Walked:
        anchored = anchored and limit > 0

        def same(a: Tensor, b: Tensor) -> Tensor:
            return _same(blocks, metric, limit, a, b)

        choices: Tensor | None = None
        source: Tensor | None
        if method == "components" and anchored:
            source = None
        elif method == "components":
            source = _components(same, rows, cols, image.device)
        elif method in ("raster", "serpentine"):
            source = _scan(same, rows, cols, method == "serpentine", anchored, image.device)
        else:
            source, choices = _predict(same, rows, cols, method == "adaptive", anchored, image.device)
        if source is None:
            return numpy_walk(image.cpu().numpy(), size)(method, metric, limit, True, budget)
        result: NDArray[np.int32] = source.reshape(rows, cols).cpu().numpy().astype(np.int32)
        kept = int((result.ravel() == np.arange(result.size)).sum())
        return result, None if choices is None else choices.cpu().numpy().astype(np.uint8), kept

    return walk


def _same(blocks: Tensor, metric: str, limit: int, a: Tensor, b: Tensor) -> Tensor:
    """bool, elementwise over the index tensors a and b: those two blocks are within limit."""
    results = []
    step = max(1, _CHUNK // blocks.shape[1])
    for x, y in zip(torch.split(a.flatten(), step), torch.split(b.flatten(), step), strict=True):
        if limit == 0:
            results.append((blocks[x] == blocks[y]).all(1))
            continue
        difference = (blocks[x].short() - blocks[y].short()).abs()
        if metric == "max":
            results.append(difference.amax(1) <= limit)
        elif metric == "mae":
            results.append(difference.sum(1, dtype=torch.int64) <= limit)
        else:
            results.append(difference.int().square().sum(1, dtype=torch.int64) <= limit)
    return torch.cat(results).reshape(a.shape)


def _roots(parent: Tensor) -> Tensor:
    """Follow parents to the end, by pointer doubling."""
    while True:
        further = parent[parent]
        if torch.equal(further, parent):
            return parent
        parent = further


def _predict(
    same: Callable[[Tensor, Tensor], Tensor], rows: int, cols: int, adaptive: bool, anchored: bool, device: torch.device
) -> tuple[Tensor | None, Tensor]:
    """``pred2d`` and ``adaptive``: sources ``(N,)`` and the predictor of each row. No sources if they do not settle."""
    total = rows * cols
    here = torch.arange(total, device=device).expand(len(ROW_PREDICTORS) if adaptive else 1, total)
    predictors, nodes = here.shape[0], here + torch.arange(here.shape[0], device=device)[:, None] * total
    row, col = here // cols, here % cols
    choice = torch.zeros(rows, dtype=torch.long, device=device)
    candidate = here.clone()  # the reference of each block if its row takes that predictor
    for _ in range(_ROUNDS):
        chosen = candidate[choice[here[0] // cols], here[0]]
        # Blocks A, B, C of the rule. Where there is none, another of them or the block itself stands in.
        left = candidate.roll(1, 1) if anchored else here - 1
        left = torch.where(col > 0, left, here)
        above = (chosen if anchored else here[0]).roll(cols).expand_as(here)
        above = torch.where(row > 0, above, left)
        corner = (chosen if anchored else here[0]).roll(cols + 1).expand_as(here)
        corner = torch.where((row > 0) & (col > 0), corner, here)
        corner_left, corner_above = same(corner, left), same(corner, above)
        # By predictor: pred2d, left, above, pred2d with ties broken upward.
        up = torch.stack(
            [
                corner_left & ~corner_above,
                torch.zeros_like(corner_left),
                torch.ones_like(corner_left),
                ~(corner_above & ~corner_left),
            ]
        )[torch.arange(predictors), torch.arange(predictors)]
        up = torch.where(col == 0, row > 0, up & (row > 0))
        dropped = same(here, torch.where(up, above, left)) & (here > 0)
        new_choice = choice
        if adaptive:
            kept = (~dropped).reshape(predictors, rows, cols).sum(2)
            kept[1:, 0] = cols + 1  # the first row has one way only
            order = torch.arange(predictors, device=device)[:, None]
            new_choice = (kept * predictors + order).amin(0) % predictors
        upward = new_choice.roll(1)[row] * total + here - cols
        parent = torch.where(dropped, torch.where(up, upward, nodes - 1), nodes)
        new_candidate = _roots(parent.flatten()).reshape(predictors, total) % total
        if not anchored or (torch.equal(new_candidate, candidate) and torch.equal(new_choice, choice)):
            return new_candidate[new_choice[here[0] // cols], here[0]], new_choice
        candidate, choice = new_candidate, new_choice
    return None, choice


def _scan(
    same: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    cols: int,
    serpentine: bool,
    anchored: bool,
    device: torch.device,
) -> Tensor | None:
    """``raster`` and ``serpentine``: sources ``(N,)``, or none if they do not settle."""
    order = torch.arange(rows * cols, device=device).reshape(rows, cols)
    if serpentine:
        order[1::2] = order[1::2].flip(1)
    order = order.flatten()
    position = torch.arange(len(order), device=device)
    source = order  # in scan order, like parent below
    for _ in range(_ROUNDS):
        previous = (source if anchored else order).roll(1)
        dropped = same(order, previous) & (position > 0)
        new_source = order[_roots(torch.where(dropped, position - 1, position))]
        if not anchored or torch.equal(new_source, source):
            return torch.empty_like(new_source).scatter_(0, order, new_source)
        source = new_source
    return None


def _components(same: Callable[[Tensor, Tensor], Tensor], rows: int, cols: int, device: torch.device) -> Tensor:
    """``components``: the lowest index of each 4-connected region, spread until nothing changes."""
    index = torch.arange(rows * cols, device=device).reshape(rows, cols)
    across = same(index[:, 1:], index[:, :-1])
    down = same(index[1:], index[:-1])
    label = index.clone()
    while True:
        new = label.clone()
        new[:, 1:] = torch.where(across, torch.minimum(new[:, 1:], label[:, :-1]), new[:, 1:])
        new[:, :-1] = torch.where(across, torch.minimum(new[:, :-1], label[:, 1:]), new[:, :-1])
        new[1:] = torch.where(down, torch.minimum(new[1:], label[:-1]), new[1:])
        new[:-1] = torch.where(down, torch.minimum(new[:-1], label[1:]), new[:-1])
        new = _roots(new.flatten()).reshape(rows, cols)
        if torch.equal(new, label):
            return label.flatten()
        label = new
