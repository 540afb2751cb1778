"""Attention written out: on a CPU, forward and backward take half to three quarters of the fused kernel's time."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

NAME = "pixelprune_reader"
LONGEST = 1700  # tokens; beyond, the fused kernel needs less memory


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention over (batch, heads, length, width); the mask is added to the logits."""
    if q.shape[2] > LONGEST:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        logits = logits + mask
    return logits.softmax(-1) @ v


def _for_transformers(
    module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    groups = module.num_key_value_groups
    return attend(q, repeat_kv(k, groups), repeat_kv(v, groups), mask).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _for_transformers)


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as what is added to logits."""
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -1e4)
