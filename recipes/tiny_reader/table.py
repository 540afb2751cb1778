"""Print what `recipes.tiny_reader.evaluate` measured as a Markdown table, with 95 % intervals.

python -m recipes.tiny_reader.table OUT/proof
python -m recipes.tiny_reader.table OUT/lattice --paired --json recipes/tiny_reader/results/lattice.json
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .tasks import READING

Z = 1.959964  # of a 95 % interval


@dataclass
class Measured:
    """One variant: what is right of each group's questions, by page, and the blocks kept and there of each page."""

    right: dict[str, dict[int, list[bool]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    kept: dict[int, int] = field(default_factory=dict)

    def all(self, group: str) -> list[bool]:
        return [right for page in self.right[group].values() for right in page]


@dataclass(frozen=True)
class Difference:
    """A share minus another's, and half the width of its 95 % interval."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean * 100:+.1f} ± {self.half * 100:.1f}"


def read(folder: Path) -> tuple[dict[str, Measured], dict[int, int]]:
    """The variants of an evaluation by name, and the blocks of each page.

    An image that was padded or resized before has other blocks than the page; without "whole", the first counts.
    """
    variants: dict[str, Measured] = {}
    blocks: dict[int, int] = {}
    for line in (folder / "answers.jsonl").open():
        result = json.loads(line)
        name, page = result["variant"], result["page"]
        measured = variants.setdefault(name, Measured())
        for task, right in zip(result["tasks"], result["right"], strict=True):
            for group in ("grounding" if task == "point" else "reading", task):
                measured.right[group][page].append(right)
        measured.kept[page] = result["kept"]
        if name == "whole" or page not in blocks:
            blocks[page] = result["total"]
    return variants, blocks


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson score)."""
    share = right / count
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return middle - half, middle + half


def difference(ours: dict[int, list[bool]], theirs: dict[int, list[bool]]) -> Difference:
    """The paired difference of two variants on the questions of the pages that both were asked.

    Questions about one page are not independent, so that the interval takes the page as the unit (the ratio
    estimator of cluster sampling).
    """
    pages = sorted(ours.keys() & theirs.keys())
    gained = [sum(ours[page]) - sum(theirs[page]) for page in pages]
    counts = [len(ours[page]) for page in pages]
    total = sum(counts)
    mean = sum(gained) / total
    if len(pages) < 2:
        return Difference(mean, math.inf)
    squares = sum((g - mean * n) ** 2 for g, n in zip(gained, counts, strict=True))
    return Difference(mean, Z * math.sqrt(len(pages) / (len(pages) - 1) * squares) / total)


def cell(results: list[bool]) -> str:
    if not results:
        return "-"
    low, high = wilson(sum(results), len(results))
    return f"{sum(results) / len(results):.1%} ({low:.1%}-{high:.1%})"


def kept_share(measured: Measured, blocks: dict[int, int]) -> float:
    return sum(measured.kept.values()) / sum(blocks[page] for page in measured.kept)


def clocks(folder: Path) -> tuple[int, dict[str, dict[str, float]]]:
    """The number of pages that were timed, and the times to the first token by variant; 0 and none without them."""
    file = folder / "times.json"
    times = json.loads(file.read_text()) if file.exists() else {"pages": 0, "variants": {}}
    return times["pages"], times["variants"]


def table(folder: Path, by_task: bool = False, paired: bool = False) -> str:
    """Markdown.

    Args:
        by_task: a column for each task of reading.
        paired: beside each group, the paired difference from the first variant, in points.
    """
    variants, blocks = read(folder)
    _, times = clocks(folder)
    columns = ["reading", *READING, "grounding"] if by_task else ["reading", "grounding"]
    heads = [head for c in columns for head in ([c, "difference"] if paired else [c])]
    lines = [
        "| | kept | " + " | ".join(heads) + " | first token | speed-up |",
        "|---|" + "---:|" * (len(heads) + 3),
    ]
    first = next(iter(variants.values()))
    for name, measured in variants.items():
        clock = times.get(name)
        spent = [f"{clock['first_token_ms']:.0f} ms", f"{clock['speedup']:.1f}x"] if clock else ["-", "-"]
        shown = [f"{kept_share(measured, blocks):.1%}"]
        for column in columns:
            shown.append(cell(measured.all(column)))
            if paired:
                shown.append(str(difference(measured.right[column], first.right[column])))
        lines.append(f"| {name} | " + " | ".join([*shown, *spent]) + " |")
    counts = ", ".join(f"{len(first.all(c)):,} {c}" for c in columns)
    return "\n".join(lines) + f"\n\nQuestions: {counts}."


def summary(folder: Path) -> dict[str, Any]:
    """The same in numbers: for each variant its kept share, both groups and their difference from the first, times."""
    variants, blocks = read(folder)
    timed, times = clocks(folder)
    first = next(iter(variants.values()))

    def group(measured: Measured, name: str) -> dict[str, Any]:
        results = measured.all(name)
        low, high = wilson(sum(results), len(results))
        apart = asdict(difference(measured.right[name], first.right[name]))
        return {"share": sum(results) / len(results), "low": low, "high": high, "difference": apart}

    return {
        "pages": len(blocks),
        "timed": timed,
        "questions": {name: len(first.all(name)) for name in ("reading", "grounding")},
        "variants": {
            name: {
                "kept": kept_share(measured, blocks),
                "reading": group(measured, "reading"),
                "grounding": group(measured, "grounding"),
                **times.get(name, {}),
            }
            for name, measured in variants.items()
        },
    }


def rounded(value: Any) -> Any:
    """Numbers at six decimals, for a file that people read; fewer would show when a page rounds them to one again."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return value


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--by-task", action="store_true")
    parser.add_argument("--paired", action="store_true", help="differences from the first variant")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    args = parser.parse_args(None if arguments is None else list(arguments))
    print(table(args.folder, args.by_task, args.paired))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rounded(summary(args.folder)), indent=1) + "\n")


if __name__ == "__main__":
    main()
