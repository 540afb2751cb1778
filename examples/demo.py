"""The main job on real images: drop redundant blocks, see what is kept, run a model on what is left.

`make demo` runs this. The model is the bundled reader, a small Qwen3-VL. It reads pages like those that it was trained
on; on real ones of full size it shows speed and equality. To have these read, name a real model:
`pixelprune ask page.png "Total?" --model ...`.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

from pixelprune import PruneConfig, reader, select
from pixelprune.check import oracle
from pixelprune.core.images import open_image
from pixelprune.hf import PrunedProcessor, enable
from pixelprune.models.resize import ResizeSpec
from pixelprune.viz import overlay

IMAGES = Path(__file__).parent / "images"
PAGES = Path(__file__).parent / "pages"
OUT = Path("out")
TIMED = ("docs-page.png", "application-form.png")
FULL_SIZE = {"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096}  # pixels
STEPS = 4
PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
QUESTION = PROMPT.format("What does it say?")

console = Console(highlight=False)


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    show_what_is_kept()
    model, processor = load_reader()
    right = compare(model, processor)
    answer_questions(model, processor)
    console.print("\nAsk it yourself, or a real model about any page:")
    console.print("  .venv/bin/pixelprune ask examples/pages/page-1.png 'QUESTION'", style="bold")
    console.print("  .venv/bin/pixelprune ask page.png 'Total?' --model Qwen/Qwen3-VL-2B-Instruct", style="bold")
    if not right:
        raise SystemExit("pruned and oracle differ: run `pixelprune doctor`")


def show_what_is_kept() -> None:
    """Select blocks of every example image and write overlays."""
    (OUT / "overlays").mkdir(parents=True, exist_ok=True)
    spec, config = ResizeSpec.for_model("qwen3_vl"), PruneConfig()
    select(np.zeros((32, 32, 3), np.uint8), config)  # load the compiled kernels
    table = Table(
        "image", title="1. What is kept (pred2d, threshold 0: exact)", title_justify="left", box=None, pad_edge=False
    )
    for column in ("resized", "blocks", "kept", "retained", "selection"):
        table.add_column(column, justify="right")
    for path in sorted(p for p in IMAGES.iterdir() if p.suffix in (".png", ".jpg")):
        pixels = spec.resize(open_image(path))
        start = time.perf_counter()
        selection = select(pixels, config, block_size=spec.block_size)
        elapsed = (time.perf_counter() - start) * 1e3
        assert np.array_equal(selection.reconstruct(pixels), pixels), (
            "at threshold 0 the kept blocks are the whole image"
        )
        overlay(pixels, selection, config).save(OUT / "overlays" / f"{path.stem}.png")
        table.add_row(
            path.name,
            f"{pixels.shape[1]}x{pixels.shape[0]}",
            str(selection.num_blocks),
            str(selection.num_kept),
            f"{selection.retain_ratio:.1%}",
            f"{elapsed:.1f} ms",
        )
    console.print(table)
    console.print(f"Each rebuilt exactly from its kept blocks. Overlays: {OUT / 'overlays'}\n")


def load_reader() -> tuple[Any, Any]:
    """The bundled reader, a small Qwen3-VL that was trained on generated pages, and its processor."""
    folder = reader.path()
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return enable(model), PrunedProcessor.from_pretrained(folder)


def compare(model: Any, processor: Any) -> bool:
    """Whole against pruned, from the image to the first token; and pruned against the oracle."""
    table = Table(
        "image",
        title="2. The bundled reader on real pages of full size, on this CPU, from image to first token",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in ("blocks", "kept", "whole", "pruned", "speed-up", "as the oracle"):
        table.add_column(column, justify="right")
    right = True
    sizes = processor.image_processor.size
    processor.image_processor.size = FULL_SIZE
    for name in TIMED:
        image = open_image(IMAGES / name)
        first_token(model, processor, image.resize((320, 320)), None)  # warm up
        times = [
            (first_token(model, processor, image, None), first_token(model, processor, image, PruneConfig()))
            for _ in range(3)
        ]
        whole, pruned = (statistics.median(column) for column in zip(*times, strict=True))
        report = processor.last_report[0]
        same = equals_oracle(model, processor, image)
        right = right and same > 0
        table.add_row(
            name,
            str(report.total),
            f"{report.kept} ({report.retain_ratio:.0%})",
            f"{whole:.2f} s",
            f"{pruned:.2f} s",
            f"{whole / pruned:.1f}x",
            f"yes, {same} tokens" if same else "NO",
        )
    processor.image_processor.size = sizes
    console.print(table)
    return right


def answer_questions(model: Any, processor: Any) -> None:
    """Questions about pages that the reader has never seen: the answers from the whole and from the pruned page."""
    table = Table(
        "page",
        "question",
        "whole",
        "pruned",
        title="\n3. The bundled reader on pages that it has never seen (wrong answers in red)",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("kept", justify="right")
    for row in json.loads((PAGES / "questions.json").read_text()):
        image = open_image(PAGES / row["image"])
        answers = []
        for prune in (None, PruneConfig()):
            processor.prune = prune
            inputs = processor(text=[PROMPT.format(row["question"])], images=[image], return_tensors="pt")
            output = model.generate(**inputs, max_new_tokens=40)[0, inputs["input_ids"].shape[1] :]
            answers.append(processor.tokenizer.decode(output, skip_special_tokens=True))
        report = processor.last_report[0]
        shown = [
            Text(answer.removeprefix('{"point_2d": ').removesuffix("}"), "" if is_right(row, answer, image) else "red")
            for answer in answers
        ]
        table.add_row(row["image"], row["question"], *shown, f"{report.kept} of {report.total}")
    console.print(table)


def is_right(row: dict[str, Any], answer: str, image: Image.Image) -> bool:
    """The same words; or a point, on a scale of 0 to 1000, inside the element's box."""
    if "box" not in row:
        return bool(answer == row["answer"])
    point = re.findall(r"\d+", answer.partition(":")[2])
    if len(point) != 2:
        return False
    x, y = int(point[0]) * image.width / 1000, int(point[1]) * image.height / 1000
    left, top, right, bottom = row["box"]
    return bool(left <= x <= right and top <= y <= bottom)


def first_token(model: Any, processor: Any, image: Image.Image, prune: PruneConfig | None) -> float:
    """Seconds from the decoded image to the first token, preprocessing and selection inside."""
    processor.prune = prune
    start = time.perf_counter()
    inputs = processor(text=[QUESTION], images=[image], return_tensors="pt")
    with torch.inference_mode():
        model(**inputs, logits_to_keep=1).logits.argmax().item()
    return time.perf_counter() - start


def equals_oracle(model: Any, processor: Any, image: Image.Image) -> int:
    """The number of greedy tokens, at most ``STEPS``, that the pruned model and a slow twin that shares no code with it
    both give; 0 if they differ."""
    processor.prune = PruneConfig()
    inputs = processor(text=[QUESTION], images=[image], return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    kept = processor.image_processor(images=[image])["pixelprune_selections"][0].kept_indices
    processor.prune = None
    whole = processor(text=[QUESTION], images=[image], return_tensors="pt")
    full = oracle.FullInputs(
        whole["input_ids"][0], whole["pixel_values"], whole["image_grid_thw"], [torch.tensor(kept, dtype=torch.long)]
    )
    # The model may end its answer before; the oracle would continue.
    return len(answer) if answer.tolist() == oracle.generate(model, full, len(answer)) else 0


if __name__ == "__main__":
    main()
