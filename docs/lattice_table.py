"""Write the tables of ``docs/lattice.md`` anew from what was measured: ``python docs/lattice_table.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("lattice.md")
RESULTS = PAGE.parents[1] / "recipes" / "tiny_reader" / "results"
START, END = "<!-- The {} are written by docs/lattice_table.py. -->\n", "<!-- End of the {}. -->\n"
READERS = {
    "lattice-bundled": "**Trained on pruned pages** (the bundled weights), pages of 192 to 640 pixels a side",
    "lattice-never": "**Never trained on pruned pages** (the weights that came with the package at commit 68aaf61), "
    "pages of 160 to 384 pixels a side",
}
RIVALS = {"random": "random, as many blocks as `pred2d`", "resized": "resized to at most as many tokens as `pred2d`"}
PATTERNS = {"regular": "regular: `lattice`", "none": "no lattice, fewer blocks", "whole": "whole pages"}
PATTERNS_HEAD = "| | trained: reading | pointing | untrained: reading | pointing |\n|---|---:|---:|---:|---:|\n"
HEAD = (
    "| | kept | reading (from whole) | pointing (from whole) | first token | speed-up |\n"
    "|---|---:|---:|---:|---:|---:|\n"
)


def percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def label(name: str) -> str:
    """A variant's name as the page has it."""
    family, _, lattice = name.partition(", lattice ")
    shown = family if family == "whole" else RIVALS.get(family, f"`{family}`")
    return shown if lattice in ("", "0") else f"{shown}, lattice {lattice}"


def row(name: str, measured: dict[str, Any]) -> str:
    """A variant's line."""
    cells = [label(name), percent(measured["kept"])]
    for group in ("reading", "grounding"):
        cells.append(percent(measured[group]["share"]))
        if name != "whole":
            cells[-1] += f" ({apart(measured, group)})"
    cells += [f"{measured['first_token_ms']:.0f} ms", f"{measured['speedup']:.2f}x"]
    return f"| {' | '.join(cells)} |\n"


def load(name: str) -> dict[str, Any]:
    """What recipes.tiny_reader.table wrote."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return results


def apart(measured: dict[str, Any], group: str) -> str:
    """The difference from the first variant, in points, with its interval, which no line break parts."""
    difference = measured[group]["difference"]
    return (
        f"{difference['mean'] * 100:+.1f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{difference['half'] * 100:.1f}".replace(
            "-", "−"
        )
    )


def table(reader: str) -> str:
    """A reader's table below the sentence that says what it was asked."""
    results = load(reader)
    asked = results["questions"]
    lead = (
        f"{READERS[reader]}: {results['pages']} pages, {asked['reading']:,} questions of reading and "
        f"{asked['grounding']:,} of pointing; timed on {results['timed']} of the pages.\n\n"
    )
    return lead + HEAD + "".join(row(*variant) for variant in results["variants"].items())


def patterns(step: int) -> str:
    """What patterns give at as many blocks as the regular lattice of a step has, for both readers."""
    readers = {"trained": load(f"patterns-bundled-{step}"), "untrained": load(f"patterns-never-{step}")}
    asked = [
        f"{percent(results['variants']['regular']['kept'])} of the blocks of {results['pages']} pages of the {name} "
        f"reader ({results['questions']['reading']} + {results['questions']['grounding']} questions)"
        for name, results in readers.items()
    ]
    lines = [f"As many blocks as lattice {step}: {' and '.join(asked)}.\n\n", PATTERNS_HEAD]
    for name in readers["trained"]["variants"]:
        cells = [PATTERNS.get(name, name)]
        for results in readers.values():
            measured = results["variants"][name]
            for group in ("reading", "grounding"):
                cells.append(percent(measured[group]["share"]) if name == "regular" else apart(measured, group))
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def written(page: str) -> str:
    """The page with the tables of now."""
    parts = {"tables": map(table, READERS), "patterns": map(patterns, (4, 2))}
    for name, tables in parts.items():
        start, end = START.format(name), END.format(name)
        before, rest = page.split(start)
        page = before + start + "\n" + "\n".join(tables) + "\n" + end + rest.split(end)[1]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
