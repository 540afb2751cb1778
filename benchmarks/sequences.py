"""Sequences of images: tokens with references, what selecting them costs, preprocessing, and the first token.

Each argument is one sequence: a folder of numbered images, or a PDF, whose pages it is (``examples/history``).
``alone`` prunes each image by itself; ``previous``, ``first+previous`` and ``any`` also drop the blocks that these
earlier images show. Sequences of screens are measured again as JPEG: at one quality, and with two taking turns.

With ``--prefill`` a Qwen3-VL of random weights reads the first images of each sequence in one prompt: ``whole``;
``alone``; ``previous``; and ``dense``, images of noise of as many blocks as ``previous`` keeps of each, the bound that
pruning could reach if it cost nothing. Times go from the decoded images to the first token, and are of computing: those
of all threads together, so that other programs hardly count.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import common
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelprune import PruneConfig, select, select_sequence
from pixelprune.core.config import REFERENCES, References
from pixelprune.core.frames import frame_files
from pixelprune.core.images import open_images
from pixelprune.core.sequence import SequenceSelector
from pixelprune.models.resize import ResizeSpec

SCREENS = Path(__file__).parents[1] / "examples" / "history"
UNRELATED = ("docs-page.png", "dashboard-dark.png")  # two screens of one size that have nothing to do with each other
TOKENS = {
    "sequence": "{name}",
    "images": "{images}",
    "blocks": "{blocks}",
    "alone": "{alone}",
    **{name: "{" + name + "} ({" + name + "_share:.1%} of alone)" for name in REFERENCES[1:]},
}
TIMES = {
    "sequence": "{name}",
    "images": "{images}",
    "alone, ms": "{alone_ms:.1f}",
    "previous, ms": "{previous_ms:.1f}",
    "added, ms a later image": "{added_ms:.2f}",
    "copying an image, ms": "{copy_ms:.2f}",
    "added, copies": "{added_copies:.1f}",
}
AGENT = {
    "sequence": "{name}",
    "an agent sends": "{history}",
    "whole": "{whole:.0f}",
    "alone": "{none:.0f}",
    "previous": "{previous:.0f}",
    "first+previous": "{first+previous:.0f}",
}
PREPROCESSING = {
    "sequence": "{name}",
    "images": "{images}",
    "stock, ms": "{stock_ms:.0f}",
    "alone, ms": "{alone_ms:.0f}",
    "previous, ms": "{previous_ms:.0f}",
}
PREFILL = {
    "sequence": "{name}",
    "images": "{images}",
    "blocks": "{blocks}",
    "alone": "{alone} ({alone_share:.1%})",
    "previous": "{previous} ({previous_share:.1%})",
    "whole, ms": "{whole_ms:.0f}",
    "alone, ms": "{alone_ms:.0f}",
    "previous, ms": "{previous_ms:.0f}",
    "dense, ms": "{dense_ms:.0f}",
    "previous over whole": "{speedup:.2f}",
    "over alone": "{over_alone:.2f}",
    "efficiency": "{efficiency:.2f}",
}


def main(arguments: list[str] | None = None) -> None:
    options = common.parser(__doc__, repeats=5)
    options.add_argument("--pages", type=int, default=32, metavar="N", help="at most, of each sequence (%(default)s)")
    options.add_argument(
        "--prefill", type=int, default=0, metavar="N", help="the first N images in a model (%(default)s)"
    )
    options.add_argument("--shape", choices=("tiny", "small"), default="tiny", help="the model's size (%(default)s)")
    options.add_argument("--threads", type=int, metavar="N", help="CPU threads of torch (its own choice)")
    args = options.parse_args(arguments)
    facts = common.machine()
    print(common.machine_line(facts), flush=True)

    sequences = [(name, images[: args.pages]) for name, images in map(load, args.images or [SCREENS])]
    tokens = [count(name, images) for name, images in sequences]
    for name, images in ((name, images) for name, images in sequences if not name.endswith(".pdf")):
        tokens.append(count(f"{name}, JPEG of quality 90", [as_jpeg(image, 90) for image in images]))
        turns = [as_jpeg(image, 90 if number % 2 else 85) for number, image in enumerate(images)]
        for threshold in (0.0, 0.02, 0.05):
            label = f"{name}, JPEG of quality 85 and 90 in turn, threshold {threshold:g}"
            tokens.append(count(label, turns, threshold))
    unrelated = [image for name in UNRELATED for _, image in open_images(common.EXAMPLES / name)]
    tokens.append(count("unrelated screens", unrelated))
    print("\nBlocks kept of all images of a sequence, threshold 0 unless said\n")
    print(common.table(tokens, TOKENS), flush=True)

    agents = [row for name, images in sequences if len(images) > 1 for row in windows(name, images)]
    print("\nTokens of an agent's screens to prefill at a step beside a perfect prefix cache, mean of all steps\n")
    print(common.table(agents, AGENT), flush=True)

    times = [selecting(name, images, args.repeats) for name, images in sequences]
    print(f"\nSelecting, one core, median of {args.repeats} interleaved runs\n")
    print(common.table(times, TIMES), flush=True)

    preprocessing, prefill = [], []
    if args.prefill:
        bench = Bench(args)
        for name, images in sequences:
            preprocessing.append(bench.preprocess(name, images[: args.prefill], args.repeats))
            prefill.append(bench.measure(name, images[: args.prefill], args.repeats))
        print(
            f"\nPreprocessing, decoded images to tensors, ms of computing, median of {args.repeats} interleaved runs\n"
        )
        print(common.table(preprocessing, PREPROCESSING))
        print(
            f"\nFirst token: Qwen3-VL {args.shape}, {bench.parameters / 1e6:.0f} M random parameters, float32, "
            f"CPU, ms of computing, median of {args.repeats} interleaved runs\n"
        )
        print(common.table(prefill, PREFILL))
    common.save(
        args.json, facts, tokens=tokens, agent=agents, selecting=times, preprocessing=preprocessing, prefill=prefill
    )


def load(path: Path) -> tuple[str, list[Image.Image]]:
    """A sequence by its name: a folder's images in the order of their numbers, or a file's pages."""
    files = frame_files(path) if path.is_dir() else [path]
    return path.name, [image for file in files for _, image in open_images(file)]


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image as it is after it was saved as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def resized(images: list[Image.Image]) -> list[NDArray[np.uint8]]:
    """As Qwen3-VL sees them."""
    spec = ResizeSpec.for_model("qwen3_vl")
    return [spec.resize(image) for image in images]


def count(name: str, images: list[Image.Image], threshold: float = 0.0) -> dict[str, Any]:
    """Blocks kept of a sequence, by its references."""
    pixels, config = resized(images), PruneConfig(threshold=threshold)
    kept = {each: select_sequence(pixels, config, references=each) for each in REFERENCES}
    alone = kept["none"].num_kept
    return {
        "name": name,
        "threshold": threshold,
        "images": len(images),
        "blocks": kept["none"].num_blocks,
        "alone": alone,
        **{each: kept[each].num_kept for each in REFERENCES[1:]},
        **{f"{each}_share": kept[each].num_kept / alone for each in REFERENCES[1:]},
        "per_image": {each: [len(indices) for indices in kept[each].kept_indices] for each in REFERENCES},
    }


#: What an agent sends at each step, by its name: the numbers of the screens, from the number of the latest.
HISTORIES: dict[str, Callable[[int], list[int]]] = {
    "the latest alone": lambda latest: [latest],
    "sliding window of 5": lambda latest: list(range(max(0, latest - 4), latest + 1)),
    "the first and the latest 4": lambda latest: sorted({0, *range(max(0, latest - 3), latest + 1)}),
    "grows to 8, then cut to 4": lambda latest: list(range(max(0, (latest - 4) // 4 * 4), latest + 1)),
    "all": lambda latest: list(range(latest + 1)),
}
SENT = ("whole", "none", "previous", "first+previous")


def windows(name: str, images: list[Image.Image]) -> list[dict[str, Any]]:
    """Tokens per step of an agent that sends such histories: what a prompt has after the images that it shares, with
    the same kept blocks, with the start of the prompt before."""
    pixels = resized(images)
    rows = []
    for label, history in HISTORIES.items():
        row: dict[str, Any] = {"name": name, "history": label}
        for sent in SENT:
            before: list[tuple[int, bytes, int]] = []
            new = 0
            for latest in range(len(pixels)):
                prompt = _prompt_of(pixels, history(latest), sent)
                shared = next((i for i, (a, b) in enumerate(zip(prompt, before, strict=False)) if a != b), None)
                new += sum(count for *_, count in prompt[min(len(prompt), len(before)) if shared is None else shared :])
                before = prompt
            row[sent] = new / len(pixels)
        rows.append(row)
    return rows


def _prompt_of(pixels: list[NDArray[np.uint8]], numbers: list[int], sent: str) -> list[tuple[int, bytes, int]]:
    """Per image of a prompt its number, what is kept, and its tokens."""
    shown = [pixels[number] for number in numbers]
    if sent == "whole":
        return [(number, b"", image.size // (3 * 32 * 32)) for number, image in zip(numbers, shown, strict=True)]
    chosen = select_sequence(shown, PruneConfig(references=cast(References, sent)))
    return [(n, kept.tobytes(), len(kept)) for n, kept in zip(numbers, chosen.kept_indices, strict=True)]


def selecting(name: str, images: list[Image.Image], repeats: int) -> dict[str, Any]:
    """Milliseconds of selecting a sequence, and what references add, in copies of an image of it."""
    pixels, config = resized(images), PruneConfig(references="previous")

    def with_references() -> None:
        selector = SequenceSelector(config)
        for image in pixels:
            selector.add(image)

    def copied() -> None:  # one at a time, so that memory is reused as it is where images are copied
        for image in pixels:
            image.copy()

    times = common.interleaved(
        {
            "alone": lambda: [select(image) for image in pixels],
            "previous": with_references,
            "copy": copied,
        },
        repeats,
    )
    # Images of another size than the one before have no reference.
    later = sum(a.shape == b.shape for a, b in pairwise(pixels))
    added, copy = (times["previous"] - times["alone"]) / max(1, later), times["copy"] / len(pixels)
    return {
        "name": name,
        "images": len(pixels),
        "alone_ms": times["alone"],
        "previous_ms": times["previous"],
        "added_ms": added,
        "copy_ms": copy,
        "added_copies": added / copy,
    }


class Bench:
    """The model and the processors of ``prefill.py``, with several images in a prompt."""

    def __init__(self, args: argparse.Namespace) -> None:
        import prefill
        import torch

        if args.threads:
            torch.set_num_threads(args.threads)
        settings = {"device": "cpu", "dtype": "float32", "attn": "sdpa", "threshold": 0.0, "shape": args.shape}
        self._bench, self._noise = prefill.Bench(argparse.Namespace(**settings)), prefill.noise
        self.parameters = self._bench.parameters

    def measure(self, name: str, images: list[Image.Image], repeats: int) -> dict[str, Any]:
        """All variants of one sequence, taking turns."""
        counts = {each: self._counts(images, each) for each in ("none", "previous")}
        dense = [self._noise(kept, self._bench.block) for kept in counts["previous"]]
        first_token = self._bench.first_token
        variants: dict[str, Callable[[], int]] = {
            "whole": lambda: first_token(self._stock(self._bench.stock, images)),
            "alone": lambda: first_token(self._pruned(images, "none")),
            "previous": lambda: first_token(self._pruned(images, "previous")),
            "dense": lambda: first_token(self._stock(self._bench.small, dense)),
        }
        times = common.interleaved(variants, repeats, time.process_time)
        alone, previous = sum(counts["none"]), sum(counts["previous"])
        blocks = sum(report.total for report in self._bench.pruned.last_report)
        return {
            "name": name,
            "images": len(images),
            "blocks": blocks,
            "alone": alone,
            "alone_share": alone / blocks,
            "previous": previous,
            "previous_share": previous / blocks,
            "dense_blocks": sum(image.width * image.height // self._bench.block**2 for image in dense),
            **{f"{variant}_ms": times[variant] for variant in variants},
            "speedup": times["whole"] / times["previous"],
            "over_alone": times["alone"] / times["previous"],
            "efficiency": times["dense"] / times["previous"],
        }

    def preprocess(self, name: str, images: list[Image.Image], repeats: int) -> dict[str, Any]:
        """Decoded images to tensors."""
        times = common.interleaved(
            {
                "stock": lambda: self._bench.stock(images=images, return_tensors="pt"),
                "alone": lambda: self._pruned(images, "none"),
                "previous": lambda: self._pruned(images, "previous"),
            },
            repeats,
            time.process_time,
        )
        return {"name": name, "images": len(images), **{f"{variant}_ms": time for variant, time in times.items()}}

    def _prompt(self, count: int) -> str:
        content = [{"type": "image"}] * count + [{"type": "text", "text": "What has changed?"}]
        text: str = self._bench.pruned.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return text

    def _pruned(self, images: list[Image.Image], references: str) -> dict[str, Any]:
        prompt = self._prompt(len(images))
        return dict(self._bench.pruned(text=[prompt], images=images, references=references, return_tensors="pt"))

    def _counts(self, images: list[Image.Image], references: str) -> list[int]:
        self._pruned(images, references)
        return [report.kept for report in self._bench.pruned.last_report]

    def _stock(self, processor: Any, images: list[Image.Image]) -> dict[str, Any]:
        """What the stock processor makes of prompt and images (written out: it wants torchvision to be loaded)."""
        inputs = processor(images=images, return_tensors="pt")
        token, text = self._bench.pruned.image_token, self._prompt(len(images))
        first, *others = text.split(token)
        blocks = (inputs["image_grid_thw"].prod(-1) // processor.merge_size**2).tolist()
        text = first + "".join(token * n + rest for n, rest in zip(blocks, others, strict=True))
        encoded = self._bench.pruned.tokenizer(text, return_tensors="pt")
        types = (encoded["input_ids"] == self._bench.pruned.image_token_id).long()
        return {**encoded, **inputs, "mm_token_type_ids": types}


if __name__ == "__main__":
    common.run(main)
