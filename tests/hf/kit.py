"""Tiny sharpened models of every family, real images, and the inputs that the stock processor would make."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText
from transformers.utils import logging

from pixelprune.check.oracle import FullInputs
from pixelprune.check.tiny import build_tiny
from pixelprune.hf import PrunedProcessor, enable
from pixelprune.models.registry import family_of

logging.set_verbosity_error()
logging.disable_progress_bar()

IMAGES = Path(__file__).parents[2] / "examples" / "images"
CROPS = {
    "form": ("tax-form.png", (40, 60, 440, 300)),
    "page": ("docs-page.png", (300, 100, 780, 420)),
    "dark": ("dashboard-dark.png", (200, 0, 560, 360)),
    "chart": ("chart.png", (300, 200, 620, 640)),
    "slide": ("slide.png", (0, 0, 500, 280)),
}
#: Rounding relative to the largest logit, and where a family has more of it: chunked linear attention and routing add
#: up in another order than the oracle does, and GLM's position table is resampled by another function of torch than
#: the oracle's, which moves features by 1e-5 (with equal features, logits differ by 1e-6).
EXACT = 2e-5
TOLERANCE = {"qwen3_5": 2e-4, "qwen3_5_moe": 2e-3, "glm4v": 2e-4, "glm46v": 2e-4, "glm4v_moe": 2e-4}


@cache
def crop(name: str) -> Image.Image:
    """A crop of a real image, small enough for the oracle."""
    file, box = CROPS[name]
    with Image.open(IMAGES / file) as image:
        return image.convert("RGB").crop(box)


@dataclass
class Kit:
    """A family's folder, enabled model, pruned processor and stock image processor."""

    model_type: str
    folder: Path
    model: Any
    processor: Any
    stock: Any

    def text(self, *parts: str) -> str:
        """A prompt: the words given, ``"image"`` for an image placeholder."""
        image = family_of(self.model_type).tokens.hole
        return "<|im_start|>user\n" + "".join(image if p == "image" else p for p in parts) + "<|im_end|>\n"

    def full_inputs(self, text: str, images: list[Image.Image], kept: list[Any]) -> FullInputs:
        """The whole row, with the stock image processor and the tokenizer alone."""
        pixels = self.stock(images=images, return_tensors="pt")
        token = family_of(self.model_type).tokens.image
        for grid in pixels["image_grid_thw"].tolist():
            count = grid[1] * grid[2] // 4
            text = text.replace(token, "<|placeholder|>" * count, 1)
        text = text.replace("<|placeholder|>", token)
        ids = torch.tensor(self.processor.tokenizer(text)["input_ids"])
        kept = [torch.as_tensor(k, dtype=torch.long) for k in kept]
        return FullInputs(ids, pixels["pixel_values"], pixels["image_grid_thw"], kept)

    def select(self, images: list[Image.Image]) -> list[Any]:
        """What the processor keeps of each image."""
        batch = self.processor.image_processor(images=images)
        return [chosen.kept_indices for chosen in batch["pixelprune_selections"]]


def make_kit(model_type: str, folder: Path) -> Kit:
    build_tiny(folder, model_type)
    model = enable(AutoModelForImageTextToText.from_pretrained(folder).eval())
    processor = PrunedProcessor.from_pretrained(folder, size={"shortest_edge": 3136, "longest_edge": 1 << 20})
    stock = AutoImageProcessor.from_pretrained(folder, size={"shortest_edge": 3136, "longest_edge": 1 << 20})
    return Kit(model_type, folder, model, processor, stock)
