"""The stock vision tower's weights, run over many images of one size at once.

The stock forward embeds patches with a Conv3d and calls attention once per image; on a CPU both cost several times the
arithmetic. Same weights, same result (`tests/reader` compares them): a linear layer, and one attention call per layer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from .attention import additive, attend


def patches(images: Tensor, patch: int = 16, merge: int = 2) -> Tensor:
    """uint8 (batch, height, width, 3) to values -1..1 (batch, patches in the tower's order, 3 * patch * patch)."""
    batch, height, width, channels = images.shape
    x = images.view(batch, height // patch // merge, merge, patch, width // patch // merge, merge, patch, channels)
    x = x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(batch, -1, channels * patch * patch)
    return x.to(torch.float32).div_(127.5).sub_(1.0)


@lru_cache(maxsize=64)
def _geometry(rows: int, columns: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    grid = torch.tensor([[1, rows, columns]])
    indices, weights = get_vision_interpolation_indices_and_weights(
        grid, num_grid_per_side=side, mode="bilinear", align_corners=True, spatial_merge_size=2, kwargs={}
    )
    return indices, weights, get_vision_position_ids(grid, 2, kwargs={})


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def encode(visual: Any, images: Tensor, kept: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """Features of the merged blocks and the deepstack features, each (batch, blocks, out_hidden_size).

    Args:
        kept: int64 (batch, blocks): the blocks of each image that are encoded, the others left out; -1 fills the rows
            of images with fewer, and features there mean nothing. All blocks by default.
    """
    batch, height, width, _ = images.shape
    weight = visual.patch_embed.proj.weight
    indices, weights, positions = _geometry(height // 16, width // 16, visual.num_grid_per_side)
    x = patches(images)
    placed = (visual.pos_embed(indices) * weights[:, :, None].to(weight.dtype)).sum(1)
    cos, sin = (part.to(weight.dtype) for part in visual.rotary_pos_emb(placed, positions))
    mask = None
    if kept is not None:
        there = (kept >= 0).repeat_interleave(4, dim=1)
        chosen = (kept.clamp_min(0)[:, :, None] * 4 + torch.arange(4)).flatten(1)  # patches of a block lie together
        x = x.gather(1, chosen[:, :, None].expand(-1, -1, x.shape[2]))
        placed, cos, sin = placed[chosen], cos[chosen][:, None], sin[chosen][:, None]
        if not there.all():
            mask = additive(there[:, None, None], weight.dtype)
    # The two temporal slices of a still image are the same, so their kernels add up.
    x = F.linear(x.to(weight.dtype), weight.sum(2).flatten(1), visual.patch_embed.proj.bias) + placed
    count, heads = x.shape[1], visual.config.num_heads
    deep = []
    for index, block in enumerate(visual.blocks):
        qkv = block.attn.qkv(block.norm1(x)).view(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        seen = attend(_rotate(q, cos, sin), _rotate(k, cos, sin), v, mask)
        x = x + block.attn.proj(seen.transpose(1, 2).reshape(batch, count, -1))
        x = x + block.mlp(block.norm2(x))
        if index in visual.deepstack_visual_indexes:
            merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)]
            deep.append(merger(x).view(batch, count // 4, -1))
    return visual.merger(x).view(batch, count // 4, -1), deep
