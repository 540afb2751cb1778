"""Packed rows are as good as padded ones: the same loss and gradients; and not so when boundaries are merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from train_kit import gradients, load_model, load_processor, rows, worst

from pixelprune.check.tiny import build_tiny
from pixelprune.hf import FAMILIES
from pixelprune.train import ChatCollator, parse_row
from pixelprune.train.trainer import answer_logits

PACKABLE = [family.model_type for family in FAMILIES.values() if not family.recurrent]


def loss_of(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    logits, targets, _ = answer_logits(model, batch)
    return F.cross_entropy(logits, targets)


@pytest.mark.parametrize(
    ("model_type", "attention", "pruned"),
    [
        *((model_type, "sdpa", True) for model_type in PACKABLE),
        ("qwen3_vl", "eager", True),
        ("qwen3_vl", "sdpa", False),
    ],
)
def test_packed_equals_padded(model_type: str, attention: str, pruned: bool, pictures: Path, tmp_path: Path) -> None:
    processor = load_processor(build_tiny(tmp_path, model_type))
    if not pruned:
        processor.prune = None
    model = load_model(tmp_path, attn_implementation=attention)
    given = [parse_row(made, folder=pictures) for made in rows(5)]
    padded, packed = ChatCollator(processor)(given), ChatCollator(processor, packing=True)(given)
    assert packed["input_ids"].shape[0] == 1 and padded["input_ids"].shape[0] == 5

    expected = gradients(model, loss_of(model, padded))
    loss = loss_of(model, packed)
    assert loss.item() == pytest.approx(loss_of(model, padded).item(), rel=1e-4)
    assert worst(gradients(model, loss), expected) < 2e-3
    with torch.no_grad():
        # The batch is right for the model alone, too, without the trainer.
        whole = {name: value for name, value in packed.items() if name != "labels"}
        logits = model(**whole).logits[0]
        lengths = padded["attention_mask"].sum(1).tolist()
        apart = [model(**ChatCollator(processor)([row])).logits[0] for row in given]
    for got, wanted in zip(logits.split(lengths), apart, strict=True):
        assert torch.allclose(got, wanted, atol=1e-3 * float(wanted.abs().max()))

    # Controls: text positions that continue across the boundary; and a cache, beside which transformers ignores them.
    merged = {**packed, "position_ids": packed["position_ids"].clone()}
    merged["position_ids"][0, 0] = torch.arange(sum(lengths))
    assert abs(loss_of(model, merged).item() - loss.item()) > 1e-2
    assert worst(gradients(model, loss_of(model, merged)), expected) > 5e-2
    with torch.no_grad():
        cached = model(**{**whole, "use_cache": True}).logits[0]
    assert not torch.allclose(cached[-lengths[-1] :], apart[-1], atol=1e-2 * float(apart[-1].abs().max()))
