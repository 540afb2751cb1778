"""Which dropped blocks are best kept as well? Patterns of them, at equal counts, asked of a reader.

    python -m recipes.tiny_reader.patterns --model OUT/reader --sides 192 640 --step 4 --out OUT/patterns
    python -m recipes.tiny_reader.table OUT/patterns --paired

What exact `pred2d` keeps of a page stays; each pattern adds as many of the dropped blocks as the regular lattice of
that step does, and differences are from that lattice. Killed and started again, it resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelprune import select
from pixelprune.models.resize import ResizeSpec

from . import evaluate, tasks
from .shared import Reading

Blocks = NDArray[np.bool_]  # (rows, columns)
LARGE = 20  # blocks of a dropped region that is called large


def grid(shape: tuple[int, ...], rows: int, columns: int, shift: int = 0) -> Blocks:
    """Each ``columns``-th block of each ``rows``-th row, every other one of these rows shifted to the right."""
    row, column = np.indices(shape)
    return (row % rows == 0) & ((column - shift * (row // rows % 2)) % columns == 0)


def regions(dropped: Blocks) -> list[NDArray[np.int64]]:
    """The flat indices of each region of dropped blocks that touch at a side."""
    found, seen = [], ~dropped
    for start in np.argwhere(dropped):
        if seen[tuple(start)]:
            continue
        seen[tuple(start)] = True
        region, ahead = [], [tuple(start)]
        while ahead:
            row, column = ahead.pop()
            region.append(row * dropped.shape[1] + column)
            for y, x in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if 0 <= y < dropped.shape[0] and 0 <= x < dropped.shape[1] and not seen[y, x]:
                    seen[y, x] = True
                    ahead.append((y, x))
        found.append(np.array(region))
    return found


def large(dropped: Blocks) -> Blocks:
    """The blocks of large regions."""
    mask = np.zeros(dropped.shape, bool)
    for region in regions(dropped):
        if len(region) >= LARGE:
            mask.flat[region] = True
    return mask


def centres(dropped: Blocks) -> Blocks:
    """Of each region the block that is nearest to its centre of mass."""
    mask = np.zeros(dropped.shape, bool)
    for region in regions(dropped):
        places = np.stack(np.unravel_index(region, dropped.shape), axis=1)
        mask.flat[region[((places - places.mean(0)) ** 2).sum(1).argmin()]] = True
    return mask


def beside_kept(dropped: Blocks) -> Blocks:
    """The blocks that touch a kept one, at a side or a corner."""
    kept = np.pad(~dropped, 1)
    around = [np.roll(kept, (y, x), (0, 1))[1:-1, 1:-1] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.logical_or.reduce(around)


#: What each pattern prefers, given the dropped blocks and the step, an even number: masks, the first before the second.
PATTERNS: dict[str, Callable[[Blocks, int], list[Blocks]]] = {
    "regular": lambda dropped, step: [grid(dropped.shape, step, step)],
    "staggered": lambda dropped, step: [grid(dropped.shape, step, step, step // 2)],
    "sparser in rows": lambda dropped, step: [grid(dropped.shape, 2 * step, step // 2)],
    "sparser in columns": lambda dropped, step: [grid(dropped.shape, step // 2, 2 * step)],
    "evenly in reading order": lambda dropped, step: [],
    "large regions only": lambda dropped, step: [grid(dropped.shape, step, step) & large(dropped), large(dropped)],
    "one of each region, then evenly": lambda dropped, step: [centres(dropped)],
    "beside kept blocks": lambda dropped, step: [beside_kept(dropped)],
}


def evenly(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of the indices, spread evenly."""
    return indices[((np.arange(count) + 0.5) * len(indices) / max(count, 1)).astype(np.int64)]


def added(name: str, dropped: Blocks, step: int) -> NDArray[np.int64]:
    """The flat indices, ascending, of the dropped blocks that a pattern adds: as many as the regular lattice has."""
    left = dropped.copy()
    missing = int((dropped & grid(dropped.shape, step, step)).sum())
    chosen = []
    for mask in [*PATTERNS[name](dropped, step), dropped]:
        here = np.flatnonzero(mask & left)
        chosen.append(evenly(here, min(missing, len(here))))
        left.flat[chosen[-1]] = False
        missing -= len(chosen[-1])
    return np.sort(np.concatenate(chosen))


def score(number: int, folder: str, sides: tuple[int, int], questions: int, step: int) -> list[dict[str, Any]]:
    """What the reader answers about one page with each pattern, without one, and on the whole page."""
    model, processor = evaluate.load(folder)
    sheet, asked = evaluate.sheet_of(number, sides, questions)
    reading = Reading(model, processor, sheet.image, [question.text for question in asked])
    keep = select(ResizeSpec.from_processor(processor.image_processor.to_dict()).resize(sheet.image)).keep
    kept = {name: np.union1d(np.flatnonzero(keep), added(name, ~keep, step)) for name in PATTERNS}
    results = []
    for name, blocks in {**kept, "none": np.flatnonzero(keep), "whole": np.arange(keep.size)}.items():
        answers = reading.ask(blocks.astype(np.int32))
        right = [tasks.right(q, a, sheet.width, sheet.height) for q, a in zip(asked, answers, strict=True)]
        row = {"variant": name, "page": number, "kept": len(blocks), "total": keep.size}
        results.append({**row, "tasks": [q.task for q in asked], "right": right, "answers": answers})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of the reader")
    parser.add_argument("--sides", type=int, nargs=2, required=True)
    parser.add_argument("--step", type=int, choices=(2, 4, 6), default=4, help="of the regular lattice (%(default)s)")
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--questions", type=int, default=4, help="of a page and group at most")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "answers.jsonl"
    done = {json.loads(line)["page"] for line in file.open()} if file.exists() else set()
    with file.open("a") as answers:
        for number in range(args.pages):
            if number not in done:
                rows = score(number, args.model, tuple(args.sides), args.questions, args.step)
                answers.write("".join(json.dumps(row) + "\n" for row in rows))
                answers.flush()


if __name__ == "__main__":
    main()
