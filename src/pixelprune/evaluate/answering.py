"""Questions in, replies out: an engine answers what the journal does not have yet, and the journal keeps every reply.

The journal is what makes a killed cell resume at its next row, in every harness and whatever the harness itself saves;
and it has, for each row and image, how many blocks the model saw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ..journal import JsonLines, read_json_lines
from ..models.resize import ResizeSpec
from .arms import Arm

#: The version of the journal's form.
FORMAT = 1

#: A chat message: its role, and parts ``{"type": "text", "text": ...}`` or ``{"type": "image", "image": PIL image}``.
Message = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A row of a set, as its harness asks it.

    Attributes:
        row: its name in the set.
        messages: in order; images are RGB.
        max_new_tokens: of the answer.
    """

    row: str
    messages: list[Message]
    max_new_tokens: int

    @property
    def images(self) -> list[Image.Image]:
        """All images, in order."""
        parts = (part for message in self.messages for part in message["content"])
        return [part["image"] for part in parts if part["type"] == "image"]

    @cached_property
    def digests(self) -> list[str]:
        """A digest of the pixels of each image."""
        return [
            hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest()[:16]
            for image in self.images
        ]

    @property
    def key(self) -> str:
        """A digest of all that the model reads, and of how much it may answer."""
        texts = [
            [message["role"], *[part.get("text", "image") for part in message["content"]]] for message in self.messages
        ]
        return hashlib.sha256(json.dumps([texts, self.digests, self.max_new_tokens]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Seen:
    """What the model saw of an image.

    Attributes:
        kept: blocks.
        total: blocks of the whole image, as the model's processor resizes it.
        height, width: pixels of the image as the model saw it, dropped blocks included.
        digest: of the image's pixels, as its harness hands it over.
    """

    kept: int
    total: int
    height: int
    width: int
    digest: str


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        text: the answer, special tokens left out.
        images: what the model saw of each image.
        tokens: of the answer.
        seconds: from the images to the end of the answer; of a batch, in equal parts.
    """

    text: str
    images: list[Seen]
    tokens: int
    seconds: float

    @property
    def cluster(self) -> str:
        """The images of the row: rows with the same ones succeed and fail together."""
        return hashlib.sha256("".join(image.digest for image in self.images).encode()).hexdigest()[:16]


def seen_of(
    question: Question, shown: Sequence[Image.Image], kept: Sequence[int], arm: Arm, spec: ResizeSpec
) -> list[Seen]:
    """What a model saw of the images of a question.

    Args:
        question: with the images as its harness hands them over.
        shown: the images that the processor was given.
        kept: blocks of each that the engine read.
        arm: what ``shown`` was made for.
        spec: how the processor resizes.
    """
    seen = []
    for image, small, count, digest in zip(question.images, shown, kept, question.digests, strict=True):
        height, width = spec.target_size(image.height, image.width)
        blocks = height * width // spec.block_size**2
        if arm.resized:
            height, width = small.height, small.width
        seen.append(Seen(count, blocks, height, width, digest))
    return seen


class Engine(Protocol):
    """A model with one arm's images."""

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch, greedily."""


class Answerer:
    """Answers questions, each once.

    Args:
        journal: the file; its rows are not asked again.
        head: what was answered by what: the model, the arm, the engine and the set, as plain JSON values.
        engine: makes the engine, once, when there is something to answer.
        batch_size: questions at a time.

    Raises:
        ConfigError: the journal is of something else.
    """

    def __init__(self, journal: Path, head: dict[str, Any], engine: Callable[[], Engine], batch_size: int) -> None:
        self._make, self._batch_size = engine, batch_size
        self._engine: Engine | None = None
        self._journal = JsonLines(
            journal,
            {"format": FORMAT, **head},
            other_head="this cell was answered with other settings; delete its folder, or choose another output",
            not_one="not the journal of a cell; delete its folder",
        )
        self._known = {(entry["row"], entry["key"]): _reply(entry) for entry in self._journal.entries}

    def answer(self, questions: Iterable[Question]) -> list[Reply]:
        """The reply to each question, from the journal or the engine. Questions are taken a batch at a time."""
        keys, batch = [], {}
        for question in questions:
            key = (question.row, question.key)
            keys.append(key)
            if key not in self._known:
                batch[key] = question
            if len(batch) == self._batch_size:
                self._ask(batch)
                batch = {}
        if batch:
            self._ask(batch)
        return [self._known[key] for key in keys]

    def _ask(self, batch: dict[tuple[str, str], Question]) -> None:
        if self._engine is None:
            self._engine = self._make()
        replies = self._engine.answer(list(batch.values()))
        self._known.update(zip(batch, replies, strict=True))
        self._journal.add(*({"row": row, "key": key, **asdict(self._known[row, key])} for row, key in batch))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def read_replies(journal: Path) -> dict[str, Reply]:
    """The latest reply to each row of a journal, by the row's name."""
    return {entry["row"]: _reply(entry) for entry in read_json_lines(journal)[1:]}


def _reply(entry: dict[str, Any]) -> Reply:
    return Reply(entry["text"], [Seen(**image) for image in entry["images"]], entry["tokens"], entry["seconds"])
