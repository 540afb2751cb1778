"""Load a model, ask it about images, whole or pruned, and time its first token.

>>> from pixelprune.hf.chat import Chat
>>> chat = Chat("Qwen/Qwen3-VL-2B-Instruct")
>>> chat.answer([image], "What is the total?").text
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import transformers.utils.logging as transformers_logging
from huggingface_hub.utils import logging as hub_logging
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, BatchFeature, PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.utils.import_utils import is_peft_available

from .. import reader
from ..core.config import PruneConfig
from ..errors import ConfigError, ImageError, PixelPruneError, UnsupportedModelError, install_hint
from ..models.resize import ResizeSpec
from .enable import enable
from .processor import PrunedProcessor
from .source import adapted_model

__all__ = ["Answer", "Chat", "load_model", "load_processor", "quiet_libraries"]

Mode = Literal["pruned", "whole", "resized"]

_DTYPES = ("auto", "float32", "bfloat16", "float16")


def load_model(name: str, *, dtype: str = "auto", attention: str | None = None) -> PreTrainedModel:
    """A stock vision-language model, not yet enabled.

    Args:
        name: a local folder or a hub id; of an adapter (PEFT), its model is loaded with it.
        dtype: ``auto`` for that of the weights, ``float32``, ``bfloat16`` or ``float16``.
        attention: transformers' ``attn_implementation``; its own choice if ``None``.

    Raises:
        UnsupportedModelError: it cannot be loaded; the message says why.
    """
    try:
        model: PreTrainedModel = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype, attn_implementation=attention
        )
    except PixelPruneError:
        raise
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise UnsupportedModelError(_why_not(name, error)) from error
    return model


def load_processor(name: str) -> Any:
    """A model's :class:`~pixelprune.hf.PrunedProcessor`, exact ``pred2d``.

    Raises:
        UnsupportedModelError: it cannot be loaded; the message says why.
    """
    try:
        return PrunedProcessor.from_pretrained(name)
    except PixelPruneError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise UnsupportedModelError(f"the processor of {name} cannot be loaded: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """The reasons of libraries may have several lines."""
    return " ".join(str(error).split())


def _why_not(name: str, error: Exception) -> str:
    """Why a model cannot be loaded, in a line."""
    adapted = adapted_model(name)
    if adapted is None:
        return f"{name} cannot be loaded: {_one_line(error)}"
    if not is_peft_available():
        return f"{name} is an adapter of {adapted}, and loading it needs peft: {install_hint('train')}"
    return f"{name}, an adapter of {adapted}, cannot be loaded: {_one_line(error)}"


def quiet_libraries() -> None:
    """Let transformers and the hub's client show errors only, in the whole process. For programs, not for libraries."""
    hub_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


@dataclass(frozen=True)
class Answer:
    """An answer, and what it cost.

    Attributes:
        mode: ``pruned``, ``whole`` or ``resized``.
        text: the answer.
        image_tokens: image tokens that the language model read.
        whole_tokens: image tokens of the images that it was asked about, unpruned.
        prompt_tokens: all tokens that it read.
        first_token: seconds from the images to the first token.
        seconds: seconds to the end of the answer.
    """

    mode: Mode
    text: str
    image_tokens: int
    whole_tokens: int
    prompt_tokens: int
    first_token: float
    seconds: float


class Chat:
    """An enabled model with its processor, on one device.

    Args:
        model: a local folder or a hub id, of a model or an adapter (PEFT), or None for the bundled reader.
        config: how to prune.
        dtype: as for :func:`load_model`.
        device: a torch device, or an empty string for CUDA where there is a GPU, else the CPU.

    Attributes:
        config: as above; may be replaced between two questions.
        processor: the :class:`~pixelprune.hf.PrunedProcessor`; its ``last_report`` is that of the latest answer.
        model: the enabled model, in evaluation mode.

    Raises:
        ConfigError: ``dtype`` or ``device`` cannot be used.
        UnsupportedModelError: the model cannot be loaded, or is of another family.
    """

    def __init__(
        self, model: str | None = None, config: PruneConfig | None = None, *, dtype: str = "auto", device: str = ""
    ) -> None:
        if dtype not in _DTYPES:
            raise ConfigError(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}")
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self.config = PruneConfig() if config is None else config
        if model is None:
            model = str(reader.path())
            if dtype == "auto" and self.device.type == "cpu":
                dtype = "float32"  # many CPUs have no arithmetic for the bfloat16 that the weights are stored in
        self.processor = load_processor(model)
        weights: torch.nn.Module = load_model(model, dtype=dtype)
        self.model: Any = enable(weights.eval().to(self.device))
        self._warm = False

    def answer(
        self, images: list[Image.Image], question: str, mode: Mode = "pruned", max_new_tokens: int = 256
    ) -> Answer:
        """Ask about images, greedily.

        Args:
            images: any number, before the question.
            mode: ``pruned`` reads the blocks that ``config`` keeps, the others all blocks of the images as they are.
                ``resized`` lets images be smaller than the model's least size, as those of :meth:`shrink` are.

        Raises:
            ImageError: an image is too elongated.
        """
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
        """Each image resized to about as many blocks as ``tokens`` says: the plain alternative to pruning."""
        spec = self.spec
        area = spec.block_size**2
        small = []
        for image, count in zip(images, tokens, strict=True):
            budget = replace(spec, min_pixels=area, max_pixels=max(count, 1) * area)
            small.append(Image.fromarray(budget.resize(image)))
        return small

    @property
    def spec(self) -> ResizeSpec:
        """How the model's processor resizes images."""
        return ResizeSpec.from_processor(self.processor.image_processor.to_dict())

    def _generate(
        self, images: list[Image.Image], question: str, mode: Mode, max_new_tokens: int
    ) -> tuple[BatchFeature, Tensor, _FirstToken]:
        """The inputs, the new tokens ``(1, length)``, and when the first of them came."""
        content = [{"type": "image", "image": image} for image in images]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
        settings = {}
        if mode == "resized":  # these may be smaller than the least size, on purpose
            spec = self.spec
            settings["size"] = {"shortest_edge": spec.block_size**2, "longest_edge": spec.max_pixels}
        try:
            inputs: BatchFeature = self.processor.apply_chat_template(
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
        clock = _FirstToken()
        output: Tensor = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, streamer=clock)
        return inputs, output[:, inputs["input_ids"].shape[1] :], clock


class _FirstToken(BaseStreamer):
    """Notes when the first new token comes; ``generate`` hands over the prompt first."""

    def __init__(self) -> None:
        self.calls = 0
        self.first = 0.0

    def put(self, value: Tensor) -> None:
        self.calls += 1
        if self.calls == 2:
            self.first = time.perf_counter()

    def end(self) -> None:
        pass
