"""Losses, their normalisation, evaluation, and what is trained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from train_kit import arguments, gradients, load_model, logged, rows, worst, write

from pixelprune.errors import ConfigError
from pixelprune.hf.kept import KEPT
from pixelprune.train import ChatCollator, Conversations, PruneTrainer
from pixelprune.train.trainer import answer_logits


@pytest.fixture
def data(pictures: Path) -> Path:
    return write(pictures / "train.jsonl", rows(12))


def trainer_of(
    folder: Path, processor: Any, data: Path, out: Path, *, packing: bool = False, **settings: Any
) -> PruneTrainer:
    return PruneTrainer(
        load_model(folder),
        arguments(out, **settings),
        ChatCollator(processor, packing=packing),
        train_dataset=Conversations([data]),
        eval_dataset=Conversations([data]),
    )


def test_logits_are_those_of_the_answers(folder: Path, processor: Any, data: Path) -> None:
    """Against the model's own loss over all positions, for a batch of rows of different lengths and answers."""
    model = load_model(folder)
    batch = ChatCollator(processor)([Conversations([data])[i] for i in range(5)])
    logits, targets, where = answer_logits(model, batch)
    ours = F.cross_entropy(logits, targets)
    expected = model(**batch).loss
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    assert worst(gradients(model, ours), gradients(model, model(**batch).loss)) < 1e-3
    per_row = (batch["labels"] != -100).sum(1).tolist()
    assert where.bincount().tolist() == per_row and len(targets) == sum(per_row)
    batch["labels"][:, 40:60] = -100
    assert answer_logits(model, batch)[1].numel() != len(targets)  # control


def test_a_step_is_the_mean_over_all_its_answer_tokens(
    folder: Path, processor: Any, data: Path, tmp_path: Path
) -> None:
    """Two micro-batches of one row are one batch of two, and one of four packed: the same losses and weights."""
    results = []
    for size, accumulate, packing in ((4, 1, False), (2, 2, False), (1, 4, False), (4, 1, True)):
        trainer = trainer_of(
            folder, processor, data, tmp_path, per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulate, max_steps=3, optim="sgd", packing=packing,
        )  # fmt: skip
        trainer.train()
        results.append((logged(trainer), trainer.model.state_dict()))
    for losses, weights in results[1:]:
        assert losses == pytest.approx(results[0][0], rel=1e-5)
        assert all(torch.allclose(value, results[0][1][name], atol=1e-6) for name, value in weights.items())
    # Control: averaging the averages is another loss, since the answers are not of one length.
    stock = trainer_of(
        folder, processor, data, tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=4, max_steps=3
    )
    stock.model_accepts_loss_kwargs = False
    stock.train()
    assert logged(stock)[0] != pytest.approx(results[0][0][0], rel=1e-4)


def test_logs(folder: Path, processor: Any, data: Path, tmp_path: Path) -> None:
    trainer = trainer_of(folder, processor, data, tmp_path, max_steps=2, per_device_train_batch_size=12)
    trainer.train()
    collator = ChatCollator(processor)
    kept = blocks = 0
    for index in range(12):
        encoded = collator.encode(Conversations([data])[index])
        kept += int((encoded.mm_token_type_ids == 1).sum())
        blocks += int(encoded.vision["image_grid_thw"].prod(1).sum()) // 4 if encoded.vision else 0
    assert 0 < kept < blocks
    assert logged(trainer, "retain_ratio") == pytest.approx([kept / blocks] * 2)
    assert all(speed > 0 for speed in logged(trainer, "tokens_per_second"))


@pytest.mark.parametrize("size", [1, 5])
def test_evaluation_is_by_answer_tokens(folder: Path, processor: Any, data: Path, tmp_path: Path, size: int) -> None:
    """Whatever the batch, and packing or not: the sums over all rows."""
    model = load_model(folder).eval()
    collator = ChatCollator(processor)
    losses, right, exact = [], [], []
    with torch.no_grad():
        for index in range(12):
            logits, targets, _ = answer_logits(model, collator([Conversations([data])[index]]))
            losses.append(F.cross_entropy(logits, targets, reduction="none"))
            right.append(logits.argmax(-1) == targets)
            exact.append(bool(right[-1].all()))
    trainer = trainer_of(folder, processor, data, tmp_path, per_device_eval_batch_size=size, packing=size > 1)
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert metrics["eval_token_accuracy"] == pytest.approx(float(torch.cat(right).float().mean()))
    assert metrics["eval_exact_match"] == pytest.approx(sum(exact) / 12)
    assert metrics["eval_rows"] == 12 and 0 < metrics["eval_retain_ratio"] < 1
    assert metrics["eval_loss"] != pytest.approx(float(torch.stack([part.mean() for part in losses]).mean()), rel=1e-3)


def test_exact_match_is_greedy_decoding(folder: Path, processor: Any, pictures: Path, tmp_path: Path) -> None:
    """Train until some answers are right; those are the ones that generate() gives word for word."""
    data = write(pictures / "few.jsonl", [given for given in rows(9) if len(given["messages"]) == 2])
    few = Conversations([data])
    trainer = PruneTrainer(
        load_model(folder), arguments(tmp_path, max_steps=14, per_device_train_batch_size=len(few)),
        ChatCollator(processor), train_dataset=few, eval_dataset=few,
    )  # fmt: skip
    trainer.train()
    model = trainer.model.eval()
    model.generation_config.suppress_tokens = None
    right = 0
    for index in range(len(few)):
        encoded = ChatCollator(processor)([few[index]])
        begin = int((encoded["labels"][0] != -100).nonzero()[0])
        asked = {name: encoded[name][:, :begin] for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
        asked |= {name: encoded[name] for name in ("pixel_values", "image_grid_thw", KEPT) if name in encoded}
        with torch.no_grad():
            output = model.generate(**asked, max_new_tokens=20, do_sample=False)[0, begin:]
        wanted = encoded["labels"][0, begin:]
        wanted = wanted[: int((wanted == -100).nonzero()[0])]
        right += output[: len(wanted)].tolist() == wanted.tolist()
    share = trainer.evaluate()["eval_exact_match"]
    assert share == pytest.approx(right / len(few))
    assert 0 < share < 1, "all or nothing right would not tell them apart"


def test_what_the_trainer_refuses(
    folder: Path, processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, collator = load_model(folder), ChatCollator(processor)

    def refused(message: str, args: Any, **settings: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            PruneTrainer(model, args, collator, **settings)

    refused("dispatch_batches cuts", arguments(tmp_path, accelerator_config={"dispatch_batches": True}))
    refused("label_smoothing_factor is not supported; got 0.1", arguments(tmp_path, label_smoothing_factor=0.1))
    refused("compute_loss_func is not supported", arguments(tmp_path), compute_loss_func=lambda *a: 0)
    several = arguments(tmp_path)
    monkeypatch.setattr(type(several), "n_gpu", 2)
    refused("2 GPUs in one process", several)


def test_gradient_checkpointing_and_bf16(folder: Path, processor: Any, data: Path, tmp_path: Path) -> None:
    plain = trainer_of(folder, processor, data, tmp_path, max_steps=2)
    plain.train()
    again = trainer_of(
        folder, processor, data, tmp_path, max_steps=2, gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )  # fmt: skip
    again.train()
    assert again.model.is_gradient_checkpointing
    assert logged(again) == pytest.approx(logged(plain), rel=1e-5)
    half = trainer_of(folder, processor, data, tmp_path, max_steps=2, bf16=True)
    half.train()
    assert logged(half) == pytest.approx(logged(plain), rel=5e-2) and logged(half) != logged(plain)


def test_iterable_datasets_are_collated_where_they_are_used(
    folder: Path, processor: Any, data: Path, tmp_path: Path
) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            few = Conversations([data])
            return (few[index] for index in range(len(few)))

    args = arguments(tmp_path, max_steps=2)
    trainer = PruneTrainer(copy.deepcopy(load_model(folder)), args, ChatCollator(processor), train_dataset=Stream())
    assert trainer.accelerator.dispatch_batches is False
    trainer.train()
    assert len(logged(trainer)) == 2
