"""Each benchmark end to end on one small image, and the checks that they make of what they measure."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from PIL import Image

from pixelprune import PruneConfig, select, select_sequence
from pixelprune.core.config import METHODS
from pixelprune.models.resize import ResizeSpec

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Import a benchmark as Python does when it is run as a script."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in {"common", "selection", "preprocess", "prefill", "viewing", "crops", "sequences", "readme"} & (
        set(sys.modules) - before
    ):
        del sys.modules[name]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A corner of a real slide: some blocks repeat, some do not."""
    path = tmp_path / "corner.png"
    with Image.open(ROOT / "examples" / "images" / "slide.png") as slide:
        slide.convert("RGB").crop((0, 0, 320, 288)).save(path)
    return path


def _tables(output: str) -> list[list[dict[str, str]]]:
    """The markdown tables in a text, each a list of rows by heading."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in output.splitlines():
        if line.startswith("|"):
            if not inside:
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return [[dict(zip(lines[0], line, strict=True)) for line in lines[2:]] for lines in tables]


def _kept(path: Path, **settings: Any) -> tuple[int, int]:
    selection = select(ResizeSpec.for_model("qwen3_vl").resize(Image.open(path)), PruneConfig(**settings))
    return selection.num_kept, selection.num_blocks


def test_selection(script: Any, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("selection").main([str(picture), "--repeats", "1", "--json", str(tmp_path / "out.json")])
    output = capsys.readouterr().out
    assert f"numba {numba.__version__}" in output.splitlines()[0]
    summary, images = _tables(output)
    assert [row["method"] for row in summary[::3]] == list(METHODS)
    assert {row["threshold"] for row in summary} == {"0", "0.02", "0.05"}
    assert images[0]["image"] == "corner.png"
    kept, total = _kept(picture)
    assert 1 < kept < total
    assert images[0]["retained at 0"] == f"{kept / total:.1%}"
    rows = json.loads((tmp_path / "out.json").read_text())["selection"]
    for row in rows:
        assert (row["kept"], row["blocks"]) == _kept(picture, method=row["method"], threshold=row["threshold"])
        assert row["ms"] > 0 and row["copies"] == row["ms"] / row["copy_ms"]


#: A stand-in for the authors' repository: a package of the same name whose selectors compare floats, one by one.
_STAND_IN = """
import torch

class Selector:
    def __init__(self, method, threshold, anchored):
        self.metric, self.threshold = method, threshold

    def same(self, a, b):
        error = (a - b).abs()
        return (error.max() if self.metric == "max" else error.mean()) <= self.threshold

    def select(self, patches, grid, spatial_merge_size):
        blocks = patches.reshape(-1, patches.shape[1] * spatial_merge_size**2)
        rows, cols = (int(n) // spatial_merge_size for n in grid[0, 1:])
        kept, seen = [], {}
        for order in range(rows * cols):
            r, c = divmod(order, cols)
            a, b, d = seen.get((r, c - 1)), seen.get((r - 1, c)), seen.get((r - 1, c - 1))
            guess = self.guess(a, b, d, order, seen, rows, cols)
            place = self.place(order, cols)
            if guess is not None and self.same(blocks[place], guess):
                self.put(seen, order, r, c, guess)
            else:
                kept.append(place)
                self.put(seen, order, r, c, blocks[place])
        return [torch.tensor(sorted(kept)) + SHIFT]

    def place(self, order, cols):
        return order

    def put(self, seen, order, r, c, block):
        seen[(r, c)] = seen["last"] = block

class Pred2D(Selector):
    def guess(self, a, b, d, order, seen, rows, cols):
        if a is None or b is None:
            return b if a is None else a
        return b if self.same(d, a) and not self.same(d, b) else a

class Raster(Selector):
    def guess(self, a, b, d, order, seen, rows, cols):
        return seen.get("last")

class Serpentine(Raster):
    def place(self, order, cols):
        r, c = divmod(order, cols)
        return r * cols + (cols - 1 - c if r % 2 else c)

def get_selector(name, **settings):
    return {"pred_2d": Pred2D, "raster": Raster, "serpentine": Serpentine}[name](**settings)
"""


@pytest.mark.parametrize("shift", [0, 1])
def test_selection_checks_indices_against_another_implementation(
    script: Any, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shift: int
) -> None:
    """Equal indices pass; the control, all indices off by one, must not."""
    methods = tmp_path / "clone" / "pixelprune" / "methods"
    methods.mkdir(parents=True)
    (methods.parent / "__init__.py").write_text("from .methods import get_selector\n")
    (methods / "__init__.py").write_text(f"SHIFT = {shift}\n{_STAND_IN}")
    run = [str(picture), "--repeats", "1", "--upstream", str(tmp_path / "clone")]
    if shift:
        with pytest.raises(SystemExit, match="differ"):
            script("selection").main(run)
    else:
        script("selection").main(run)
    rules = _tables(capsys.readouterr().out)[2]
    assert len(rules) == 12
    assert {row["equal indices"] for row in rules} == {"0 of 1" if shift else "1 of 1"}
    assert sys.modules["pixelprune"].select is select  # ours is still ours
    for name in [name for name in sys.modules if name.startswith("authors_pixelprune")]:
        del sys.modules[name]


def test_selection_as_a_script_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("not an image")
    runs = [
        ([tmp_path / "no.png"], "no.png"),
        (["--upstream", tmp_path], "clone of the authors'"),
        (["--model", "no-such-model"], "unknown model 'no-such-model'"),
        (["--repeats", "0"], "must be at least 1; got 0"),
    ]
    for run, message in runs:
        result = subprocess.run([sys.executable, BENCHMARKS / "selection.py", *run], capture_output=True, text=True)
        assert result.returncode in (1, 2)
        assert message in result.stderr and "Traceback" not in result.stderr


def test_preprocess(script: Any, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    preprocess = script("preprocess")
    preprocess.main([str(picture), "--repeats", "1", "--json", str(tmp_path / "out.json")])
    images, groups = _tables(capsys.readouterr().out)
    assert set(images[0]) >= {"image", "retained", "stock ms", "pruned ms", "pruned / stock", "pruned peak MB"}
    kept, total = _kept(picture)
    assert images[0]["retained"] == groups[0]["retained"] == f"{kept / total:.1%}"
    row = json.loads((tmp_path / "out.json").read_text())["images"][0]
    assert row["difference"] <= 1e-6
    assert row["time_ratio"] == row["pruned_ms"] / row["stock_ms"]

    # The control: a processor that normalises otherwise is seen.
    stock = preprocess.Qwen2VLImageProcessorPil(**preprocess.QWEN3_VL)
    other = preprocess.Qwen2VLImageProcessorPil(**{**preprocess.QWEN3_VL, "image_mean": [0.4, 0.5, 0.5]})
    pruned = preprocess.pruned_image_processor(other, PruneConfig())
    loaded = sys.modules["common"].load([picture])[0]
    assert preprocess.measure(stock, pruned, loaded, 1)["difference"] > 0.1


def test_prefill(script: Any, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    script("prefill").main([str(picture), "--repeats", "1", "--json", str(tmp_path / "out.json")])
    row = _tables(capsys.readouterr().out)[0][0]
    kept, total = _kept(picture)
    assert (row["blocks"], row["kept"], row["retained"]) == (str(total), str(kept), f"{kept / total:.1%}")
    columns = {"full ms", "pruned ms", "resized ms", "dense ms", "speed-up", "efficiency", "pruned peak MB"}
    assert columns <= set(row)
    numbers = json.loads((tmp_path / "out.json").read_text())["images"][0]
    assert numbers["speedup"] == numbers["full_ms"] / numbers["pruned_ms"]
    assert numbers["efficiency"] == numbers["dense_ms"] / numbers["pruned_ms"]
    assert kept * 0.8 <= numbers["resized_blocks"] <= kept
    assert kept * 0.9 <= numbers["dense_blocks"] <= kept
    assert numbers["flops_speedup"] > 1


def test_prefill_variants_have_the_counts_that_are_reported(script: Any) -> None:
    pytest.importorskip("transformers")
    prefill = script("prefill")
    for count in range(1, 400):
        dense = prefill.noise(count, 4)
        blocks = dense.width * dense.height // 16
        assert count * 0.9 - 1 <= blocks <= count
        assert count < 3 or max(dense.size) <= 4 * min(dense.size)
        rows, cols = prefill.grid_within(count, 0.7)
        assert count / 2 <= rows * cols <= count
    dense = np.asarray(prefill.noise(60, 32))
    assert select(dense).num_kept == 60
    assert select(np.full_like(dense, 255)).num_kept == 1  # control: an image of that size need not be dense


def test_prefill_refuses_cuda_where_there_is_none(script: Any, picture: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SystemExit, match="--device cpu"):
        script("prefill").main([str(picture), "--device", "cuda"])


def test_viewing(script, picture: Path, tmp_path: Path, capsys) -> None:
    """Rates of both ways, and a time for every position of the slider; shares that come from the rows."""
    script("viewing").main([str(picture), "--files", "5", "--json", str(tmp_path / "out.json")])
    surveys, pictures = _tables(capsys.readouterr().out)
    assert [row["files"] for row in surveys] == ["5"]
    assert [(row["image"], row["size"], row["positions"]) for row in pictures] == [("corner.png", "320 x 288", "52")]
    (measured,) = json.loads((tmp_path / "out.json").read_text())["survey"]
    assert measured["decoded"] > measured["surveyed"] > 0
    assert 0 < measured["share"] < 1


def test_crops_are_the_regions_of_a_page(script: Callable[[str], Any]) -> None:
    """Two columns below a title: three regions with their margins, and no region in an empty page."""
    crops = script("crops")
    page = np.full((700, 500), 255, np.uint8)
    places = [(40, 30, 460, 60), (40, 120, 220, 600), (280, 120, 460, 580)]
    for left, top, right, bottom in places:
        page[top:bottom:6, left:right] = page[top:bottom, left] = page[bottom - 1, left:right] = 0
        page[top:bottom, right - 1] = 0
    assert list(crops.regions(page)) == [(a - 4, b - 4, c + 4, d + 4) for a, b, c, d in places]
    page[100:104, 250] = 0  # a speck
    assert len(list(crops.regions(page))) == 3
    assert not list(crops.regions(np.full((100, 100), 7, np.uint8)))


def test_crops_counts_pages_and_crops(
    script: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = np.full((640, 640, 3), 255, np.uint8)
    page[64:352, 64:352] = np.random.default_rng(0).integers(0, 256, (288, 288, 3))
    path = tmp_path / "page.png"
    Image.fromarray(page).save(path)
    script("crops").main([str(path), "--model", "qwen3_vl"])
    ((row, total),) = _tables(capsys.readouterr().out)
    kept, blocks = _kept(path)
    assert (row["page"], row["blocks"], row["crops"]) == ("page.png", str(blocks), "1")
    assert row["kept"] == f"{kept / blocks:.1%}"
    # The crop has a margin of 4 pixels around 288: 9 blocks a side after resizing, nothing of which can be dropped.
    assert (row["blocks of the crops"], row["kept of these"]) == (f"81 ({81 / blocks:.0%})", "100.0%")
    assert {**total, "page": ""} == {**row, "page": ""}


def test_sequences(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts are those of the core, the model takes what is counted, and a typed word costs what it changes."""
    folder = tmp_path / "history"
    folder.mkdir()
    with Image.open(ROOT / "examples" / "images" / "slide.png") as slide:
        page = slide.convert("RGB").crop((0, 0, 320, 288))
    typed = page.copy()
    typed.paste((9, 9, 9), (70, 100, 120, 110))
    for number, image in ((2, page), (10, typed)):  # in the order of numbers, not of letters
        image.save(folder / f"{number}.png")
    out = tmp_path / "out.json"
    script("sequences").main([str(folder), "--repeats", "1", "--prefill", "2", "--json", str(out)])
    output = capsys.readouterr().out
    tokens, agent, _, _, prefill = _tables(output)
    pixels = [ResizeSpec.for_model("qwen3_vl").resize(image) for image in (page, typed)]
    alone, kept = select(pixels[0]).num_kept, select_sequence(pixels)
    assert kept.num_kept == alone + len(kept.kept_indices[1]) < alone + 9
    assert tokens[0]["alone"] == str(alone + select(pixels[1]).num_kept)
    assert tokens[0]["previous"].startswith(f"{kept.num_kept} ")
    assert [row["sequence"] for row in tokens[1:]][-1] == "unrelated screens" and len(tokens) == 6
    # The window of 5 is not full, so each step prefills the latest screen alone; alone in its prompt, it is whole.
    sliding = next(row for row in agent if row["an agent sends"] == "sliding window of 5")
    assert (sliding["whole"], sliding["previous"]) == ("90", f"{kept.num_kept / 2:.0f}")
    assert agent[0]["previous"] == agent[0]["alone"] == f"{(alone + select(pixels[1]).num_kept) / 2:.0f}"
    row = json.loads(out.read_text())["prefill"][0]
    assert (row["previous"], row["blocks"]) == (kept.num_kept, kept.num_blocks)
    assert row["dense_blocks"] <= kept.num_kept and prefill[0]["images"] == "2"


def test_readme_is_as_the_results_have_it(script: Callable[[str], Any], tmp_path: Path) -> None:
    """Every table of README that a benchmark printed; and a GPU's, where there are results of one."""
    readme = script("readme")
    text = readme.README.read_text()
    assert readme.written(text, readme.RESULTS) == text
    # Control: other results are another README, again and again the same.
    for path in readme.RESULTS.glob("*-cpu.json"):
        (tmp_path / path.name).write_text(path.read_text())
    found = json.loads((tmp_path / "prefill-small-cpu.json").read_text())
    found["images"][0]["kept"] += 1
    (tmp_path / "prefill-small-cpu.json").write_text(json.dumps(found))
    found["machine"]["gpu"], found["settings"]["shape"] = "A GPU", "2b"
    (tmp_path / "prefill-2b-cuda.json").write_text(json.dumps(found))
    changed = readme.written(text, tmp_path)
    assert changed != text and "| documentation page, 1080p | 2040 | 616 (" in changed
    assert "### On GPUs\n\n**Prefill**, Qwen3-VL 2B, random weights, float32, AMD EPYC, 2 cores, A GPU" in changed
    assert readme.written(changed, tmp_path) == changed and readme.written(changed, readme.RESULTS) == text


def test_the_script_of_all_benchmarks_names_what_there_is() -> None:
    text = (BENCHMARKS / "all.sh").read_text().replace("\\\n", " ")
    commands = [line for line in text.splitlines() if re.search(r"PYTHON\" benchmarks/\w+\.py", line)]
    assert len(commands) == 7
    shared = (BENCHMARKS / "common.py").read_text()
    for line in commands:
        (name,) = re.findall(r"benchmarks/(\w+)\.py", line)
        program = (BENCHMARKS / f"{name}.py").read_text()
        for option in re.findall(r" (--[\w-]+)", line):
            assert f'"{option}"' in program + shared, (name, option)
    assert subprocess.run(["bash", "-n", str(BENCHMARKS / "all.sh")], check=False).returncode == 0
