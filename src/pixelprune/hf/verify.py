"""Check on a tiny grid that a vision tower honours the inputs that place kept patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.geometry import joined_blocks, rows_of_blocks
from ..errors import UnsupportedModelError
from ..models.family import Family
from .encode import Indices, encode_kept


@torch.no_grad()
def verify_tower(base: Any, family: Family) -> None:
    """Run the vision tower on a tiny grid and refuse the model unless it honours precomputed inputs.

    Nothing pruned must equal the plain call; a pruned call must return one feature per kept block; and an image's
    features must not depend on the other image of the batch.
    """
    tower = base.visual
    parameter = next(tower.parameters())
    device: Any = parameter.device
    if parameter.is_meta:
        offloaded = [module._hf_hook for module in tower.modules() if hasattr(module, "_hf_hook")]
        if not offloaded:
            raise UnsupportedModelError("the model's weights are on the meta device; load them before enable()")
        device = getattr(offloaded[0], "execution_device", None) or "cpu"
    config, merge = tower.config, int(base.config.vision_config.spatial_merge_size)
    unit = merge * merge
    grid = torch.tensor([[1, 6 * merge, 5 * merge], [1, 2 * merge, 3 * merge]], device=device)
    whole = [np.arange(30), np.arange(6)]
    some = [np.array([0, 3, 4, 11, 12, 13, 29]), np.array([0, 5])]
    values = getattr(config, "in_channels", 3) * config.temporal_patch_size * config.patch_size**2
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(36 * unit, values, generator=generator).to(device)
    patch_rows = torch.from_numpy(rows_of_blocks(joined_blocks(some, [30, 6]), unit)).to(device)
    other = pixels[patch_rows].clone()
    other[len(some[0]) * unit :] += 1

    def features(rows: Tensor, kept: Sequence[Indices]) -> list[Tensor]:
        output = encode_kept(tower, family, rows, grid, kept)
        return [
            *output.pooler_output,
            *(f for group in getattr(output, "deepstack_features", None) or [] for f in group),
        ]

    try:
        plain = tower(pixels.to(tower.dtype), grid_thw=grid, return_dict=True).pooler_output
        unpruned = torch.cat(features(pixels, whole)[:2])
        pruned, changed = features(pixels[patch_rows], some), features(other, some)
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:
        raise UnsupportedModelError(
            f"the vision tower {type(tower).__name__} does not take precomputed inputs: {error}"
        ) from error
    tolerance = 1e-5 if parameter.dtype == torch.float32 else 2e-2
    if any(weights.dtype == torch.int8 for weights in tower.parameters()):
        # LLM.int8 looks for outliers over all rows, so an image's features move by 2 % with the other image; mixed
        # images move them by 30 % and more.
        tolerance = 5e-2
    scale = float(plain.float().abs().max())
    if not torch.allclose(unpruned.float(), plain.float(), rtol=0, atol=tolerance * scale):
        raise UnsupportedModelError(
            f"the vision tower {type(tower).__name__} gives other features with precomputed inputs than without"
        )
    if [len(f) for f in pruned[:2]] != [len(k) for k in some]:
        raise UnsupportedModelError(f"the vision tower {type(tower).__name__} ignores the sequence lengths it is given")
    if not torch.allclose(pruned[0].float(), changed[0].float(), rtol=0, atol=tolerance * scale):
        raise UnsupportedModelError(f"the vision tower {type(tower).__name__} mixes the images of a batch")
