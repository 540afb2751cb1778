"""Tight budgets: which order of dropping leaves the most answers, on pages as they are and in pure black and white.

    python -m recipes.tiny_reader.budgets --pages 64 --out OUT/budgets
    python -m recipes.tiny_reader.table OUT/budgets/bilevel --paired

A budget is a share of the blocks that exact ``pred2d`` keeps of the page. It is met by raising the threshold of each
metric, or by resizing the page as a whole. Killed and started again, it resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixelprune import PruneConfig, Selection, reader, select
from pixelprune.core.budget import first_that_fits
from pixelprune.models.resize import ResizeSpec

from .evaluate import load, sheet_of
from .shared import Reading
from .tasks import right

SHARES = (0.9, 0.75, 0.5, 0.25)
METRICS = ("max", "mae", "rmse")
KINDS = ("as it is", "bilevel")
SIDES = (192, 640)


def bilevel(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pure black and white, cut where Otsu's method separates dark from light: the largest variance between both.

    Args:
        pixels: uint8 ``(H, W, 3)``.
    """
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    counts = np.bincount(gray.ravel(), minlength=256).astype(float)
    weight, mass = counts.cumsum(), (counts * np.arange(256)).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mass[-1] * weight / weight[-1] - mass) ** 2 / (weight * (weight[-1] - weight))
    black = gray <= np.nanargmax(np.where(np.isfinite(between), between, np.nan)) if np.ptp(gray) else gray < 128
    return np.repeat(np.where(black, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@dataclass(frozen=True)
class Way:
    """One way to meet a budget: the blocks that are kept (None for all), or what resizes the page in the processor."""

    name: str
    kept: NDArray[np.int32] | None = None
    sizes: dict[str, Any] = field(default_factory=dict)


def ways(pixels: NDArray[np.uint8], block_size: int) -> Iterator[Way]:
    """All ways, of a page as the model sees it."""
    exact = select(pixels, PruneConfig(), block_size=block_size)
    yield Way("whole")
    yield Way("exact", exact.kept_indices)
    for share in SHARES:
        budget = max(1, int(share * exact.num_kept))
        for metric in METRICS:
            yield Way(f"{share:.0%}, {metric}", _by_levels(pixels, metric, budget, block_size).kept_indices)
        area = block_size**2
        yield Way(
            f"{share:.0%}, resized", None, {"size": {"shortest_edge": area, "longest_edge": max(4, budget) * area}}
        )


def _by_levels(pixels: NDArray[np.uint8], metric: str, budget: int, block_size: int) -> Selection:
    """By the levels of one metric alone; ``max_tokens`` would change from max to mae."""

    def attempt(level: int) -> Selection | None:
        config = PruneConfig(metric=metric, threshold=level / 255)  # type: ignore[arg-type]
        selection = select(pixels, config, block_size=block_size)
        return selection if selection.num_kept <= budget else None

    found = first_that_fits(0, 255, attempt)
    assert found is not None  # at level 255 one block is kept
    return found


def score(number: int, questions: int, kind: str) -> list[dict[str, Any]]:
    """What is answered about one page."""
    torch.set_num_threads(1)
    model, processor = load(str(reader.path()))
    sheet, asked = sheet_of(number, SIDES, questions)
    spec = ResizeSpec.from_processor(processor.image_processor.to_dict())
    page, pixels = sheet.image, spec.resize(sheet.image)
    if kind == "bilevel":
        pixels = bilevel(pixels)
        page = Image.fromarray(pixels)  # of whole blocks, so that the processor leaves it as it is
    readings: dict[str, Reading] = {}
    results = []
    for way in ways(pixels, spec.block_size):
        key = str(way.sizes)
        if key not in readings:
            readings[key] = Reading(model, processor, page, [q.text for q in asked], **way.sizes)
        reading = readings[key]
        blocks = np.arange(reading.rows * reading.columns, dtype=np.int32) if way.kept is None else way.kept
        answers = reading.ask(blocks)
        results.append(
            {
                "variant": way.name,
                "page": number,
                "kept": len(blocks),
                "total": reading.rows * reading.columns,
                "tasks": [q.task for q in asked],
                "right": [right(q, a, sheet.width, sheet.height) for q, a in zip(asked, answers, strict=True)],
                "answers": answers,
                "wanted": [q.answer for q in asked],
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=64)
    parser.add_argument("--questions", type=int, default=4, help="of a page and group at most")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    args = parser.parse_args()
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        for kind in reversed(KINDS):
            folder = args.out / kind.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "answers.jsonl").open("a+") as file:
                file.seek(0)
                done = {json.loads(line)["page"] for line in file}
                pages = [number for number in range(args.pages) if number not in done]
                for results in pool.map(score, pages, [args.questions] * len(pages), [kind] * len(pages)):
                    file.writelines(json.dumps(result) + "\n" for result in results)
                    file.flush()


if __name__ == "__main__":
    main()
