"""Engines on tiny models, prompts with real images, and what the oracle answers."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pixelprune import PruneConfig, select_sequence
from pixelprune.models.family import ImageTokens
from pixelprune.models.registry import FAMILIES, family_of

IMAGES = Path(__file__).parents[2] / "examples" / "images"
HOLE = "<|vision_start|><|image_pad|><|vision_end|>"
STEPS = 24
#: The tiny models answer in bytes, never with one of the special tokens that follow.
BYTES = list(range(256))
BLOCKS = 400  # at most, in an image; small enough for the oracle


@cache
def crop(file: str, *box: int) -> Image.Image:
    """A crop of an example image."""
    with Image.open(IMAGES / file) as image:
        return image.convert("RGB").crop(box or None)


@cache
def margins() -> Image.Image:
    """A page of which only the middle is printed: the last rows and columns of its grid are pruned."""
    page = Image.new("RGB", (640, 512), "white")
    page.paste(crop("docs-page.png", 300, 100, 580, 260), (96, 64))
    return page


@cache
def screen(state: str) -> Image.Image:
    """A part of a screen, with something else at the place of each of these letters."""
    picture = crop("docs-page.png", 300, 100, 620, 340).copy()
    for place, letter in enumerate("abcd"):
        if letter in state:
            picture.paste(
                crop("tax-form.png", 60 + 40 * place, 80, 130 + 40 * place, 120), (20 + 64 * place, 50 * place)
            )
    return picture


def requests(asked: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """As ``LLM.generate`` takes them, from prompts and settings by name."""
    chosen = [(prompt_named(name), settings_named(setting)) for name, setting in asked]
    return [prompt.request(**({} if given is None else {"pixelprune": given})) for prompt, given in chosen]


def in_tokens_of(model_type: str, text: str) -> str:
    """A prompt with a family's special tokens in place of Qwen's."""
    tokens = FAMILIES[model_type].tokens if model_type in FAMILIES else ImageTokens()
    qwen = ImageTokens()
    for name in ("start", "image", "end"):
        text = text.replace(getattr(qwen, name), getattr(tokens, name))
    return text


@dataclass(frozen=True)
class Prompt:
    """A text with a hole per image."""

    text: str
    images: tuple[Image.Image, ...]

    def request(self, **settings: Any) -> dict[str, Any]:
        """As ``LLM.generate`` takes it; without settings it says nothing about pruning."""
        prompt = {"prompt": self.text, "multi_modal_data": {"image": list(self.images)}}
        return {**prompt, "mm_processor_kwargs": settings} if settings else prompt


FORM = crop("tax-form.png", 40, 60, 440, 300)
CHART = crop("chart.png", 300, 200, 620, 640)
DARK = crop("dashboard-dark.png", 200, 0, 560, 360)
PROMPTS = {
    "one": Prompt(f"<|im_start|>user\n{HOLE}What is the total?<|im_end|>\n<|im_start|>assistant\n", (FORM,)),
    "two": Prompt(f"Compare {HOLE} with {HOLE}, please.", (CHART, FORM)),
    "at the end": Prompt(f"What is this? {HOLE}", (DARK,)),
    "ends in the placeholder": Prompt("What is this? <|vision_start|><|image_pad|>", (margins(),)),
    "margins": Prompt(f"{HOLE}Read it aloud.", (margins(),)),
    "long": Prompt("Here is a long story. " * 20 + HOLE + " and so on" * 20, (CHART,)),
}
SETTINGS: dict[str, Any] = {
    "none": None,
    "0": {"threshold": 0},
    "0.02": {"threshold": 0.02},
    "0.05": {"threshold": 0.05},
    "0.05, lattice": {"threshold": 0.05, "lattice": 3},
}

#: Screens in use, one after the other, as an agent sends them: a word is a screen, see :func:`screen`.
HISTORIES = ("a ab", "a ab abc", "ab", "ab abc abcd", "abcd abc ab", "ab a", "a a", "ab abc ab")
REFERRING: dict[str, Any] = {
    "previous": {"references": "previous"},
    "first+previous, 0.02": {"references": "first+previous", "threshold": 0.02},
    "any": {"references": "any"},
}


def prompt_named(name: str) -> Prompt:
    """One of ``PROMPTS``, or a history by its screens."""
    if name in PROMPTS:
        return PROMPTS[name]
    screens = tuple(screen(state) for state in name.split())
    return Prompt("".join(f"Then {HOLE}" for _ in screens) + "What changed?", screens)


def settings_named(name: str) -> dict[str, Any] | None:
    """Of ``SETTINGS`` or ``REFERRING``."""
    return {**SETTINGS, **REFERRING}[name]


@contextlib.contextmanager
def without_llvmlite() -> Iterator[None]:
    """For starting an engine inside this process: vLLM's CPU worker looks into every module and stumbles over
    llvmlite's, which numba has loaded here by then. Its own processes start without."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "llvmlite"}
    try:
        yield
    finally:
        sys.modules.update(hidden)


@dataclass
class Engine:
    """An engine, and the same model in transformers."""

    model_type: str
    folder: Path
    llm: Any

    def wrong(self, got: list[tuple[int, list[int]]], asked: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Which of the prompts and settings (by name) have an answer, or a length of the prompt, that is not the
        oracle's."""
        return [
            (name, setting)
            for (name, setting), answer in zip(asked, got, strict=True)
            if answer != self.twin.answer(name, settings_named(setting), answer[1])
        ]

    def answers(self, requests: list[dict[str, Any]], steps: int = STEPS) -> list[tuple[int, list[int]]]:
        """Per request the number of prompt tokens and the greedy answer."""
        from vllm import SamplingParams

        requests = [{**each, "prompt": in_tokens_of(self.model_type, each["prompt"])} for each in requests]
        params = SamplingParams(temperature=0, max_tokens=steps, ignore_eos=True, allowed_token_ids=BYTES)
        outputs = self.llm.generate(requests, params, use_tqdm=False)
        return [(len(output.prompt_token_ids), list(output.outputs[0].token_ids)) for output in outputs]

    @cached_property
    def twin(self) -> Twin:
        return twin(self.model_type, self.folder)


@dataclass
class Twin:
    """The model in transformers, its stock image processor and its tokenizer."""

    model: Any
    processor: Any
    tokenizer: Any

    def pixels(self, image: Image.Image) -> np.ndarray:
        """The image as the stock processor resizes it."""
        raw = self.processor(images=image, do_rescale=False, do_normalize=False, return_tensors="np")
        ((_, height, width),) = raw["image_grid_thw"].tolist()
        patch = self.processor.patch_size
        rows = np.asarray(raw["pixel_values"]).reshape(height // 2, width // 2, 2, 2, 3, 2, patch, patch)[..., 0, :, :]
        pixels = rows.transpose(0, 2, 5, 1, 3, 6, 4).reshape(height * patch, width * patch, 3)
        return pixels.astype(np.uint8)

    def kept(self, image: Image.Image, settings: dict[str, Any] | None) -> np.ndarray:
        """What the core selects on an image alone; everything without settings."""
        return self.kept_of_row([image], settings)[0]

    def kept_of_row(self, images: Sequence[Image.Image], settings: dict[str, Any] | None) -> list[np.ndarray]:
        """What the core selects on each image of a request; everything without settings."""
        pixels, block = [self.pixels(image) for image in images], 2 * self.processor.patch_size
        if settings is None:
            return [np.arange(image.shape[0] * image.shape[1] // block**2) for image in pixels]
        return list(select_sequence(pixels, PruneConfig(**settings), block_size=block).kept_indices)

    def full_inputs(self, prompt: Prompt, kept: list[np.ndarray]) -> Any:
        from pixelprune.check.oracle import FullInputs

        pixels = self.processor(images=list(prompt.images), return_tensors="pt")
        token = family_of(self.model.config.model_type).tokens.image
        text = in_tokens_of(self.model.config.model_type, prompt.text)
        for grid in pixels["image_grid_thw"].tolist():
            text = text.replace(token, "<|hole|>" * (grid[1] * grid[2] // 4), 1)
        ids = self.tokenizer(text.replace("<|hole|>", token))["input_ids"]
        tensors = [torch.as_tensor(indices, dtype=torch.long) for indices in kept]
        return FullInputs(torch.tensor(ids), pixels["pixel_values"], pixels["image_grid_thw"], tensors)

    def answer(self, name: str, settings: dict[str, Any] | None, given: list[int]) -> tuple[int, list[int]]:
        """The length of the pruned prompt, and the oracle's greedy choice after each beginning of a given answer.

        It is the oracle's own answer if and only if it equals the given one: token by token, the first that differs
        was chosen after the same beginning. So one pass tells what would take a pass per token.
        """
        from pixelprune.check import oracle

        prompt = prompt_named(name)
        inputs = self.full_inputs(prompt, self.kept_of_row(prompt.images, settings))
        dropped = int(oracle.dropped_tokens(inputs, self.model.config.image_token_id).sum())
        inputs.input_ids, length = torch.cat([inputs.input_ids, torch.tensor(given)]), len(inputs.input_ids) - dropped
        with torch.no_grad():
            logits = oracle.logits(self.model, inputs)
        return length, logits[length - 1 : -1, : len(BYTES)].argmax(-1).tolist()


@cache
def twin(model_type: str, folder: Path) -> Twin:
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    size = options(folder)["mm_processor_kwargs"]["size"]
    return Twin(model, AutoImageProcessor.from_pretrained(folder, size=size), tokenizer)


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    """What all engines of the tests have in common."""
    family = FAMILIES.get(folder.name, FAMILIES["qwen3_vl"])
    patch = family.images.patch_size
    return {
        "model": str(folder),
        "dtype": "bfloat16" if family.recurrent else "float32",
        "enforce_eager": True,
        "max_model_len": 2048,
        "max_num_seqs": 16,
        "limit_mm_per_prompt": {"image": 3, "video": 0},
        "mm_processor_kwargs": {"size": {"shortest_edge": 3136, "longest_edge": BLOCKS * (2 * patch) ** 2}},
        "seed": 0,
        **changes,
    }


@contextlib.contextmanager
def engine(model_type: str, folder: Path, **changes: Any) -> Iterator[Engine]:
    """An engine that is shut down in the end."""
    from vllm import LLM

    with without_llvmlite():
        llm = LLM(**options(folder, **changes))
    try:
        yield Engine(model_type, folder, llm)
    finally:
        from vllm.distributed import cleanup_dist_env_and_memory

        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        cleanup_dist_env_and_memory()
