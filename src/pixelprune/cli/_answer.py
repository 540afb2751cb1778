"""Load a model, answer, time the first token, and show answers side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import AutoModelForImageTextToText
from transformers.generation.streamers import BaseStreamer

from .. import reader
from ..core.config import PruneConfig
from ..errors import ConfigError, ImageError, PixelPruneError, UnsupportedModelError
from ..hf import PrunedProcessor, enable
from ..models.resize import ResizeSpec

_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Answer:
    """One way of asking.

    Attributes:
        mode: ``pruned``, ``whole`` or ``resized``.
        text: the answer.
        image_tokens: image tokens that the language model read.
        whole_tokens: image tokens of the whole images.
        prompt_tokens: all tokens that it read.
        first_token: seconds from the images to the first token.
        seconds: seconds to the end of the answer.
    """

    mode: str
    text: str
    image_tokens: int
    whole_tokens: int
    prompt_tokens: int
    first_token: float
    seconds: float


class _Clock(BaseStreamer):
    """Notes when the first new token comes; generate() hands over the prompt first."""

    def __init__(self) -> None:
        self.calls = 0
        self.first = 0.0

    def put(self, value: Any) -> None:
        self.calls += 1
        if self.calls == 2:
            self.first = time.perf_counter()

    def end(self) -> None:
        pass


class Reader:
    """A model with its processor, on one device.

    Args:
        model: a local folder, a hub id, or None for the bundled reader.
        config: how to prune.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: a torch device, or an empty string for the best there is.
    """

    def __init__(self, model: str | None, config: PruneConfig, dtype: str, device: str) -> None:
        if dtype not in _DTYPES:
            raise ConfigError(f"--dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}")
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"--device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self.config = config
        if model is None:
            model = str(reader.path())
            if dtype == "auto" and self.device.type == "cpu":
                dtype = "float32"  # many CPUs have no arithmetic for the bfloat16 that the weights are stored in
        try:
            self.processor = PrunedProcessor.from_pretrained(model)
            weights: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype)
        except PixelPruneError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise UnsupportedModelError(f"{model} cannot be loaded: {error}") from error
        self.model = enable(weights.eval().to(self.device))
        self._warm = False

    def answer(self, images: list[Image.Image], question: str, mode: str, max_new_tokens: int) -> Answer:
        """Ask about images: ``pruned``, or all of their blocks in the other modes."""
        self.processor.prune = self.config if mode == "pruned" else None
        if not self._warm:
            self._warm = True
            self._generate([Image.new("RGB", (320, 320), "white")], "Hello", mode, 2)
        start = time.perf_counter()
        inputs, output, clock = self._generate(images, question, mode, max_new_tokens)
        reports = self.processor.last_report
        return Answer(
            mode,
            self.processor.batch_decode(output, skip_special_tokens=True)[0].strip(),
            sum(report.kept for report in reports),
            sum(report.total for report in reports),
            int(inputs["input_ids"].shape[1]),
            clock.first - start,
            time.perf_counter() - start,
        )

    def shrink(self, images: list[Image.Image], tokens: list[int]) -> list[Image.Image]:
        """Each image resized to about as many blocks as ``tokens`` says: the plain rival of pruning."""
        spec = self._spec()
        area = spec.block_size**2
        small = []
        for image, count in zip(images, tokens, strict=True):
            budget = replace(spec, min_pixels=area, max_pixels=max(count, 1) * area)
            small.append(Image.fromarray(budget.resize(image)))
        return small

    def _spec(self) -> ResizeSpec:
        return ResizeSpec.from_processor(self.processor.image_processor.to_dict())

    def _generate(
        self, images: list[Image.Image], question: str, mode: str, max_new_tokens: int
    ) -> tuple[Any, Any, _Clock]:
        content = [{"type": "image", "image": image} for image in images]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
        settings = {}
        if mode == "resized":  # these may be smaller than the least size, on purpose
            spec = self._spec()
            settings["size"] = {"shortest_edge": spec.block_size**2, "longest_edge": spec.max_pixels}
        try:
            inputs = self.processor.apply_chat_template(
                messages,
                tokenize=True,
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs=settings,
            ).to(self.device)
        except ValueError as error:
            if "aspect ratio" in str(error):
                raise ImageError(f"an image is too elongated for the model: {error}") from error
            raise
        clock = _Clock()
        output = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, streamer=clock)
        return inputs, output[:, inputs["input_ids"].shape[1] :], clock


def show(answers: list[Answer]) -> None:
    """The answer, and what it cost; or a table of several."""
    console = Console(highlight=False)
    if len(answers) == 1:
        (only,) = answers
        console.print(Text(only.text))
        console.print(
            f"{only.image_tokens} of {only.whole_tokens} image tokens "
            f"({only.image_tokens / only.whole_tokens:.1%}), first token after {only.first_token:.2f} s",
            style="dim",
        )
        return
    whole = next(answer for answer in answers if answer.mode == "whole")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=True)
    table.add_column("", style="dim")
    for answer in answers:
        table.add_column(answer.mode, overflow="fold", ratio=1)
    rows: dict[str, Callable[[Answer], str]] = {
        "image tokens": lambda a: f"{a.image_tokens} ({a.image_tokens / whole.image_tokens:.1%})",
        "prompt tokens": lambda a: str(a.prompt_tokens),
        "first token": lambda a: f"{a.first_token:.2f} s",
        "speed-up": lambda a: f"{whole.first_token / a.first_token:.2f}x",
        "whole answer": lambda a: f"{a.seconds:.2f} s",
        "answer": lambda a: a.text,
    }
    for name, value in rows.items():
        table.add_row(name, *(Text(value(answer)) for answer in answers))
    console.print(table)
