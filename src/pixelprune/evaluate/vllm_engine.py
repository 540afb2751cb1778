"""Answers from vLLM, offline: images go to the engine as they are, never encoded, and so never as JPEG."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ..errors import ConfigError, install_hint
from ..models.resize import ResizeSpec
from .answering import Question, Reply, Seen, seen_of
from .arms import Arm
from .transformers_engine import Loading


class VllmEngine:
    """A vLLM engine whose ``mm_processor_kwargs`` are the arm's.

    Raises:
        ConfigError: vLLM is missing.
    """

    def __init__(self, loading: Loading, arm: Arm) -> None:
        try:
            from vllm import LLM, SamplingParams
        except ImportError as error:
            raise ConfigError(f"engine vllm needs vLLM: {install_hint('vllm')}") from error
        self.arm, self.template = arm, loading.template
        self._sampling = SamplingParams
        options = dict(loading.options)
        kwargs = {**loading.processor, **options.pop("mm_processor_kwargs", {})}
        if arm.processor_prune is not None:
            kwargs["pixelprune"] = arm.processor_prune.to_dict()
        spec = _spec_of(loading.model, kwargs)
        sizes = arm.sizes(spec)
        if sizes:
            kwargs["size"] = sizes
        self.spec = spec
        self.engine: Any = LLM(model=loading.model, dtype=loading.dtype, mm_processor_kwargs=kwargs, **options)
        config = self.engine.llm_engine.model_config.hf_config
        self._image, self._end = config.image_token_id, config.vision_end_token_id

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch, greedily; vLLM batches it as it likes."""
        start = time.perf_counter()
        shown = [[self.arm.shown(image, self.spec) for image in question.images] for question in questions]
        outputs = self.engine.chat(
            [_messages(question, images) for question, images in zip(questions, shown, strict=True)],
            [self._sampling(temperature=0, max_tokens=question.max_new_tokens) for question in questions],
            use_tqdm=False,
            chat_template_kwargs=self.template or None,
        )
        seconds = (time.perf_counter() - start) / len(questions)
        return [
            Reply(
                output.outputs[0].text,
                self._seen(question, images, output.prompt_token_ids),
                len(output.outputs[0].token_ids),
                seconds,
            )
            for question, images, output in zip(questions, shown, outputs, strict=True)
        ]

    def _seen(self, question: Question, images: list[Any], prompt: list[int]) -> list[Seen]:
        """The tokens of each image in the prompt that the engine ran."""
        marks = [token for token in prompt if token in (self._image, self._end)]
        kept = [len(list(run)) for token, run in groupby(marks) if token == self._image]
        if len(kept) != len(images):
            raise ConfigError(f"{question.row}: {len(images)} images, but {len(kept)} in the prompt that vLLM ran")
        return seen_of(question, images, kept, self.arm, self.spec)


def _messages(question: Question, images: list[Any]) -> list[dict[str, Any]]:
    """As ``LLM.chat`` takes them, with the images that are shown."""
    shown = iter(images)
    return [
        {
            "role": message["role"],
            "content": [
                {"type": "image_pil", "image_pil": next(shown)} if part["type"] == "image" else dict(part)
                for part in message["content"]
            ],
        }
        for message in question.messages
    ]


def _spec_of(model: str, kwargs: dict[str, Any]) -> ResizeSpec:
    """How the model's processor resizes; its settings come from where the weights do."""
    from transformers import AutoImageProcessor

    settings = AutoImageProcessor.from_pretrained(model).to_dict()
    return ResizeSpec.from_processor({**settings, **{k: v for k, v in kwargs.items() if k in _SIZES}})


_SIZES = ("size", "min_pixels", "max_pixels")
