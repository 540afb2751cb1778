"""The proof: the same held-out questions asked of whole pages, of pruned ones, and of the rivals' images.

    python -m recipes.tiny_reader.evaluate --model base=OUT/reader --model tuned=OUT/tuned --pages 360 --out OUT/proof
    python -m recipes.tiny_reader.evaluate --study lattice --model base=OUT/reader --pages 256 --out OUT/lattice

Pages are of any size and set in fonts that no model was trained on. Answers are those of the stock ``generate`` of an
enabled model, greedily; the questions about a page share its encoded image. Killed and started again, it resumes.
`recipes.tiny_reader.table` prints what was measured.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixelprune import PruneConfig, select
from pixelprune.hf import PrunedProcessor, enable
from pixelprune.hf.chat import load_model
from pixelprune.models.resize import ResizeSpec

from . import conversation, pages, tasks
from .shared import Reading

SEED = 77_000_000
LATTICES = (0, 6, 4, 3, 2)
PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Variant:
    """One way of asking: which model, how its image is pruned, and what is done to the image before.

    ``image`` is "as it is"; "padded" to whole blocks; or "resized", as a whole, to as many tokens as ``prune`` keeps.
    """

    name: str
    model: str
    prune: PruneConfig | None
    image: str = "as it is"

    @property
    def processor_prune(self) -> PruneConfig | None:
        """What the processor prunes with."""
        return None if self.image == "resized" else self.prune


def variants(models: list[str]) -> list[Variant]:
    """All ways, given the models at hand: ``base``, and what was trained on from it."""
    ways = [Variant("whole", "base", None)]
    for method in ("pred2d", "raster", "adaptive"):
        for threshold in (0.0, 0.02, 0.05):
            ways.append(Variant(f"{method} {threshold:g}", "base", PruneConfig(method, threshold=threshold)))  # type: ignore[arg-type]
    ways.append(Variant("pred2d 0, padded", "base", PruneConfig(), "padded"))
    ways.append(Variant("random, as many blocks", "base", PruneConfig("random")))
    ways.append(Variant("resized to as many tokens", "base", PruneConfig(), "resized"))
    for model in models:
        if model != "base":
            ways.append(Variant(f"whole, {model}", model, None))
            for threshold in (0.0, 0.02, 0.05):
                ways.append(Variant(f"pred2d {threshold:g}, {model}", model, PruneConfig(threshold=threshold)))
            ways.append(Variant(f"adaptive 0, {model}", model, PruneConfig("adaptive")))
            ways.append(Variant(f"pred2d 0, padded, {model}", model, PruneConfig(), "padded"))
    return ways


def lattice_variants(models: list[str]) -> list[Variant]:
    """Methods with lattices from none to dense, and the rivals at the counts of ``pred2d``, for each model."""
    ways = []
    for model in models:
        ways.append(Variant(f"whole, {model}" if model != "base" else "whole", model, None))
        mark = "" if model == "base" else f", {model}"
        for method in ("pred2d", "adaptive", "raster"):
            for lattice in LATTICES:
                config = PruneConfig(method, lattice=lattice)  # type: ignore[arg-type]
                ways.append(Variant(f"{method}, lattice {lattice}{mark}", model, config))
        for lattice in (0, 4):
            ways.append(Variant(f"random, lattice {lattice}{mark}", model, PruneConfig("random", lattice=lattice)))
            ways.append(Variant(f"resized, lattice {lattice}{mark}", model, PruneConfig(lattice=lattice), "resized"))
    return ways


STUDIES = {"pruning": variants, "lattice": lattice_variants}


@lru_cache(maxsize=4)
def load(folder: str) -> tuple[Any, Any]:
    """A model, enabled, in float32, and its processor."""
    model = load_model(folder, dtype="float32").eval()
    return enable(model), PrunedProcessor.from_pretrained(folder)


def sheet_of(number: int, sides: tuple[int, int], questions: int) -> tuple[pages.Page, list[tasks.Question]]:
    """A held-out page and as many questions for reading as for grounding, drawn from its number alone."""
    rng = random.Random(SEED + number)
    sheet = pages.page(rng, rng.randint(*sides), rng.randint(*sides), "test")
    if rng.random() < 0.1:
        sheet.compressed(rng.randint(80, 95))
    points = [q for q in sheet.questions if q.task == "point"]
    rng.shuffle(points)
    sheet.questions = [q for q in sheet.questions if q.task != "point"]
    return sheet, conversation.choose(sheet, rng, questions) + points[:questions]


def prepare(sheet: pages.Page, variant: Variant, processor: Any) -> tuple[Image.Image, dict[str, Any]]:
    """What is handed to the processor: the image, and the least and most pixels of it where they are not its own."""
    if variant.image == "padded":
        down, across = -sheet.height % 32, -sheet.width % 32
        return Image.fromarray(np.pad(np.asarray(sheet.image), ((0, down), (0, across), (0, 0)), mode="edge")), {}
    if variant.image == "resized":
        spec = ResizeSpec.from_processor(processor.image_processor.to_dict())
        budget = max(4, select(spec.resize(sheet.image), variant.prune).num_kept) * 32 * 32
        return sheet.image, {"size": {"shortest_edge": 1024, "longest_edge": budget}}
    return sheet.image, {}


def kept_of(variant: Variant, processor: Any, image: Image.Image, blocks: int) -> NDArray[np.int32]:
    """The flat indices of the blocks that the model sees of an image of so many blocks."""
    if variant.processor_prune is None:
        return np.arange(blocks, dtype=np.int32)
    pixels = ResizeSpec.from_processor(processor.image_processor.to_dict()).resize(image)
    return select(pixels, variant.processor_prune).kept_indices


def score(
    number: int, ways: list[Variant], folders: dict[str, str], sides: tuple[int, int], questions: int
) -> list[dict[str, Any]]:
    """What each variant answers about one page."""
    torch.set_num_threads(1)
    sheet, asked = sheet_of(number, sides, questions)
    texts = [question.text for question in asked]
    readings: dict[tuple[str, bytes], Reading] = {}
    results = []
    for way in ways:
        model, processor = load(folders[way.model])
        image, sizes = prepare(sheet, way, processor)
        key = (way.model, repr(sizes).encode() + image.tobytes())
        if key not in readings:
            readings[key] = Reading(model, processor, image, texts, **sizes)
        total = readings[key].rows * readings[key].columns
        kept = kept_of(way, processor, image, total)
        answers = readings[key].ask(kept)
        # Points are on the scale of the image that the model saw; padding adds to its right and bottom.
        width, height = image.size if way.image == "padded" else (sheet.width, sheet.height)
        results.append(
            {
                "variant": way.name,
                "page": number,
                "kept": len(kept),
                "total": total,
                "tasks": [q.task for q in asked],
                "right": [tasks.right(q, a, width, height) for q, a in zip(asked, answers, strict=True)],
                "answers": answers,
                "wanted": [q.answer for q in asked],
            }
        )
    return results


def inputs_of(processor: Any, prune: PruneConfig | None, image: Image.Image, text: str, **sizes: Any) -> Any:
    """The processor's output for one question."""
    processor.prune = prune
    return processor(text=[PROMPT.format(text)], images=[image], return_tensors="pt", **sizes)


@torch.inference_mode()
def first_token(model: Any, inputs: Callable[[], Any]) -> float:
    """Seconds from the decoded image to the first token, preprocessing and selection inside.

    Of this process's computing: on one thread what a clock shows, less the waiting for other programs.
    """
    start = time.process_time()
    model(**inputs(), logits_to_keep=1).logits.argmax().item()
    return time.process_time() - start


def clock(
    ways: list[Variant], folders: dict[str, str], sides: tuple[int, int], count: int, rounds: int = 3
) -> dict[str, dict[str, float]]:
    """Time to the first token of each way, on one thread.

    The ways take turns on each page, and the median of their rounds counts.

    Returns:
        For each way, the median over pages in ms, the median over pages of its speed-up over the first way, which sees
        the whole image, and the share of the blocks that it kept of these pages.
    """
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    patches = dict.fromkeys(seconds, 0)
    for number in range(count):
        sheet, asked = sheet_of(number, sides, 1)
        runs = {}
        for way in ways:
            model, processor = load(folders[way.model])
            image, sizes = prepare(sheet, way, processor)
            inputs = partial(inputs_of, processor, way.processor_prune, image, asked[0].text, **sizes)
            patches[way.name] += len(inputs()["pixel_values"])
            runs[way.name] = partial(first_token, model, inputs)
        turns = [{name: run() for name, run in runs.items()} for _ in range(rounds + 1)]
        for name, each in seconds.items():
            each.append(statistics.median(turn[name] for turn in turns[1:]))  # the first one warms up
    whole = ways[0].name
    return {
        name: {
            "first_token_ms": statistics.median(each) * 1e3,
            "speedup": statistics.median(w / s for w, s in zip(seconds[whole], each, strict=True)),
            "timed_kept": patches[name] / patches[whole],
        }
        for name, each in seconds.items()
    }


def answer_all(args: argparse.Namespace, ways: list[Variant], folders: dict[str, str]) -> None:
    """Ask what was not asked before; answers are added to the file page by page."""
    answers = args.out / "answers.jsonl"
    done = {(r["variant"], r["page"]) for r in map(json.loads, answers.open())} if answers.exists() else set()
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool, answers.open("a") as file:
        jobs = [
            pool.submit(score, number, missing, folders, tuple(args.sides), args.questions)
            for number in range(args.pages)
            if (missing := [way for way in ways if (way.name, number) not in done])
        ]
        for job in jobs:
            file.writelines(json.dumps(result) + "\n" for result in job.result())
            file.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", required=True, help="NAME=FOLDER; one is named base")
    parser.add_argument("--study", choices=list(STUDIES), default="pruning")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pages", type=int, default=360)
    parser.add_argument("--questions", type=int, default=4, help="of a page and group at most")
    parser.add_argument("--sides", type=int, nargs=2, default=(384, 768))
    parser.add_argument("--timed", type=int, default=24, help="pages that are timed")
    parser.add_argument("--only", help="variants whose names contain this")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    args = parser.parse_args()
    folders = dict(pair.split("=", 1) for pair in args.model)
    ways = [way for way in STUDIES[args.study](list(folders)) if not args.only or args.only in way.name]
    args.out.mkdir(parents=True, exist_ok=True)
    answer_all(args, ways, folders)
    if args.timed:
        times = clock(ways, folders, tuple(args.sides), args.timed)
        (args.out / "times.json").write_text(json.dumps({"pages": args.timed, "variants": times}, indent=1))


if __name__ == "__main__":
    main()
