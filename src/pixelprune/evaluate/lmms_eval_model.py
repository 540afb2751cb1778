"""The model ``pixelprune`` of lmms-eval, which finds it by the entry point group ``lmms_eval.models``.

    lmms-eval --model pixelprune --model_args model=Qwen/Qwen3-VL-2B-Instruct,arm=exact --tasks docvqa_val

It is a model class of its own: lmms-eval's ``Qwen3_VL`` loads bfloat16 alone, adds a system message, and resizes images
itself, whatever ``min_pixels`` and ``max_pixels`` say.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from ..errors import ConfigError
from .answering import Message, Question
from .arms import Arm
from .cell import POINT_PROMPT, Asking, Cell
from .points import Scale
from .sets import KnownSet

_LENGTH = 512  # of an answer, where the task says nothing


def manifest() -> ModelManifest:
    """What the entry point gives to lmms-eval."""
    return ModelManifest(model_id="pixelprune", chat_class_path=f"{__name__}.PixelPrune")


class PixelPrune(lmms):
    """A model with one arm's images.

    Args:
        model: a local folder or a hub id.
        arm: by name: ``whole``, ``exact``, ``adaptive``, ``random``, ``resized``, or ``threshold=0.02`` and such.
        engine: ``transformers`` or ``vllm``.
        journal: a folder for the journal, so that a run that was stopped resumes; a temporary one if it is not given.
        batch_size, device: as lmms-eval's.
        asking: of ``pixelprune evaluate``, in place of all these.
        points: for tasks that ask for a point: the scale on which the model writes it, such as ``thousand``.
        loading: the other fields of :class:`~pixelprune.evaluate.transformers_engine.Loading`, such as ``dtype``.
    """

    is_simple = False

    def __init__(
        self,
        model: str = "",
        arm: str = "exact",
        engine: str = "transformers",
        journal: str | None = None,
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
        asking: Asking | None = None,
        points: Scale | None = None,
        **loading: Any,
    ) -> None:
        super().__init__()
        self._rank, self._world_size = 0, 1
        if asking is None:
            if not model:
                raise ConfigError("--model_args must name a model: model=Qwen/Qwen3-VL-2B-Instruct,arm=exact")
            folder = Path(journal or tempfile.mkdtemp(prefix="pixelprune-"))
            folder.mkdir(parents=True, exist_ok=True)
            asking = Asking(_cell(model, arm, engine, int(batch_size), device, points, loading), folder)
        self.asking = asking

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The answer to each request, from the journal or the model."""
        return self.asking.ask((self._question(*request.args) for request in requests), "[{x}, {y}]")

    def loglikelihood(self, requests: list[Any]) -> Any:
        """Not there: none of the sets asks for it."""
        raise NotImplementedError("pixelprune answers; it gives no likelihoods")

    def generate_until_multi_round(self, requests: list[Any]) -> Any:
        """Not there: none of the sets asks for it."""
        raise NotImplementedError("pixelprune answers in one round")

    def _question(self, text: str, messages_of: Any, settings: Any, number: int, task: str, split: str) -> Question:
        document = self.task_dict[task][split][number]
        prompt = None
        if "instruction" in document or self.asking.cell.set.kind == "text":
            prompt = self.asking.prompt(document.get("instruction") or document.get("question") or "")
        messages = [_message(message, prompt) for message in messages_of(document)]
        length = self.asking.max_new_tokens((settings or {}).get("max_new_tokens") or _LENGTH)
        return Question(f"{task}/{number}", messages, length)


def _message(message: dict[str, Any], prompt: str | None) -> Message:
    """As the engines take it; a prompt takes the place of a user's text."""
    parts = []
    for part in message["content"]:
        if part["type"] == "image":
            parts.append({"type": "image", "image": part["url"].convert("RGB")})
        elif part["type"] != "text":
            raise ConfigError(f"questions with {part['type']} cannot be asked: images and text alone")
        elif prompt is None or message["role"] != "user":
            parts.append({"type": "text", "text": part["text"]})
    if prompt is not None and message["role"] == "user":
        parts.append({"type": "text", "text": prompt})
    return {"role": message["role"], "content": parts}


def _cell(
    model: str,
    arm: str,
    engine: str,
    batch_size: int,
    device: str | None,
    points: Scale | None,
    loading: dict[str, Any],
) -> Cell:
    """A cell for a run that lmms-eval was told to do."""
    setting, equals, value = str(arm).partition("=")
    parsed = Arm.parse({setting: float(value) if "." in value else int(value)} if equals else arm)
    known = KnownSet("lmms-eval", "lmms-eval", "", "point" if points else "text", "samples", 0, "")
    return Cell(
        model,
        {"model": model, "device": device or "auto", **loading},
        engine,
        parsed,
        known,
        prompt=POINT_PROMPT if points else None,
        points=points or "thousand",
        batch_size=batch_size,
    )
