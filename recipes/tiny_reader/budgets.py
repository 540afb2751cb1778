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
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixelprune import PruneConfig, reader, select
from pixelprune.models.resize import ResizeSpec

from .evaluate import ANY_SIZE, load, sheet_of
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


def ways(pixels: NDArray[np.uint8], spec: ResizeSpec) -> Iterator[tuple[str, Image.Image, NDArray[np.int32] | None]]:
    """Name, image, and the blocks that are kept of it (None for all)."""
    image = Image.fromarray(pixels)
    yield "whole", image, None
    exact = select(pixels, PruneConfig(), block_size=spec.block_size)
    yield "exact", image, exact.kept_indices
    for share in SHARES:
        budget = max(1, int(share * exact.num_kept))
        for metric in METRICS:
            config = PruneConfig(metric=metric, max_tokens=budget)  # type: ignore[arg-type]
            yield f"{share:.0%}, {metric}", image, select(pixels, config, block_size=spec.block_size).kept_indices
        area = spec.block_size**2
        small = ResizeSpec(spec.patch_size, spec.merge_size, area, max(4, budget) * area).resize(image)
        yield f"{share:.0%}, resized", Image.fromarray(small), None


def score(number: int, questions: int, kind: str) -> list[dict[str, Any]]:
    """What is answered about one page."""
    torch.set_num_threads(1)
    model, processor = load(str(reader.path()))
    sheet, asked = sheet_of(number, SIDES, questions)
    spec = ResizeSpec.from_processor(processor.image_processor.to_dict())
    pixels = spec.resize(sheet.image)
    if kind == "bilevel":
        pixels = bilevel(pixels)
    readings: dict[bytes, Reading] = {}
    results = []
    for name, image, kept in ways(pixels, spec):
        key = image.tobytes()
        if key not in readings:
            readings[key] = Reading(model, processor, image, [q.text for q in asked], **ANY_SIZE)
        reading = readings[key]
        blocks = np.arange(reading.rows * reading.columns, dtype=np.int32) if kept is None else kept
        answers = reading.ask(blocks)
        results.append(
            {
                "variant": name,
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
