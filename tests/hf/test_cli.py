"""The commands that need a model: ``ask`` and ``doctor``, run as a user would."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from kit import IMAGES, Kit

from pixelprune.check import selfcheck
from pixelprune.cli import doctor as doctor_module
from pixelprune.cli.doctor import doctor
from pixelprune.errors import install_hint
from pixelprune.hf import FAMILIES

PIXELPRUNE = [sys.executable, "-c", "from pixelprune.cli import main; main()"]


def run(*arguments: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PIXELPRUNE, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **kwargs
    )


@pytest.fixture(scope="module")
def slide() -> Path:
    return IMAGES / "slide.png"


def test_ask(qwen3: Kit, slide: Path) -> None:
    result = run("ask", slide, "What is it?", "--model", qwen3.folder, "--max-new-tokens", 4)
    assert result.returncode == 0, result.stderr
    assert "391 of 858 image tokens (45.6%), first token after " in result.stdout


def test_ask_compares_three_ways(qwen3: Kit, slide: Path) -> None:
    result = run("ask", slide, slide, "Same?", "--model", qwen3.folder, "--max-new-tokens", 4, "--compare")
    assert result.returncode == 0, result.stderr
    head, *rows = [re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines() if line.strip()]
    assert head == ["pruned", "whole", "resized"]
    table = {row[0]: row[1:] for row in rows if len(row) == 4}
    pruned, whole, resized = (int(cell.split()[0]) for cell in table["image tokens"])
    assert (pruned, whole) == (2 * 391, 2 * 858)
    assert 0.9 * pruned < resized <= pruned, "the rival gets as many tokens, as far as its shape allows"
    texts = {int(p) - i for p, i in zip(table["prompt tokens"], (pruned, whole, resized), strict=True)}
    assert len(texts) == 1, "all three read the same text"
    assert table["speed-up"][1] == "1.00x"


def test_ask_with_settings(qwen3: Kit, slide: Path) -> None:
    result = run("ask", slide, "?", "--model", qwen3.folder, "--max-new-tokens", 1, "--max-tokens", 100)
    kept = int(result.stdout.split(" of 858")[0].split()[-1])
    assert result.returncode == 0 and 0 < kept <= 100


def test_ask_reads_pdf_pages(qwen3: Kit, tmp_path: Path) -> None:
    from PIL import Image

    pages = [Image.new("RGB", (200, 200), color) for color in ("white", "black")]
    pages[0].save(tmp_path / "two.pdf", save_all=True, append_images=pages[1:])
    result = run("ask", tmp_path / "two.pdf", "?", "--model", qwen3.folder, "--max-new-tokens", 1)
    assert result.returncode == 0, result.stderr
    assert re.search(r"\b\d+ of \d+ image tokens", result.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{slide}", "--model", "{folder}"], "give at least one image, then the question; got only"),
        (["missing.png", "What?", "--model", "{folder}"], "missing.png: no such file"),
        (["{slide}", "What?", "--model", "/no/such/folder"], "there is no folder '/no/such/folder'"),
        (["{slide}", "What?", "--model", "{empty}"], "config.json"),
        (["{slide}", "What?", "--model", "{bert}"], f"'bert' is not supported; supported are {sorted(FAMILIES)[0]}"),
        (["{slide}", "What?", "--model", "{bare}"], "cannot be loaded"),
        (["{slide}", "What?", "--model", "{folder}", "--threshold", "2"], "threshold must be a number from 0 to 1"),
        (["{slide}", "What?", "--model", "{folder}", "--dtype", "int8"], "dtype must be one of auto, float32"),
        (["{slide}", "What?", "--model", "{folder}", "--device", "warp"], "device 'warp' cannot be used"),
        (["{long}", "What?", "--model", "{folder}"], "too elongated"),
    ],
)
def test_bad_input_is_one_clear_line(
    qwen3: Kit, slide: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    from PIL import Image

    from pixelprune.check.tiny import build_tiny

    places = {"slide": slide, "folder": qwen3.folder, "long": tmp_path / "long.png"}
    places |= {name: tmp_path / name for name in ("empty", "bert", "bare")}
    places["empty"].mkdir()
    places["bert"].mkdir()
    (places["bert"] / "config.json").write_text('{"model_type": "bert"}')
    build_tiny(places["bare"], weights=False)
    Image.new("RGB", (20000, 40)).save(places["long"])
    result = run("ask", *(a.format(**places) for a in arguments))
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2 and result.stdout == ""
    assert len(lines) == 1 and message in lines[0], result.stderr


def test_doctor() -> None:
    result = run("doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("✓") == 2 + len(FAMILIES) and "✗" not in result.stdout
    assert all(f"✓ {name} " in result.stdout for name in FAMILIES)
    assert max(map(len, result.stdout.splitlines())) <= 80, "without a terminal, as wide as one of 80 columns"
    assert "All is right" in result.stdout and result.stderr == ""


def exit_code(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(typer.Exit) as stopped:
        doctor()
    return stopped.value.exit_code, capsys.readouterr().out


@pytest.mark.parametrize("field", ["difference", "control", "same_answer", "retain_ratio"])
def test_doctor_fails_when_a_check_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    """Wrong logits, a control that sees nothing, another answer, or nothing pruned: any of them is a failure."""
    good = selfcheck.CheckResult("", 0.5, 1e-6, 0.5, True, 0.1)
    bad = {"difference": 0.1, "control": 1e-6, "same_answer": False, "retain_ratio": 1.0}
    monkeypatch.setattr(selfcheck, "check_family", lambda name: good)
    assert exit_code(capsys)[0] == 0
    monkeypatch.setattr(
        selfcheck,
        "check_family",
        lambda name: dataclasses.replace(good, **({field: bad[field]} if name == "qwen2_5_vl" else {})),
    )
    code, output = exit_code(capsys)
    assert code == 1 and "✗ qwen2_5_vl" in output and "Something is wrong" in output


def test_doctor_survives_an_exception(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def explode(name: str) -> None:
        raise RuntimeError(f"no {name}\nat all [here]")

    monkeypatch.setattr(selfcheck, "check_family", explode)
    code, output = exit_code(capsys)
    assert code == 1 and output.count("RuntimeError: no ") == len(FAMILIES) and "at all [here]" in output


def test_doctor_names_a_missing_engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor_module.importlib.util.find_spec
    monkeypatch.setattr(
        doctor_module.importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name)
    )
    code, output = exit_code(capsys)
    assert code == 1 and f"missing transformers\n  {install_hint('hf')}\n" in output
