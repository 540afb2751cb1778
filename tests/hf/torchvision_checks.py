"""What holds beside torchvision. Run by ``test_torchvision.py`` in a process that has it, not collected by pytest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stock import DARK, FORM, HOLE, SIZE, Twins, kept_rows, make_twins, same
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor

from pixelprune.hf import PrunedProcessor
from pixelprune.hf.image_processor import SELECTIONS


def call(twins: Twins, processor: Any) -> Any:
    return processor(text=[twins.text(f"{HOLE} or {HOLE}?")], images=[FORM, DARK], return_tensors="pt")


@pytest.fixture(scope="session", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return make_twins(request.param, tmp_path_factory.mktemp("torchvision"))


def test_the_backend_is_torchvision(twins: Twins) -> None:
    stock = AutoImageProcessor.from_pretrained(twins.folder, size=SIZE)
    assert stock.backend == twins.pruned.image_processor.backend == "torchvision"
    assert isinstance(twins.pruned.image_processor, type(stock))
    whole = stock(images=[FORM, DARK], return_tensors="pt")
    batch = twins.pruned.image_processor(images=[FORM, DARK], return_tensors="pt")
    rows = torch.from_numpy(kept_rows([chosen.selection for chosen in batch[SELECTIONS]]))
    assert len(rows) < len(whole["pixel_values"])
    assert float((batch["pixel_values"] - whole["pixel_values"][rows]).abs().max()) <= 1e-6
    shifted = whole["pixel_values"][(rows + 1) % len(whole["pixel_values"])]
    assert float((batch["pixel_values"] - shifted).abs().max()) > 1e-2


def test_the_whole_stock_processor_loads_what_is_saved(twins: Twins, tmp_path: Path) -> None:
    """Its video processor, which the pruned one does not build, has the settings that it had before."""
    stock = AutoProcessor.from_pretrained(twins.folder, size=SIZE)
    twins.pruned.save_pretrained(tmp_path)
    AutoConfig.from_pretrained(twins.folder).save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is type(stock)
    plain = AutoProcessor.from_pretrained(twins.folder)
    assert loaded.video_processor.to_dict() == plain.video_processor.to_dict()
    assert same(call(twins, loaded), call(twins, stock))
    assert not same(call(twins, loaded), call(twins, twins.pruned))

    file = tmp_path / "processor_config.json"
    settings = json.loads(file.read_text())
    del settings["video_processor"]
    file.write_text(json.dumps(settings))
    with pytest.raises(OSError, match="Can't load video processor"):
        AutoProcessor.from_pretrained(tmp_path)


def test_loads_what_the_whole_stock_processor_saved(twins: Twins, tmp_path: Path) -> None:
    AutoProcessor.from_pretrained(twins.folder, size=SIZE).save_pretrained(tmp_path)
    AutoConfig.from_pretrained(twins.folder).save_pretrained(tmp_path)
    pruned = PrunedProcessor.from_pretrained(tmp_path)
    assert same(call(twins, pruned), call(twins, twins.pruned))
    again = tmp_path / "again"
    pruned.save_pretrained(again)
    first, second = (json.loads((f / "processor_config.json").read_text()) for f in (tmp_path, again))
    assert first["video_processor"] == second["video_processor"]
