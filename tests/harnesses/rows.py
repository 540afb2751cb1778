"""Held-out pages of the bundled reader as files, two sets of them, and what the recipe says that it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelprune import PruneConfig, reader
from recipes.tiny_reader import evaluate

SIDES, QUESTIONS = (192, 288), 4
ROWS = 100  # of each set

#: The arms of the tests, as the configuration names them, and the ways in which the recipe evaluates the same.
ARMS: dict[str, Any] = {
    "whole": "whole",
    "exact": "exact",
    "lattice 4": {"lattice": 4},
    "random": "random",
    "resized": "resized",
}
WAYS = {
    "whole": evaluate.Variant("whole", "base", None),
    "exact": evaluate.Variant("exact", "base", PruneConfig()),
    "lattice 4": evaluate.Variant("lattice 4", "base", PruneConfig(lattice=4)),
    "random": evaluate.Variant("random", "base", PruneConfig("random", seed=42)),
    "resized": evaluate.Variant("resized", "base", PruneConfig(), "resized"),
}


@dataclass(frozen=True)
class Asked:
    """A row: the page's number, which of its questions it is, and the right answer."""

    page: int
    place: int
    answer: str


@dataclass(frozen=True)
class Answered:
    """What the recipe's evaluation says of a row in one way: the answer, whether it is right, and blocks."""

    text: str
    right: bool
    kept: int


def write(folder: Path, count: int) -> dict[str, list[Asked]]:
    """Write ``reading.jsonl`` and ``pointing.jsonl`` with so many rows each.

    Returns:
        The rows, by the name of the file without its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Asked]] = {"reading": [], "pointing": []}
    lines: dict[str, list[str]] = {"reading": [], "pointing": []}
    number = 0
    while min(map(len, rows.values())) < count:
        sheet, asked = evaluate.sheet_of(number, SIDES, QUESTIONS)
        name = f"page-{number}.png"
        sheet.image.save(folder / name)
        for place, question in enumerate(asked):
            kind = "pointing" if question.task == "point" else "reading"
            if len(rows[kind]) < count:
                right = {"box": list(question.box)} if question.box else {"answers": [question.answer]}
                lines[kind].append(json.dumps({"image": name, "question": question.text, **right}))
                rows[kind].append(Asked(number, place, question.answer))
        number += 1
    for kind, each in lines.items():
        (folder / f"{kind}.jsonl").write_text("\n".join(each) + "\n")
    return rows


def by_recipe(rows: dict[str, list[Asked]]) -> dict[tuple[str, str], list[Answered]]:
    """What `recipes.tiny_reader.evaluate` answers, by set and arm: other code, which encodes a page once for all."""
    found: dict[tuple[str, str], list[Answered]] = {(kind, arm): [] for kind in rows for arm in WAYS}
    folders = {"base": str(reader.path())}
    pages = sorted({row.page for each in rows.values() for row in each})
    results = {number: evaluate.score(number, list(WAYS.values()), folders, SIDES, QUESTIONS) for number in pages}
    for kind, each in rows.items():
        for row in each:
            for result in results[row.page]:
                answered = Answered(result["answers"][row.place], result["right"][row.place], result["kept"])
                found[kind, result["variant"]].append(answered)
    return found
