"""The main job on real images: drop redundant blocks, see what is kept, run a model on what is left.

`make demo` runs this. The model has the real Qwen3-VL architecture, 6 + 6 layers of random weights: it shows speed
and equality, not understanding. For answers, name a real model: `pixelprune ask page.png "Total?" --model ...`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.utils import logging

from pixelprune import PruneConfig, select
from pixelprune.hf import PrunedProcessor, enable, oracle
from pixelprune.hf.tiny import build_tiny, sharpen
from pixelprune.images import open_image
from pixelprune.resize import ResizeSpec
from pixelprune.viz import overlay

IMAGES = Path(__file__).parent / "images"
OUT = Path("out")
TIMED = ("docs-page.png", "application-form.png")
STEPS = 4
PROMPT = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What does it say?<|im_end|>\n<|im_start|>assistant\n"
)

console = Console(highlight=False)


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    show_what_is_kept()
    model, processor = build_model()
    right = compare(model, processor)
    console.print("\nThe images are real, the model's weights are random. Ask a real one:")
    console.print('  .venv/bin/pixelprune ask page.png "Total?" --model Qwen/Qwen3-VL-2B-Instruct', style="bold")
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


def build_model() -> tuple[Any, Any]:
    """A Qwen3-VL of 6 + 6 layers with random weights, and a processor for it."""
    with tempfile.TemporaryDirectory() as folder:
        build_tiny(folder, "qwen3_vl", weights=False)
        processor = PrunedProcessor.from_pretrained(folder)
        tiny = AutoConfig.from_pretrained(folder)
    vision = {"depth": 6, "hidden_size": 128, "intermediate_size": 512, "num_heads": 4, "out_hidden_size": 512}
    text = {"num_hidden_layers": 6, "hidden_size": 512, "intermediate_size": 1536, "head_dim": 64}
    text |= {"num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": tiny.text_config.vocab_size}
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [12, 10, 10], "mrope_interleaved": True}
    config = AutoConfig.for_model(
        "qwen3_vl",
        vision_config={**vision, "deepstack_visual_indexes": [1, 3, 5]},
        text_config={**text, "rope_parameters": rope, "eos_token_id": None},
        image_token_id=tiny.image_token_id,
        vision_start_token_id=tiny.vision_start_token_id,
        vision_end_token_id=tiny.vision_end_token_id,
    )
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    return enable(sharpen(model, scale=0.06)), processor


def compare(model: Any, processor: Any) -> bool:
    """Whole against pruned, from the image to the first token; and pruned against the oracle."""
    table = Table(
        "image",
        title="2. A Qwen3-VL of 6 + 6 layers on this CPU, from image to first token",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in ("blocks", "kept", "whole", "pruned", "speed-up", "as the oracle"):
        table.add_column(column, justify="right")
    right = True
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
        right = right and same
        table.add_row(
            name,
            str(report.total),
            f"{report.kept} ({report.retain_ratio:.0%})",
            f"{whole:.2f} s",
            f"{pruned:.2f} s",
            f"{whole / pruned:.1f}x",
            f"yes, {STEPS} tokens" if same else "NO",
        )
    console.print(table)
    return right


def first_token(model: Any, processor: Any, image: Image.Image, prune: PruneConfig | None) -> float:
    """Seconds from the decoded image to the first token, preprocessing and selection inside."""
    processor.prune = prune
    start = time.perf_counter()
    inputs = processor(text=[PROMPT], images=[image], return_tensors="pt")
    with torch.inference_mode():
        model(**inputs, logits_to_keep=1).logits.argmax().item()
    return time.perf_counter() - start


def equals_oracle(model: Any, processor: Any, image: Image.Image) -> bool:
    """Greedy tokens of the pruned model and of a slow twin that shares no code with it."""
    processor.prune = PruneConfig()
    inputs = processor(text=[PROMPT], images=[image], return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    kept = processor.image_processor(images=[image])["pixelprune_selections"][0].selection.kept_indices
    processor.prune = None
    whole = processor(text=[PROMPT], images=[image], return_tensors="pt")
    full = oracle.FullInputs(
        whole["input_ids"][0], whole["pixel_values"], whole["image_grid_thw"], [torch.from_numpy(kept).long()]
    )
    return answer.tolist() == oracle.generate(model, full, STEPS)


if __name__ == "__main__":
    main()
