"""The proof: the same held-out questions asked of whole pages, of pruned ones, and of the rivals' images.

    python -m recipes.tiny_reader.evaluate --model base=OUT/reader --model tuned=OUT/tuned --pages 360 --out OUT/proof

Pages are of any size and set in fonts that no model was trained on. Answers come from the stock ``generate`` of an
enabled model, greedily; several questions about a page share its encoded image. Killed and started again, it goes on.
`recipes.tiny_reader.table` prints what was measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pixelprune import PruneConfig
from pixelprune.hf import PrunedProcessor, enable
from pixelprune.hf.chat import load_model
from pixelprune.hf.enable import set_rope_deltas
from pixelprune.hf.encode import encode_kept
from pixelprune.hf.kept import KEPT
from pixelprune.models.registry import family_of
from pixelprune.models.resize import ResizeSpec

from . import conversation, pages, tasks

SEED = 77_000_000
Known = dict[bytes, list[str]]  # answers by digest of what was asked
Asked = tuple[list[str], int, int]  # answers, blocks kept, blocks there were
PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Variant:
    """One way of asking: which model, how its image is pruned, and what is done to the image before."""

    name: str
    model: str
    prune: PruneConfig | None
    image: str = "as it is"  # "resized": to as many tokens as pred2d keeps at 0; "padded": to whole blocks


def variants(models: list[str]) -> list[Variant]:
    """All ways, given the models at hand: ``base``, and what was trained on from it."""
    ways = [Variant("whole", "base", None)]
    for method in ("pred2d", "raster", "adaptive"):
        for threshold in (0.0, 0.02, 0.05):
            ways.append(Variant(f"{method} {threshold:g}", "base", PruneConfig(method, threshold=threshold)))  # type: ignore[arg-type]
    ways.append(Variant("pred2d 0, padded", "base", PruneConfig(), "padded"))
    ways.append(Variant("random, as many blocks", "base", PruneConfig("random")))
    ways.append(Variant("resized to as many tokens", "base", None, "resized"))
    for model in models:
        if model != "base":
            ways.append(Variant(f"whole, {model}", model, None))
            for threshold in (0.0, 0.02, 0.05):
                ways.append(Variant(f"pred2d {threshold:g}, {model}", model, PruneConfig(threshold=threshold)))
            ways.append(Variant(f"adaptive 0, {model}", model, PruneConfig("adaptive")))
            ways.append(Variant(f"pred2d 0, padded, {model}", model, PruneConfig(), "padded"))
    return ways


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


def prepare(sheet: pages.Page, variant: Variant, processor: Any) -> Image.Image:
    """The image that is handed to the processor."""
    if variant.image == "padded":
        down, across = -sheet.height % 32, -sheet.width % 32
        return Image.fromarray(np.pad(np.asarray(sheet.image), ((0, down), (0, across), (0, 0)), mode="edge"))
    if variant.image == "resized":
        spec = ResizeSpec.from_processor(processor.image_processor.to_dict())
        processor.prune = PruneConfig()
        processor(text=[PROMPT.format("")], images=[sheet.image])
        budget = max(4, processor.last_report[0].kept) * 32 * 32
        small = ResizeSpec(spec.patch_size, spec.merge_size, 1024, budget)
        return Image.fromarray(small.resize(sheet.image))
    return sheet.image


def inputs_of(processor: Any, variant: Variant, image: Image.Image, texts: list[str]) -> Any:
    processor.prune = variant.prune
    sizes = {"size": {"shortest_edge": 1024, "longest_edge": 1280 * 1280}} if variant.image == "resized" else {}
    prompts = [PROMPT.format(text) for text in texts]
    return processor(text=prompts, images=[image] * len(texts), padding=True, return_tensors="pt", **sizes)


@torch.inference_mode()
def ask(model: Any, processor: Any, variant: Variant, image: Image.Image, texts: list[str], known: Known) -> Asked:
    """Answers to questions about one image, the blocks encoded and the blocks there were.

    Inputs that the same model has answered before, as of two settings that keep the same blocks, are not run again.
    """
    inputs = inputs_of(processor, variant, image, texts)
    report = processor.last_report[0]
    parts = [variant.model.encode(), *(inputs[n].numpy().tobytes() for n in sorted(inputs))]
    key = hashlib.sha256(b"".join(parts)).digest()
    if key not in known:
        if variant.prune is not None:
            share_image(model, processor, inputs, len(texts))
        start = inputs["input_ids"].shape[1]
        output = model.generate(**inputs, max_new_tokens=48, do_sample=False)
        known[key] = processor.batch_decode(output[:, start:], skip_special_tokens=True)
    return known[key], report.kept, report.total


def share_image(model: Any, processor: Any, inputs: Any, rows: int) -> None:
    """Encode the image once and hand its features to every row."""
    base, grid = model.base_model, inputs["image_grid_thw"]
    inputs["position_ids"] = processor.position_ids(inputs)
    pixels, kept = inputs.pop("pixel_values"), inputs.pop(KEPT)[0]
    inputs.pop("image_grid_thw")
    family = family_of(model.config.model_type)
    indices = kept[kept > 0].numpy() - 1
    encoded = encode_kept(base.visual, family, pixels[: len(pixels) // rows], grid[:1], [indices])
    encoded.pooler_output = encoded.pooler_output * rows
    encoded.deepstack_features = [layer * rows for layer in encoded.deepstack_features]
    inputs["mm_encoder_outputs"] = {"image": encoded}
    set_rope_deltas(base, inputs["position_ids"])


def score(
    number: int, ways: list[Variant], folders: dict[str, str], sides: tuple[int, int], questions: int
) -> list[dict[str, Any]]:
    """What each variant answers about one page."""
    torch.set_num_threads(1)
    sheet, asked = sheet_of(number, sides, questions)
    known: Known = {}
    results = []
    for way in ways:
        model, processor = load(folders[way.model])
        image = prepare(sheet, way, processor)
        answers, kept, total = ask(model, processor, way, image, [q.text for q in asked], known)
        # Points are on the scale of the image that the model saw; padding adds to its right and bottom.
        width, height = image.size if way.image == "padded" else (sheet.width, sheet.height)
        results.append(
            {
                "variant": way.name,
                "page": number,
                "kept": kept,
                "total": total,
                "tasks": [q.task for q in asked],
                "right": [tasks.right(q, a, width, height) for q, a in zip(asked, answers, strict=True)],
                "answers": answers,
                "wanted": [q.answer for q in asked],
            }
        )
    return results


@torch.inference_mode()
def first_token(model: Any, processor: Any, variant: Variant, image: Image.Image, text: str) -> float:
    """Seconds from the decoded image to the first token, preprocessing and selection inside."""
    start = time.perf_counter()
    model(**inputs_of(processor, variant, image, [text]), logits_to_keep=1).logits.argmax().item()
    return time.perf_counter() - start


def clock(ways: list[Variant], folders: dict[str, str], sides: tuple[int, int], count: int) -> dict[str, Any]:
    """Median time to the first token of each way, and the median over pages of its speed-up over the whole image."""
    torch.set_num_threads(2)
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(-1, count):  # the first one warms up
        sheet, asked = sheet_of(max(number, 0), sides, 1)
        for way in ways:
            model, processor = load(folders[way.model])
            image = prepare(sheet, way, processor)
            seconds = min(first_token(model, processor, way, image, asked[0].text) for _ in range(2))
            if number >= 0:
                times[way.name].append(seconds)
    whole = times["whole"]
    return {
        name: {
            "first_token_ms": statistics.median(each) * 1e3,
            "speedup": statistics.median(w / s for w, s in zip(whole, each, strict=True)),
        }
        for name, each in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", required=True, help="NAME=FOLDER; one is named base")
    parser.add_argument("--pages", type=int, default=360)
    parser.add_argument("--questions", type=int, default=4, help="of a page and group at most")
    parser.add_argument("--sides", type=int, nargs=2, default=(384, 768))
    parser.add_argument("--timed", type=int, default=24, help="pages that are timed")
    parser.add_argument("--only", help="variants whose names contain this")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    args = parser.parse_args()
    folders = dict(pair.split("=", 1) for pair in args.model)
    ways = [way for way in variants(list(folders)) if not args.only or args.only in way.name]
    args.out.mkdir(parents=True, exist_ok=True)
    answers = args.out / "answers.jsonl"
    done = {(r["variant"], r["page"]) for r in map(json.loads, answers.open())} if answers.exists() else set()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool, answers.open("a") as file:
        jobs = [
            pool.submit(score, number, missing, folders, tuple(args.sides), args.questions)
            for number in range(args.pages)
            if (missing := [way for way in ways if (way.name, number) not in done])
        ]
        for job in jobs:
            file.writelines(json.dumps(result) + "\n" for result in job.result())
            file.flush()
    if args.timed:
        (args.out / "times.json").write_text(json.dumps(clock(ways, folders, tuple(args.sides), args.timed), indent=1))


if __name__ == "__main__":
    main()
