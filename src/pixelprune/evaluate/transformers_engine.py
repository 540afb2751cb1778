"""Answers from Hugging Face transformers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import ConfigError
from ..hf import PrunedProcessor, enable
from ..hf.chat import load_model
from ..models.resize import ResizeSpec
from .answering import Question, Reply, seen_of
from .arms import Arm


@dataclass(frozen=True)
class Loading:
    """How a model is loaded and asked, by either engine.

    Attributes:
        model: a local folder or a hub id.
        dtype: ``auto`` for that of the weights, ``float32``, ``bfloat16`` or ``float16``.
        device: a torch device; ``auto`` is CUDA where there is a GPU, else the CPU.
        attention: transformers' ``attn_implementation``.
        processor: options of the processor's ``from_pretrained``, such as ``max_pixels``.
        template: variables of the chat template, such as ``enable_thinking``.
        options: of vLLM's ``LLM``.
    """

    model: str
    dtype: str = "auto"
    device: str = "auto"
    attention: str | None = None
    processor: dict[str, Any] = field(default_factory=dict)
    template: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


class TransformersEngine:
    """An enabled model and its processor, which prunes as the arm says.

    Raises:
        ConfigError: the device cannot be used.
        UnsupportedModelError: the model cannot be loaded, or is of another family.
    """

    def __init__(self, loading: Loading, arm: Arm) -> None:
        name = loading.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(name)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
        self.arm, self.template = arm, loading.template
        self.processor: Any = PrunedProcessor.from_pretrained(loading.model, **loading.processor)
        self.processor.prune = arm.processor_prune
        self.spec = ResizeSpec.from_processor(self.processor.image_processor.to_dict())
        weights: Any = load_model(loading.model, dtype=loading.dtype, attention=loading.attention)
        self.model: Any = enable(weights.eval().to(self.device))

    @torch.inference_mode()
    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch, greedily, padded on the left."""
        start = time.perf_counter()
        shown = [[self.arm.shown(image, self.spec) for image in question.images] for question in questions]
        texts = [
            self.processor.apply_chat_template(
                question.messages, tokenize=False, add_generation_prompt=True, **self.template
            )
            for question in questions
        ]
        flat = [image for images in shown for image in images]
        sizes = self.arm.sizes(self.spec)
        inputs = self.processor(
            text=texts,
            images=flat or None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            **({"size": sizes} if sizes else {}),
        ).to(self.device)
        output = self.model.generate(
            **inputs,
            max_new_tokens=max(question.max_new_tokens for question in questions),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
        )[:, inputs["input_ids"].shape[1] :]
        seconds = (time.perf_counter() - start) / len(questions)
        reports = iter(self.processor.last_report if flat else [])
        replies = []
        for question, images, tokens in zip(questions, shown, output.tolist(), strict=True):
            tokens = self._until_end(tokens)[: question.max_new_tokens]
            text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
            kept = [next(reports).kept for _ in images]
            replies.append(Reply(text, seen_of(question, images, kept, self.arm, self.spec), len(tokens), seconds))
        return replies

    def _until_end(self, tokens: list[int]) -> list[int]:
        """Without the padding behind a shorter answer of a batch."""
        ends = self.model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
        return tokens[: end + 1]
