"""The examples: configs that load, and TRL's trainer with pruned images."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from train_kit import load_model, load_processor, logged, write

from pixelprune.errors import ConfigError, DataError
from pixelprune.train import ChatCollator, Conversations, linear_patches, parse_row
from pixelprune.train.config import load_config
from pixelprune.train.model import PARTS, PatchLinear, add_lora, apply_liger, freeze
from pixelprune.train.trainer import answer_logits

EXAMPLES = Path(__file__).parents[2] / "examples" / "train"
NAMES = ["form", "page", "dark", "slide"]


def given(count: int) -> list[dict[str, Any]]:
    """Rows that a table of one schema can hold: all content is text."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"<image>Number {number}?"},
                {"role": "assistant", "content": f"It is {number % 3}."},
            ],
            "images": [f"{NAMES[number % 4]}.png"],
        }
        for number in range(count)
    ]


def trl_example() -> Any:
    spec: Any = importlib.util.spec_from_file_location("trl_sft", EXAMPLES / "trl_sft.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_trl(folder: Path, pictures: Path, tmp_path: Path) -> None:
    """The losses of its steps are ours on the same rows, and training goes down; unlabelled, they would not be."""
    example = trl_example()
    data = write(pictures / "trl.jsonl", given(4))
    trainer = example.build(
        str(folder), str(data), str(tmp_path / "out"), max_steps=6, logging_steps=1, per_device_train_batch_size=4,
        report_to="none", use_cpu=True, bf16=False, learning_rate=1e-3, save_strategy="no", disable_tqdm=True,
        gradient_checkpointing=False,
    )  # fmt: skip
    trainer.train()
    losses = logged(trainer)
    collator = ChatCollator(trainer.processing_class)
    batch = collator([parse_row(row, folder=pictures) for row in given(4)])
    with torch.no_grad():
        logits, targets, _ = answer_logits(load_model(folder), batch)
        ours = float(torch.nn.functional.cross_entropy(logits, targets))
        everything = float(load_model(folder)(**{**batch, "labels": batch["input_ids"]}).loss)
    assert losses[0] == pytest.approx(ours, rel=1e-3)
    assert losses[0] != pytest.approx(everything, rel=1e-2)
    assert losses[-1] < 0.8 * losses[0]
    assert int(batch["image_grid_thw"].prod(1).sum()) > len(batch["pixel_values"]), "control: images were pruned"


def test_trl_takes_every_form_and_needs_no_gpu(folder: Path, tmp_path: Path) -> None:
    """The sample rows are in both forms, and nothing says that there is no GPU."""
    example = trl_example()
    trainer = example.build(
        str(folder), str(EXAMPLES / "data" / "train.jsonl"), str(tmp_path / "out"), max_steps=1, report_to="none"
    )
    trainer.train()
    assert len(trainer.train_dataset) == len((EXAMPLES / "data" / "train.jsonl").read_text().splitlines())
    bad = write(tmp_path / "bad.jsonl", [{"messages": []}])
    with pytest.raises(DataError, match=r"bad.jsonl:1: messages must be a list of messages"):
        example.build(str(folder), str(bad), str(tmp_path / "out"))


@pytest.mark.parametrize("name", ["train", "held-out", "histories"])
def test_sample_rows_are_rows(name: str) -> None:
    rows = Conversations([EXAMPLES / "data" / f"{name}.jsonl"])
    assert all(row.images for row in rows)


@pytest.mark.parametrize("name", ["full", "lora-distill", "histories"])
def test_configs_load(name: str) -> None:
    config = load_config(EXAMPLES / f"{name}.yaml")
    assert (config.distill is not None) == (name == "lora-distill")


@pytest.mark.parametrize("name", ["ddp", "fsdp", "deepspeed"])
def test_accelerate_takes_its_configs(name: str, tmp_path: Path) -> None:
    path = EXAMPLES / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert config.num_processes == 8
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "no_such_key": 1}))
    with pytest.raises(ValueError, match="no_such_key"):  # control: it does look at the keys
        load_config_from_file(str(wrong))


def test_fsdp_names_layers_that_exist(folder: Path) -> None:
    config = yaml.safe_load((EXAMPLES / "accelerate" / "fsdp.yaml").read_text())["fsdp_config"]
    classes = {type(module).__name__ for module in load_model(folder).modules()}
    assert set(config["fsdp_transformer_layer_cls_to_wrap"].split(",")) <= classes


def test_patches_as_a_matrix_product(folder: Path, pictures: Path) -> None:
    """The same loss and gradients, the same names in the state, and undone without a trace."""
    model = load_model(folder)
    batch = ChatCollator(load_processor(folder))([parse_row(row, folder=pictures) for row in given(2)])
    names = list(model.state_dict())
    convolution = model.model.visual.patch_embed.proj
    results = []
    for on in (False, True):
        linear_patches(model, on)
        linear_patches(model, on)  # a second time does nothing
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        results.append((loss.item(), convolution.weight.grad.clone(), convolution.bias.grad.clone()))
        assert list(model.state_dict()) == names
    assert isinstance(model.model.visual.patch_embed.proj, PatchLinear)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for expected, got in zip(results[0][1:], results[1][1:], strict=True):
        assert (expected - got).norm() < 1e-3 * expected.norm()
    with torch.no_grad():
        convolution.weight[0] += 1  # control: it is the same parameter, and it matters
    assert model(**batch).loss.item() != pytest.approx(results[1][0], rel=1e-5)
    linear_patches(model, False)
    assert model.model.visual.patch_embed.proj is convolution


def test_liger_where_it_can_be_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked of Liger itself; what is missing or does not fit is an error, or a warning if only wished for."""
    model, asked = load_model(folder), []
    liger: Any = importlib.import_module("transformers.integrations.liger")
    installed: dict[str, Any] = {"liger_kernel": None}
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: installed.get(name, real(name, *a)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(liger, "apply_liger_kernel", lambda *arguments: asked.append(arguments))
    assert not apply_liger(model, "auto") and not apply_liger(model, False)
    with pytest.raises(ConfigError, match="pip install liger-kernel"):
        apply_liger(model, True)
    installed["liger_kernel"] = "there"
    assert not apply_liger(model, False) and asked == []
    assert apply_liger(model, "auto") and apply_liger(model, True)
    assert asked == [(model, {"fused_linear_cross_entropy": False})] * 2

    def fail(*arguments: Any) -> None:
        raise ImportError("cannot import name 'X'")

    monkeypatch.setattr(liger, "apply_liger_kernel", fail)
    with pytest.raises(ConfigError, match=r"do not fit this transformers .*name 'X'"):
        apply_liger(model, True)
    assert not apply_liger(model, "auto") and "training without Liger" in caplog.text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    caplog.clear()
    assert not apply_liger(model, "auto") and not caplog.text


def test_parts_and_adapters(folder: Path) -> None:
    """Every parameter is in one part; adapters sit on the linear layers of their part and nowhere else."""
    trained = {}
    for part in PARTS:
        model = freeze(load_model(folder), [other for other in PARTS if other != part])
        trained[part] = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        adapted = add_lora(load_model(folder), [part], rank=2)
        layers = {name.split(".lora_")[0] for name, _ in adapted.named_parameters() if ".lora_" in name}
        assert layers
        assert all(f"{layer.removeprefix('base_model.model.')}.weight" in trained[part] for layer in layers)
        assert not any("lm_head" in layer for layer in layers)
    everything = {name for name, _ in load_model(folder).named_parameters()}
    assert set.union(*trained.values()) == everything
    assert sum(map(len, trained.values())) == len(everything)
    with pytest.raises(ConfigError, match="unknown part 'eyes' of a model; known are vision, merger, language"):
        freeze(load_model(folder), ["eyes"])
