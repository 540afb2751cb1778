"""A slow, obvious twin of the pruned model, for the self-check and the tests.

It shares nothing with :mod:`.encode` and :mod:`.positions`: the vision tower is spelled out layer by layer with a
dense attention mask, positions are counted in a loop, and the language model runs over the *full* sequence with the
dropped tokens masked out (families with recurrent layers, which cannot mask, or with a sliding window, in which
dropped tokens are none, run over the kept tokens alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.registry import family_of


@dataclass
class FullInputs:
    """One unpadded row as the stock processor makes it, and what is to be kept of its images.

    Args:
        input_ids: ``(length,)``, placeholders at their full count.
        pixel_values: ``(patches, values)``, whole images one after the other.
        image_grid_thw: ``(images, 3)``.
        kept: per image its kept flat block indices.
        where: ``(3, length)``, the positions; counted by :func:`positions` if omitted, which knows images only. With
            them, all frames of one token of a video are an image.
    """

    input_ids: Tensor
    pixel_values: Tensor
    image_grid_thw: Tensor
    kept: Sequence[Tensor]
    where: Tensor | None = None


def encode(model: Any, inputs: FullInputs) -> tuple[list[Tensor], list[Tensor]]:
    """Features of the kept blocks, ``(num_kept, hidden)`` per image; and deepstack features of all, per level."""
    tower = model.base_model.visual
    sizes = inputs.image_grid_thw.prod(-1).tolist()
    pooled, deep = [], []
    for pixels, (_, height, width), kept in zip(
        torch.split(inputs.pixel_values, sizes), inputs.image_grid_thw.tolist(), inputs.kept, strict=True
    ):
        features, levels = _encode_image(tower, model.config.model_type, pixels, height, width, kept.tolist())
        pooled.append(features)
        deep.append(levels)
    return pooled, [torch.cat(levels) for levels in zip(*deep, strict=True)]


def _encode_image(
    tower: Any, model_type: str, pixels: Tensor, height: int, width: int, kept: list[int]
) -> tuple[Tensor, list[Tensor]]:
    family, config = family_of(model_type), tower.config
    merge = config.spatial_merge_size
    cols = width // merge
    # Rows of pixel_values and (y, x) of the kept patches: block by block, in a block row by row.
    rows, places = [], []
    for block in kept:
        for inner in range(merge * merge):
            rows.append(block * merge * merge + inner)
            places.append((block // cols * merge + inner // merge, block % cols * merge + inner % merge))
    hidden = tower.patch_embed(pixels[rows].to(tower.dtype))
    if hasattr(tower, "post_conv_layernorm"):  # GLM
        hidden = tower.post_conv_layernorm(hidden)
    table = _position_table(tower, height, width)
    if table is not None:
        hidden = hidden + torch.stack([table[:, y, x] for y, x in places]).to(hidden.dtype)
    same_window = torch.ones(len(places), len(places), dtype=torch.bool)
    if family.windowed:
        window = tower.window_size // config.patch_size
        numbers = torch.tensor([(y // window) * 100_000 + x // window for y, x in places])
        same_window = numbers[:, None] == numbers[None, :]

    heads = config.num_heads
    angles = _rotary_angles(places, hidden.shape[-1] // heads, config.rope_parameters["rope_theta"])
    deep: list[Tensor] = []
    for number, block in enumerate(tower.blocks):
        q, k, v = block.attn.qkv(block.norm1(hidden)).reshape(len(places), 3, heads, -1).permute(1, 2, 0, 3)
        if hasattr(block.attn, "q_norm"):
            q, k = block.attn.q_norm(q), block.attn.k_norm(k)
        scores = _rotate(q, angles) @ _rotate(k, angles).mT * q.shape[-1] ** -0.5
        if family.windowed and number not in config.fullatt_block_indexes:
            scores = scores.masked_fill(~same_window, -torch.inf)
        attended = (scores.float().softmax(-1).to(v.dtype) @ v).transpose(0, 1).reshape(len(places), -1)
        hidden = hidden + block.attn.proj(attended)
        hidden = hidden + block.mlp(block.norm2(hidden))
        if number in getattr(config, "deepstack_visual_indexes", []):
            merger = tower.deepstack_merger_list[list(config.deepstack_visual_indexes).index(number)]
            deep.append(merger(hidden))
    if hasattr(tower, "downsample"):  # GLM: a convolution over each block, written out
        kernel = tower.downsample.weight.permute(0, 2, 3, 1).flatten(1)
        blocks = tower.post_layernorm(hidden).reshape(len(kept), -1)
        hidden = blocks @ kernel.T + tower.downsample.bias
    return tower.merger(hidden), deep


def _position_table(tower: Any, height: int, width: int) -> Tensor | None:
    """The learned position table ``(hidden, height, width)`` of the whole grid; None where the tower has none."""
    if hasattr(tower, "pos_embed"):
        weight, mode = tower.pos_embed.weight, "bilinear"
    elif hasattr(tower, "embeddings"):  # GLM
        weight, mode = tower.embeddings.position_embedding.weight, "bicubic"
    else:
        return None
    side = round(len(weight) ** 0.5)
    table = weight.T.reshape(1, -1, side, side).float()
    return F.interpolate(table, size=(height, width), mode=mode, align_corners=mode == "bilinear")[0]


def _rotary_angles(places: list[tuple[int, int]], head_dim: int, theta: float) -> Tensor:
    """2D rotary angles ``(patches, head_dim)``: a quarter of the head turns with y, a quarter with x, twice over."""
    quarter = head_dim // 4
    frequencies = [theta ** -(i / quarter) for i in range(quarter)]
    rows = [[y * f for f in frequencies] + [x * f for f in frequencies] for y, x in places]
    return torch.tensor([row * 2 for row in rows])


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return (x.float() * angles.cos() + turned.float() * angles.sin()).to(x.dtype)


def positions(inputs: FullInputs, image_token_id: int, merge: int) -> Tensor:
    """``(3, length)`` positions of the full sequence, counted token by token (Qwen2-VL's M-RoPE)."""
    grids = iter(inputs.image_grid_thw.tolist())
    out: list[tuple[int, int, int]] = []
    here = token = 0
    ids = inputs.input_ids.tolist()
    while token < len(ids):
        if ids[token] != image_token_id:
            out.append((here, here, here))
            here += 1
            token += 1
            continue
        _, height, width = next(grids)
        rows, cols = height // merge, width // merge
        out += [(here, here + r, here + c) for r in range(rows) for c in range(cols)]
        here += max(rows, cols)
        token += rows * cols
    return torch.tensor(out).T


def dropped_tokens(inputs: FullInputs, *token_ids: int) -> Tensor:
    """bool ``(length,)``: image tokens, or those of videos too, whose block is not kept."""
    places = torch.isin(inputs.input_ids, torch.tensor(token_ids)).nonzero()[:, 0]
    dropped = torch.zeros_like(inputs.input_ids, dtype=torch.bool)
    dropped[places] = True
    merge_unit = int(inputs.image_grid_thw.prod(-1).sum()) // len(places)
    offset = 0
    for grid, kept in zip(inputs.image_grid_thw, inputs.kept, strict=True):
        dropped[places[offset + kept]] = False
        offset += int(grid.prod()) // merge_unit
    return dropped


def logits(model: Any, inputs: FullInputs, features: tuple[list[Tensor], list[Tensor]] | None = None) -> Tensor:
    """``(kept length, vocab)``: logits at every token that is not dropped. Encodes, unless ``features`` are given."""
    base, config = model.base_model, model.config
    ids = inputs.input_ids
    token_ids = [config.image_token_id, config.video_token_id]
    dropped = dropped_tokens(inputs, *token_ids)
    visual = torch.isin(ids, torch.tensor(token_ids)) & ~dropped
    pooled, deep = encode(model, inputs) if features is None else features
    embeds = base.get_input_embeddings()(ids).clone()
    embeds[visual] = torch.cat(pooled).to(embeds.dtype)
    where = inputs.where
    if where is None:
        where = positions(inputs, config.image_token_id, config.vision_config.spatial_merge_size)
    extra: dict[str, Any] = {}
    if deep:
        extra["deepstack_visual_embeds"] = deep
    if family_of(config.model_type).masking_differs:
        ids, embeds, visual, where = ids[~dropped], embeds[~dropped], visual[~dropped], where[:, ~dropped]
    else:
        extra["attention_mask"] = (~dropped).long()[None]
    if deep:
        extra["visual_pos_masks"] = visual[None]
    if getattr(config.text_config, "ple_layer_ids", None):  # Qwen4-Exp reads n-grams of tokens
        extra["ple_input_ids"] = ids[None]
    hidden = base.language_model(
        inputs_embeds=embeds[None], position_ids=where[:, None], use_cache=False, **extra
    ).last_hidden_state[0]
    if "attention_mask" in extra:
        hidden = hidden[~dropped]
    result: Tensor = model.lm_head(hidden)
    return result * (getattr(model, "logit_scale", None) or 1)


@torch.no_grad()
def generate(model: Any, inputs: FullInputs, steps: int) -> list[int]:
    """Greedy continuation without a cache: the whole sequence again for each token."""
    tokens: list[int] = []
    features = encode(model, inputs)
    never = torch.tensor(model.generation_config.suppress_tokens or [], dtype=torch.long)
    for _ in range(steps):
        ids = torch.cat([inputs.input_ids, torch.tensor(tokens, dtype=torch.long)])
        where = inputs.where
        if where is not None:
            where = torch.cat([where, (where.max() + 1 + torch.arange(len(tokens))).expand(3, -1)], 1)
        row = FullInputs(ids, inputs.pixel_values, inputs.image_grid_thw, inputs.kept, where)
        tokens.append(int(logits(model, row, features)[-1].index_fill(0, never, -torch.inf).argmax()))
    return tokens
