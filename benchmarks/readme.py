"""Write README's tables from benchmarks/results: those of a CPU at the small shape in their places, those of GPUs in a
section of their own.

    python benchmarks/readme.py           # write
    python benchmarks/readme.py --check   # say whether README is as the results have it

A table of a CPU is the first one below the line that names its benchmark, as in ``benchmarks/prefill.py``. The words
around tables are a person's: look at them when numbers have changed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"

NAMES = {
    "application-form.png": "application form",
    "docs-page.png": "documentation page, 1080p",
    "dashboard-dark.png": "dark dashboard, 1080p",
    "paper.png": "paper, two columns",
}
GROUPS = {"text pages": "{images} text pages", "4K screenshots": "4K screenshot"}
LOSSES = {"ce": "cross-entropy", "distill": "self-distillation"}
GPU_HEADING = "### On GPUs"

Results = dict[str, Any]


def share(value: float, digits: int = 1) -> str:
    return f"{value * 100:.{digits}f} %"


def seconds(milliseconds: float) -> str:
    """Three digits' worth: seconds, or milliseconds where a second is long."""
    value = milliseconds / 1e3
    return f"{milliseconds:.0f} ms" if value < 0.1 else f"{value:.2f} s"


def prefill(found: Results) -> str:
    rows = [
        {
            **row,
            "name": NAMES.get(row["image"], row["image"]),
            "part": share(row["retained"]),
            **{kind: seconds(row[f"{kind}_ms"]) for kind in ("full", "pruned", "resized")},
        }
        for row in sorted(found["images"], key=lambda row: row["retained"])
        if row["image"] in NAMES
    ]
    columns = {
        "image": "{name}",
        "blocks": "{blocks}",
        "kept": "{kept} ({part})",
        "whole": "{full}",
        "pruned": "{pruned}",
        "speed-up": "{speedup:.1f}x",
        "resized to at most as many tokens": "{resized}",
        "efficiency": "{efficiency:.2f}",
    }
    return common.table(rows, columns)


def preprocess(found: Results) -> str:
    rows = [
        {**row, "name": GROUPS[row["group"]].format(**row), "part": share(row["retained"])}
        for row in found["groups"]
        if row["group"] in GROUPS
    ]
    rows.sort(key=lambda row: -row["retained"])
    columns = {
        "images": "{name}",
        "retained": "{part}",
        "stock": "{stock_ms:.0f} ms",
        "pruned, selection included": "{pruned_ms:.0f} ms",
        "ratio": "{time_ratio:.2f}",
        "peak memory, stock and pruned": "{stock_peak} MB, {pruned_peak} MB",
    }
    return common.table(rows, columns)


def selection(found: Results) -> str:
    rows = [row for row in found["selection"] if row["threshold"] == 0]
    methods = ("pred2d", "adaptive", "raster", "serpentine", "components")
    images = {row["image"] for row in rows}
    means = {
        method: share(sum(row["retained"] for row in rows if row["method"] == method) / len(images))
        for method in methods
    }
    columns = {"method, threshold 0": f"retained, mean of the {len(images)} images"} | {m: f"{{{m}}}" for m in methods}
    return common.table([means], columns)


def training(found: Results) -> str:
    rows = [
        {
            **row,
            "name": LOSSES[row["loss"]],
            **{kind: f"{row[f'{kind}_ms'] / 1e3:.1f} s" for kind in ("whole", "pruned")},
            **{f"{kind}_gb": f"{row[f'{kind}_bytes'] / 1e9:.1f} GB" for kind in ("whole", "pruned")},
        }
        for row in found["images"]
    ]
    first = found["images"][0]
    kept = f"{first['kept']} of {first['blocks']} blocks kept ({share(first['retained'])})"
    columns = {
        f"{NAMES.get(first['image'], first['image']).partition(',')[0]}, {kept}": "{name}",
        "whole": "{whole}",
        "pruned": "{pruned}",
        "speed-up": "{speedup:.1f}x",
        "efficiency": "{efficiency:.2f}",
        "peak memory, whole and pruned": "{whole_gb}, {pruned_gb}",
    }
    return common.table(rows, columns)


def serving(found: Results) -> str:
    rows = [
        {
            **row,
            "part": "100 %" if row["token_ratio"] == 1 else share(row["token_ratio"]),
            "first": f"{row['ttft_p50_ms'] / 1e3:.1f} s" if row["ttft_p50_ms"] >= 1e3 else seconds(row["ttft_p50_ms"]),
        }
        for row in found["results"]
    ]
    columns = {
        "threshold": "{threshold}",
        "tokens": "{prompt_tokens} ({part})",
        "requests/s": "{throughput:.2f}",
        "speed-up": "{speedup:.1f}x",
        "time to first token, median": "{first}",
    }
    return common.table(rows, columns)


#: The file of each table of a CPU, without its end, the line above it, and what makes it.
CPU: dict[str, tuple[str, Callable[[Results], str]]] = {
    "prefill-small-cpu": ("benchmarks/prefill.py", prefill),
    "preprocess-cpu": ("benchmarks/preprocess.py", preprocess),
    "selection-cpu": ("benchmarks/selection.py", selection),
    "training-small-cpu": ("benchmarks/training.py", training),
    "serving-small-cpu": ("benchmarks/serving.py", serving),
}
GPU = {"prefill": prefill, "training": training, "serving": serving}


def replaced(text: str, name: str, table: str) -> str:
    """The text with another first table below the line that has the name."""
    lines = text.splitlines()
    above = next(place for place, line in enumerate(lines) if name in line)
    start = next(place for place in range(above, len(lines)) if lines[place].startswith("|"))
    end = next(place for place in range(start, len(lines)) if not lines[place].startswith("|"))
    return "\n".join([*lines[:start], *table.splitlines(), *lines[end:]]) + "\n"


def gpu_section(results: Path) -> str:
    """Tables of every result of a GPU; empty where there is none."""
    parts = []
    for name, make in GPU.items():
        for path in sorted(results.glob(f"{name}-*-cuda.json")):
            found = json.loads(path.read_text())
            shape, dtype = found["settings"]["shape"], found["settings"]["dtype"]
            title = f"**{name.capitalize()}**, Qwen3-VL {shape.upper()}, random weights, {dtype}"
            parts.append(f"{title}, {common.machine_line(found['machine'])}:\n\n{make(found)}")
    return "\n\n".join([GPU_HEADING, *parts]) + "\n\n" if parts else ""


def written(text: str, results: Path) -> str:
    """README with the tables of all results that there are."""
    for name, (above, make) in CPU.items():
        path = results / f"{name}.json"
        if path.is_file():
            text = replaced(text, above, make(json.loads(path.read_text())))
    before, heading, after = text.partition("## Limits\n")
    return before.partition(GPU_HEADING)[0] + gpu_section(results) + heading + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where README would change")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    new = written(text, RESULTS)
    if check and new != text:
        raise SystemExit("README.md is not as benchmarks/results has it; run python benchmarks/readme.py")
    if not check:
        README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
