"""A run with LoRA leaves a folder that works where a model's does: as PEFT's own loading, and with its processor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from train_kit import load_model, rows, write
from transformers import AutoModelForImageTextToText

from pixelprune.cli import main
from pixelprune.errors import PixelPruneError
from pixelprune.hf import PrunedProcessor, chat, enable
from pixelprune.hf.chat import Chat
from pixelprune.models.resize import ResizeSpec
from pixelprune.models.shape import ModelShape
from pixelprune.train import run
from pixelprune.train.config import parse_config

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")


def config_for(model: Path, pictures: Path, output: Path, **tune: Any) -> Any:
    return parse_config(
        {
            "model": str(model),
            "output": str(output),
            "data": {"train": str(write(pictures / "adapter.jsonl", rows(4)))},
            "images": {"min_pixels": 1024, "max_pixels": 65536},
            "tune": {"lora": {"rank": 4, "parts": ["vision", "merger", "language"], **tune}},
            "trainer": {"max_steps": 3, "learning_rate": 0.03, "save_strategy": "no"},
            "device": "cpu",
        }
    )


@pytest.fixture(scope="session")
def trained(folder: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("adapter") / "out"
    run.train(config_for(folder, pictures, output))
    assert (output / "adapter_config.json").is_file() and not (output / "config.json").exists()
    return output


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """The adapter's folder, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def edit(copied: Path, **values: Any) -> None:
    path = copied / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def asked(processor: Any, pictures: Path) -> Any:
    with Image.open(pictures / "form.png") as image:
        messages = [
            {"role": "user", "content": [{"type": "image", "image": image.copy()}, {"type": "text", "text": "Total?"}]}
        ]
    return processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )


def test_the_folder_loads_as_a_model_does(trained: Path, folder: Path, pictures: Path) -> None:
    """The logits on pruned input are those of PEFT's own class around the model; without the adapter they differ."""
    processor = PrunedProcessor.from_pretrained(trained)
    assert ResizeSpec.from_processor(processor.image_processor.to_dict()).max_pixels == 65536, "as it was trained"
    inputs = asked(processor, pictures)
    assert 0 < processor.last_report[0].kept < processor.last_report[0].total
    around = PeftModel.from_pretrained(enable(AutoModelForImageTextToText.from_pretrained(folder)), trained)
    with torch.no_grad():
        ours = enable(AutoModelForImageTextToText.from_pretrained(trained))(**inputs).logits
        theirs = around(**inputs).logits
        plain = load_model(folder)(**inputs).logits
    assert torch.equal(ours, theirs)
    assert (ours - plain).abs().max() > 0.1, "control: the adapter does something"
    with Image.open(pictures / "form.png") as image:
        assert Chat(str(trained)).answer([image.convert("RGB")], "Total?", max_new_tokens=2).image_tokens > 0


def test_the_command_line_takes_it(
    trained: Path, folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(pictures / "form.png")
    for arguments in (["ask", image, "Total?", "--max-new-tokens", "2"], ["inspect", image]):
        monkeypatch.setattr("sys.argv", ["pixelprune", *arguments, "--model", str(trained)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
    assert ModelShape.from_config(trained) == ModelShape.from_config(folder)


def test_an_adapter_without_a_processor_has_that_of_its_model(copied: Path, folder: Path, pictures: Path) -> None:
    """As PEFT alone saves it."""
    for name in PROCESSOR_FILES:
        (copied / name).unlink(missing_ok=True)
    processor, of_model = PrunedProcessor.from_pretrained(copied), PrunedProcessor.from_pretrained(folder)
    assert processor.image_processor.to_dict() == of_model.image_processor.to_dict()
    inputs, expected = asked(processor, pictures), asked(of_model, pictures)
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)


def test_a_merged_run_is_a_model(folder: Path, pictures: Path, trained: Path, tmp_path: Path) -> None:
    """With merge, the folder is a model's, with the logits of the adapter up to rounding."""
    run.train(config_for(folder, pictures, tmp_path / "out", merge=True))
    assert (tmp_path / "out" / "config.json").is_file()
    inputs = asked(PrunedProcessor.from_pretrained(tmp_path / "out"), pictures)
    with torch.no_grad():
        merged, adapted = (load_model(place)(**inputs).logits for place in (tmp_path / "out", trained))
    assert torch.allclose(merged, adapted, atol=1e-3 * float(adapted.abs().max()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"base_model_name_or_path": "./models/none"},
            r"is an adapter of the model './models/none', whose config.json was not found; correct base_model_name",
        ),
        ({"base_model_name_or_path": None}, r"must name the adapter's model in base_model_name_or_path.*; got None"),
        (None, r"adapter_config.json is not JSON: "),
    ],
)
def test_what_cannot_be_loaded_is_said_in_a_line(copied: Path, values: dict[str, Any] | None, message: str) -> None:
    if values is None:
        (copied / "adapter_config.json").write_text("{")
    else:
        edit(copied, **values)
    for load in (PrunedProcessor.from_pretrained, chat.load_processor, Chat):
        with pytest.raises(PixelPruneError, match=message) as caught:
            load(str(copied))
        assert "\n" not in str(caught.value)


def test_an_adapter_of_another_family_is_refused(copied: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    edit(copied, base_model_name_or_path=str(other))
    with pytest.raises(PixelPruneError, match="'llama' is not supported; supported are"):
        PrunedProcessor.from_pretrained(copied)


def test_without_peft_the_hint_says_what_to_install(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock transformers then looks for a model in the folder, and finds none."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no model here,\nof two lines")

    monkeypatch.setattr(chat.AutoModelForImageTextToText, "from_pretrained", fail)
    with pytest.raises(PixelPruneError, match=r"an adapter of .*, cannot be loaded: no model here, of two lines$"):
        chat.load_model(str(trained))
    monkeypatch.setattr(chat, "is_peft_available", lambda: False)
    with pytest.raises(PixelPruneError, match=r"is an adapter of .*, and loading it needs peft: pip install"):
        chat.load_model(str(trained))


def test_training_starts_from_a_model(trained: Path, pictures: Path, tmp_path: Path) -> None:
    """A new adapter beside one that is not in its model could not be loaded again."""
    with pytest.raises(PixelPruneError, match=r"is an adapter, and training starts .*; tune\.lora\.merge: true"):
        run.build_trainer(config_for(trained, pictures, tmp_path / "out"))
