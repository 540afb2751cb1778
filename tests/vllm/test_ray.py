"""The Ray Data example on this machine's CPUs: a folder with unreadable files, then again with new ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
from engine_kit import CHART, DARK, FORM, options, twin

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_batch.py"


def run(folder: Path, out: Path, model: Path) -> str:
    engine = {name: value for name, value in options(model).items() if name not in ("model", "mm_processor_kwargs")}
    command = [sys.executable, str(EXAMPLE), str(folder), "--out", str(out), "--model", str(model), "--cpu"]
    command += ["--rows", "2", "--max-tokens", "4", "--engine", json.dumps(engine)]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


def test_a_folder_goes_to_parquet_and_on(tmp_path, models) -> None:
    model = models / "qwen3_vl"
    folder, out = tmp_path / "images", tmp_path / "answers"
    (folder / "more").mkdir(parents=True)
    FORM.save(folder / "form.png")
    CHART.save(folder / "more" / "chart.png")
    (folder / "note.txt").write_text("not an image")
    (folder / "cut.png").write_bytes((folder / "form.png").read_bytes()[:500])
    assert "0 files have been answered before, 4 are left" in run(folder, out, model)
    rows = {Path(row["file"]).name: row for row in parquet.read_table(out).to_pylist()}
    assert set(rows) == {"form.png", "chart.png", "note.txt", "cut.png"}
    for name in ("note.txt", "cut.png"):
        assert name in rows[name]["error"]
        assert rows[name]["answer"] == ""
    reference = twin("qwen3_vl", model)
    for name, image in (("form.png", FORM), ("chart.png", CHART)):
        assert rows[name]["error"] == ""
        assert rows[name]["kept"] == len(reference.kept(image, {"threshold": 0})) < rows[name]["total"]
        assert rows[name]["total"] == len(reference.kept(image, None))
        assert rows[name]["answer"]

    # A new image, and a file of answers that an interruption cut off: both are asked, nothing else.
    DARK.save(folder / "dark.png")
    broken = next(path for path in out.glob("*.parquet") if "form.png" in str(parquet.read_table(path)["file"]))
    lost = {Path(file).name for file in parquet.read_table(broken)["file"].to_pylist()}
    broken.write_bytes(broken.read_bytes()[:100])
    told = run(folder, out, model)
    assert f"{4 - len(lost)} files have been answered before, {1 + len(lost)} are left" in told
    files = [Path(row["file"]).name for row in parquet.read_table(out).to_pylist()]
    assert sorted(files) == ["chart.png", "cut.png", "dark.png", "form.png", "note.txt"]
