"""Training through the pruned path: loss and gradients equal the oracle's; checkpointing, LoRA and labels work."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kit import Kit, crop
from peft import LoraConfig, get_peft_model

from pixelprune.check import oracle
from pixelprune.hf import disable, enable, is_enabled
from pixelprune.hf import encode as encode_module


@pytest.fixture
def case(kit: Kit) -> tuple[Any, Any, oracle.FullInputs, torch.Tensor]:
    images = [crop("form"), crop("dark")]
    text = kit.text("image", "Read. ", "image", " Answer: 42")
    inputs = kit.processor(text=[text], images=images, return_tensors="pt")
    labels = inputs["input_ids"].clone()
    labels[:, :-12] = -100
    return copy.deepcopy(kit.model), inputs, kit.full_inputs(text, images, kit.select(images)), labels


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def oracle_loss(model: Any, full: oracle.FullInputs, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(oracle.logits(model, full)[:-1], labels[0, 1:], ignore_index=-100)


def worst(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest difference over a parameter's gradients, relative to their norm."""
    scale = max(float(g.norm()) for g in expected.values()) * 1e-3
    return max(float((got[n] - g).norm() / (g.norm() + scale)) for n, g in expected.items())


def test_loss_and_gradients_equal_the_oracle(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, full, labels = case
    expected_loss = oracle_loss(model, full, labels)
    expected = gradients(model, expected_loss)
    loss = model(**inputs, labels=labels).loss
    got = gradients(model, loss)
    tolerance = 2e-2 if "qwen3_5" in model.config.model_type else 1e-3
    assert abs(loss.item() - expected_loss.item()) < tolerance
    assert set(got) == set(expected) and any("visual.patch_embed" in name for name in got)
    assert worst(got, expected) < tolerance

    # Control: with rotated positions in the tower neither holds.
    right = encode_module.tower_inputs
    monkeypatch.setattr(
        encode_module,
        "tower_inputs",
        lambda *a: {**right(*a), "position_ids": right(*a)["position_ids"].roll(4, 0)},
    )
    assert worst(gradients(model, model(**inputs, labels=labels).loss), expected) > 5 * tolerance


def test_gradient_checkpointing(case: Any) -> None:
    model, inputs, _, labels = case
    expected = gradients(model, model(**inputs, labels=labels).loss)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    got = gradients(model, model(**inputs, labels=labels, use_cache=False).loss)
    assert set(got) == set(expected)
    assert worst(got, expected) < (2e-2 if "qwen3_5" in model.config.model_type else 1e-4)


def test_lora(case: Any) -> None:
    """peft around an enabled model, and enable() on a peft model; a step changes the adapter alone."""
    model, inputs, _, labels = case
    disable(model)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "qkv"]))
    enable(tuned)
    assert is_enabled(tuned) and is_enabled(tuned.get_base_model())
    frozen = {n: p.detach().clone() for n, p in tuned.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(4):
        loss = tuned(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in tuned.named_parameters() if n in frozen)
    assert any("visual" in n and p.grad.abs().sum() > 0 for n, p in tuned.named_parameters() if "lora_B" in n)
    length = inputs["input_ids"].shape[1]
    adapted = tuned.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert adapted.shape == (1, length + 4)
    disable(tuned)
    assert not is_enabled(tuned)


def test_a_batch_trains_as_its_rows(case: Any, kit: Kit) -> None:
    """Right-padded rows with and without images, labels on the answers: the loss is that of the rows together."""
    model = case[0]
    rows = [
        (kit.text("image", "One?") + "yes", [crop("form")]),
        (kit.text("Just text.") + "no", []),
        (kit.text("image", "and ", "image") + "perhaps", [crop("dark"), crop("page")]),
    ]
    kit.processor.tokenizer.padding_side = "right"
    try:
        batch = kit.processor(text=[t for t, _ in rows], images=[i for _, i in rows], padding=True, return_tensors="pt")
    finally:
        kit.processor.tokenizer.padding_side = "left"
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[batch["mm_token_type_ids"] == 1] = -100
    total = summed = 0.0
    with torch.no_grad():
        loss = float(model(**batch, labels=labels).loss)
        for row, (text, images) in enumerate(rows):
            single = kit.processor(text=[text], images=images or None, return_tensors="pt")
            target = labels[row][batch["attention_mask"][row].bool()]
            logits = model(**single).logits[0]
            summed += float(F.cross_entropy(logits[:-1], target[1:], ignore_index=-100, reduction="sum"))
            total += int((target[1:] != -100).sum())
    assert loss == pytest.approx(summed / total, rel=1e-3)
