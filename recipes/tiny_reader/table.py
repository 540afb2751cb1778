"""Print what `recipes.tiny_reader.evaluate` measured as a Markdown table, with 95 % intervals.

python -m recipes.tiny_reader.table OUT/proof
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

from .tasks import READING


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson score)."""
    z, share = 1.959964, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def cell(results: list[bool]) -> str:
    if not results:
        return "-"
    low, high = wilson(sum(results), len(results))
    return f"{sum(results) / len(results):.1%} ({low:.1%}-{high:.1%})"


def table(folder: Path, by_task: bool = False) -> str:
    rows: dict[str, dict[str, list[bool]]] = {}
    kept: dict[str, dict[int, int]] = defaultdict(dict)  # by variant and page
    whole: dict[int, int] = {}
    for line in (folder / "answers.jsonl").open():
        result = json.loads(line)
        groups = rows.setdefault(result["variant"], defaultdict(list))
        for task, right in zip(result["tasks"], result["right"], strict=True):
            groups["grounding" if task == "point" else "reading"].append(right)
            groups[task].append(right)
        kept[result["variant"]][result["page"]] = result["kept"]
        # An image that was padded or resized before has other blocks than the page; without "whole", the first counts.
        if result["variant"] == "whole" or result["page"] not in whole:
            whole[result["page"]] = result["total"]
    times = json.loads((folder / "times.json").read_text()) if (folder / "times.json").exists() else {}
    columns = ["reading", *READING, "grounding"] if by_task else ["reading", "grounding"]
    lines = [
        "| | kept | " + " | ".join(columns) + " | first token | speed-up |",
        "|---|" + "---:|" * (len(columns) + 3),
    ]
    for name, groups in rows.items():
        clock = times.get(name)
        spent = [f"{clock['first_token_ms']:.0f} ms", f"{clock['speedup']:.1f}x"] if clock else ["-", "-"]
        shown = [
            f"{sum(kept[name].values()) / sum(whole[page] for page in kept[name]):.1%}",
            *(cell(groups[c]) for c in columns),
            *spent,
        ]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    first = next(iter(rows.values()))
    counts = ", ".join(f"{len(first[c]):,} {c}" for c in columns)
    return "\n".join(lines) + f"\n\nQuestions: {counts}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--by-task", action="store_true")
    args = parser.parse_args()
    print(table(args.folder, args.by_task))


if __name__ == "__main__":
    main()
