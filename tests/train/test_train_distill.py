"""Distillation: the loss as written down, both kinds of teacher, accumulation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from train_kit import arguments, load_model, logged, rows, write

from pixelprune.errors import ConfigError, PrunedInputError, UnsupportedModelError
from pixelprune.train import ChatCollator, Conversations, DistillationTrainer
from pixelprune.train.distill import softened_kl


@pytest.fixture
def data(pictures: Path) -> Conversations:
    return Conversations([write(pictures / "distill.jsonl", rows(8))])


def lora(model: Any) -> Any:
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "qkv"]))


def trainer_of(model: Any, processor: Any, data: Any, out: Path, **settings: Any) -> DistillationTrainer:
    own = {name: settings.pop(name) for name in ("teacher", "alpha", "temperature") if name in settings}
    collator = ChatCollator(processor, teacher=True, packing=settings.pop("packing", False))
    return DistillationTrainer(
        model, arguments(out, **settings), collator, train_dataset=data, eval_dataset=data, **own
    )


def test_softened_kl_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64) * 3
    for temperature in (1.0, 2.5):
        expected = []
        for row in range(5):
            p = [(t / temperature).exp() for t in teacher[row]]
            q = [(s / temperature).exp() for s in student[row]]
            p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
            expected.append(temperature**2 * sum(float(x * (x / y).log()) for x, y in zip(p, q, strict=True)))
        assert softened_kl(student, teacher, temperature).tolist() == pytest.approx(expected)
        assert softened_kl(teacher, student, temperature).tolist() != pytest.approx(expected, rel=1e-3)  # control
    assert softened_kl(teacher, teacher, 2.0).abs().max() < 1e-12


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_as_written_down(folder: Path, processor: Any, data: Any, tmp_path: Path, packing: bool) -> None:
    """Logits of each row from the models alone, the formula in plain words, the mean over all answer tokens."""
    student, teacher = load_model(folder), load_model(folder)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.1)
    alpha, temperature = 0.3, 2.0
    terms: list[tuple[float, float]] = []
    collator = ChatCollator(processor, teacher=True)
    for index in range(8):
        batch = collator([data[index]])
        whole = batch.pop("teacher")
        with torch.no_grad():
            seen = [m(**b).logits[0].double() for m, b in ((student, batch), (teacher, whole))]
        learned = [(b["labels"][0] != -100).nonzero()[:, 0] for b in (batch, whole)]
        for here, there in zip(*map(torch.Tensor.tolist, learned), strict=True):
            p, q = (seen[1][there - 1] / temperature).softmax(0), (seen[0][here - 1] / temperature).softmax(0)
            kl = float((p * (p / q).log()).sum()) * temperature**2
            terms.append((-float(seen[0][here - 1].log_softmax(0)[batch["labels"][0, here]]), kl))
    ce, kl = (sum(column) / len(terms) for column in zip(*terms, strict=True))
    assert ce > 0.1 and kl > 0.1
    trainer = trainer_of(
        student, processor, data, tmp_path, teacher=teacher, alpha=alpha, temperature=temperature, packing=packing,
        per_device_train_batch_size=8, max_steps=1,
    )  # fmt: skip
    metrics = trainer.evaluate()
    assert metrics["eval_ce"] == pytest.approx(ce, rel=1e-4) and metrics["eval_kl"] == pytest.approx(kl, rel=1e-4)
    trainer.train()
    assert logged(trainer)[0] == pytest.approx(alpha * ce + (1 - alpha) * kl, rel=1e-4)
    assert logged(trainer, "ce")[0] == pytest.approx(ce, rel=1e-4)
    assert logged(trainer, "kl")[0] == pytest.approx(kl, rel=1e-4)
    assert all(not parameter.requires_grad for parameter in teacher.parameters())


def test_accumulation(folder: Path, processor: Any, data: Any, tmp_path: Path) -> None:
    """Two micro-batches of one row are one batch of two; averaging averages (the control) is not."""
    losses = []
    for size, accumulate, stock in ((2, 1, False), (1, 2, False), (1, 2, True)):
        trainer = trainer_of(
            load_model(folder), processor, data, tmp_path, teacher=load_model(folder), temperature=2.0, optim="sgd",
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulate, max_steps=4,
        )  # fmt: skip
        trainer.model_accepts_loss_kwargs = not stock
        trainer.train()
        losses.append(logged(trainer))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)


def test_the_adapter_off_is_the_frozen_copy(folder: Path, processor: Any, data: Any, tmp_path: Path) -> None:
    curves, weights = [], []
    for own in (True, False):
        base = load_model(folder)
        teacher = None if own else copy.deepcopy(base)
        trainer = trainer_of(lora(base), processor, data, tmp_path, teacher=teacher, max_steps=5, learning_rate=1e-2)
        trainer.train()
        curves.append(logged(trainer, "kl"))
        weights.append({n: p.detach() for n, p in trainer.model.named_parameters() if "lora" in n})
        assert all(p.requires_grad == ("lora" in n) for n, p in trainer.model.named_parameters())
        assert trainer.model.training
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    assert all(torch.allclose(weights[0][name], value, atol=1e-6) for name, value in weights[1].items())
    # Control: with the adapter on, the teacher is another after these steps.
    inputs = ChatCollator(processor, teacher=True)([data[0], data[1]])
    model = trainer.model.eval()
    trainer.teacher = None
    off = trainer._teacher_logits(model, inputs["teacher"])[0]
    trainer.teacher = model
    on = trainer._teacher_logits(model, inputs["teacher"])[0]
    assert (on - off).abs().max() > 1e-2 * off.abs().max()


def test_distilling_brings_the_student_to_the_teacher(folder: Path, processor: Any, data: Any, tmp_path: Path) -> None:
    model = load_model(folder)
    trainer = trainer_of(
        model, processor, data, tmp_path, teacher=copy.deepcopy(model), alpha=0.0, max_steps=12,
        per_device_train_batch_size=8,
    )  # fmt: skip
    before = trainer.evaluate()["eval_kl"]
    trainer.train()
    assert trainer.evaluate()["eval_kl"] < 0.7 * before
    # Nothing pruned: student and teacher see the same, and there is nothing to learn.
    processor.prune = None
    same = trainer_of(load_model(folder), processor, data, tmp_path, teacher=load_model(folder), alpha=0.0)
    assert abs(same.evaluate()["eval_kl"]) < 1e-6


def test_what_distillation_refuses(folder: Path, processor: Any, data: Any, tmp_path: Path) -> None:
    model = load_model(folder)

    def refused(message: str, **settings: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            trainer_of(model, processor, data, tmp_path, **settings)

    refused("a model without an adapter cannot be its own teacher")
    refused("teacher and student are the same object", teacher=model)
    refused("alpha must be from 0 .* got 1.5", teacher=load_model(folder), alpha=1.5)
    refused("temperature must be above 0; got 0", teacher=load_model(folder), temperature=0)
    trainer = trainer_of(model, processor, data, tmp_path, teacher=load_model(folder))
    with pytest.raises(ConfigError, match=r"the batch has no teacher's inputs; collate with"):
        trainer.compute_loss(model, ChatCollator(processor)([data[0]]))
    inputs = ChatCollator(processor, teacher=True)([data[0]])
    with pytest.raises(PrunedInputError, match="other answer tokens"):
        trainer.compute_loss(model, {**inputs, "teacher": ChatCollator(processor)([data[1]])})
    trainer.teacher.resize_token_embeddings(300)
    with pytest.raises(UnsupportedModelError, match="vocabulary has 300 tokens, the student's 263"):
        trainer.compute_loss(model, inputs)
