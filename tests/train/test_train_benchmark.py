"""The training benchmark end to end on one small image."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixelprune import PruneConfig, select
from pixelprune.models.resize import ResizeSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark, imported as Python does when it is run as a script."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield importlib.import_module("training")
    for name in {"common", "prefill", "training"} & (set(sys.modules) - before):
        del sys.modules[name]


def test_training(training: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "corner.png"
    with Image.open(ROOT / "examples" / "images" / "slide.png") as slide:
        slide.convert("RGB").crop((0, 0, 320, 288)).save(picture)
    training.main([str(picture), "--repeats", "1", "--answer", "5", "--json", str(tmp_path / "out.json")])
    output = capsys.readouterr().out
    lines = [line.strip("|").split("|") for line in output.splitlines() if line.startswith("|")]
    head, ce, distill = ([cell.strip() for cell in line] for line in (lines[0], *lines[2:]))
    assert {"image", "retained", "whole ms", "pruned ms", "dense ms", "speed-up", "efficiency"} <= set(head)
    chosen = select(ResizeSpec.for_model("qwen3_vl").resize(Image.open(picture)), PruneConfig())
    for line, loss in ((ce, "ce"), (distill, "distill")):
        row = dict(zip(head, line, strict=True))
        assert (row["loss"], row["blocks"], row["kept"]) == (loss, str(chosen.num_blocks), str(chosen.num_kept))
        assert row["retained"] == f"{chosen.retain_ratio:.1%}"
    numbers = json.loads((tmp_path / "out.json").read_text())
    for row in numbers["images"]:
        assert row["speedup"] == row["whole_ms"] / row["pruned_ms"]
        assert row["efficiency"] == row["dense_ms"] / row["pruned_ms"]
        assert chosen.num_kept * 0.9 <= row["dense_blocks"] <= chosen.num_kept
    assert numbers["patch_embedding"]["patches"] == 4 * chosen.num_blocks
    assert "as a matrix product" in output


def test_a_step_trains_and_variants_see_what_they_say(training: Any) -> None:
    options = ["--shape", "tiny", "--answer", "5"]
    seen: dict[str, tuple[int, int, int]] = {}
    bench = training.Bench(training.options().parse_args(options))
    with Image.open(ROOT / "examples" / "images" / "slide.png") as slide:
        image = slide.convert("RGB").crop((0, 0, 320, 288))
    for variant in training.VARIANTS:
        batch = bench.collators[variant]([bench.row(image)])
        tokens = int((batch["mm_token_type_ids"] == 1).sum())
        seen[variant] = tokens, len(batch["pixel_values"]), int((batch["labels"] != -100).sum())
    assert seen["pruned"][0] < seen["whole"][0] and {answer for *_, answer in seen.values()} == {5}
    assert all(patches == 4 * tokens for tokens, patches, _ in seen.values())
    before = [parameter.detach().clone() for parameter in bench.model.parameters()]
    losses = {loss: [bench.step("pruned", loss, image, image) for _ in range(2)] for loss in ("ce", "distill")}
    assert all(value > 0 for values in losses.values() for value in values)
    assert any(not (old == new).all() for old, new in zip(before, bench.model.parameters(), strict=True))


def test_it_refuses_cuda_where_there_is_none(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="--device cpu"):
        training.main(["--device", "cuda"])
