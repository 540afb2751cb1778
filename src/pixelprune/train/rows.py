"""One row of training data, in chat-messages or ShareGPT form, to one conversation; or the reason why not.

Chat messages:

    {"messages": [
        {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Total?"}]},
        {"role": "assistant", "content": "12.50"}]}

Parts ``{"type": "image"}`` without a file, and marks ``<image>`` in a text, take the next of the row's ``images``.

ShareGPT:

    {"conversations": [{"from": "human", "value": "<image>\\nTotal?"}, {"from": "gpt", "value": "12.50"}],
     "images": ["a.png"]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from PIL import Image

from ..errors import DataError

#: The mark in a text where an image belongs.
IMAGE_MARK = "<image>"

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


class Message(TypedDict):
    """A turn, as chat templates take it.

    ``content`` is a list of parts, ``{"type": "text", "text": ...}`` or ``{"type": "image"}``.
    """

    role: str
    content: list[dict[str, str]]


@dataclass(frozen=True)
class Conversation:
    """A row that can be used.

    Attributes:
        messages: the turns. Answers are one text part each.
        images: the files (or pictures) of the image parts, in their order.
        where: ``file:line``, or what else tells people which row it is.
    """

    messages: list[Message]
    images: list[Path | Image.Image]
    where: str


def parse_line(line: bytes | str, where: str, folder: Path) -> Conversation:
    """A line of a JSONL file; see :func:`parse_row`."""
    try:
        row = json.loads(line)
    except ValueError as error:  # broken JSON, or bytes that are no UTF-8
        raise DataError(f"{where}: not valid JSON ({error})") from error
    return parse_row(row, where, folder)


def parse_row(row: object, where: str = "this row", folder: Path | None = None) -> Conversation:
    """Check a row and bring it into one form.

    Args:
        row: a mapping with ``messages`` or ``conversations``; images by path, or as PIL images.
        where: begins every error.
        folder: relative paths start here (the working directory).

    Raises:
        DataError: the row cannot be used; one line that begins with ``where``.
    """
    try:
        return _Parser(row, folder or Path()).parse(where)
    except _BadRow as error:
        raise DataError(f"{where}: {error}") from None


class _BadRow(Exception):
    """Why a row cannot be used."""


class _Parser:
    def __init__(self, row: object, folder: Path) -> None:
        if not isinstance(row, Mapping):
            raise _BadRow(f"a row is an object with messages or conversations; got {_short(row)}")
        self.row, self.folder = row, folder
        listed = row.get("images", row.get("image"))
        listed = [] if listed is None else listed if isinstance(listed, (list, tuple)) else [listed]
        self.listed = [self._file(image) for image in listed]
        self.images: list[Path | Image.Image] = []
        self.taken = 0

    def parse(self, where: str) -> Conversation:
        turns, role_key, text_key = self._turns()
        messages: list[Message] = []
        system = self.row.get("system")
        if isinstance(system, str) and system:
            messages.append({"role": "system", "content": [_text(system)]})
        for number, turn in enumerate(turns, 1):
            if not isinstance(turn, Mapping) or role_key not in turn or text_key not in turn:
                raise _BadRow(f"message {number} must have {role_key!r} and {text_key!r}; got {_short(turn)}")
            role = _ROLES.get(turn[role_key]) if isinstance(turn[role_key], str) else None
            if role is None:
                raise _BadRow(
                    f"message {number} has {role_key} {turn[role_key]!r}; known are {', '.join(sorted(_ROLES))}"
                )
            content = self._content(turn[text_key], number)
            if role == "assistant":
                content = [_answer(content, number)]
            messages.append({"role": role, "content": content})
        if self.taken < len(self.listed):
            raise _BadRow(
                f"{len(self.listed)} images but only {self.taken} {IMAGE_MARK} marks or image parts that take them; "
                f"put one mark where each image belongs"
            )
        if not any(message["role"] == "assistant" for message in messages):
            raise _BadRow("no answer: no message of the assistant")
        if messages[-1]["role"] != "assistant":
            raise _BadRow(f"the last message is of the {messages[-1]['role']}; a conversation ends with an answer")
        for image in self.images:
            if isinstance(image, Path) and not image.is_file():
                raise _BadRow(f"there is no image {image}")
        return Conversation(messages, self.images, where)

    def _turns(self) -> tuple[Sequence[object], str, str]:
        for key, role_key, text_key in (("messages", "role", "content"), ("conversations", "from", "value")):
            turns = self.row.get(key)
            if turns is not None:
                if not isinstance(turns, (list, tuple)) or not turns:
                    raise _BadRow(f"{key} must be a list of messages; got {_short(turns)}")
                # Files that call themselves ShareGPT also come with role and content.
                if isinstance(turns[0], Mapping) and "role" in turns[0]:
                    role_key, text_key = "role", "content"
                return turns, role_key, text_key
        raise _BadRow(f"neither messages nor conversations; the row has {', '.join(map(str, self.row)) or 'nothing'}")

    def _content(self, content: object, number: int) -> list[dict[str, str]]:
        """Parts in one form: text, with marks cut out of it, and images."""
        parts = [_text(content)] if isinstance(content, str) else content
        if not isinstance(parts, (list, tuple)):
            raise _BadRow(f"message {number}: content must be a text or a list of parts; got {_short(content)}")
        result: list[dict[str, str]] = []
        for part in parts:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "text" and isinstance(part.get("text"), str):
                for index, piece in enumerate(part["text"].split(IMAGE_MARK)):
                    if index:
                        result.append(self._image(None, number))
                    if piece:
                        result.append(_text(piece))
            elif kind in ("image", "image_url"):
                own = next((part[key] for key in ("image", "path", "url", "image_url") if part.get(key)), None)
                result.append(self._image(own["url"] if isinstance(own, Mapping) and "url" in own else own, number))
            else:
                raise _BadRow(f"message {number}: a part must be text or an image; got {_short(part)}")
        return result

    def _image(self, own: object, number: int) -> dict[str, str]:
        if own is not None:
            self.images.append(self._file(own))
        elif self.taken < len(self.listed):
            self.images.append(self.listed[self.taken])
            self.taken += 1
        else:
            raise _BadRow(
                f"message {number}: more {IMAGE_MARK} marks or image parts than images; the row lists "
                f"{len(self.listed)}"
            )
        return {"type": "image"}

    def _file(self, image: object) -> Path | Image.Image:
        if isinstance(image, Image.Image):
            return image
        if isinstance(image, Mapping) and isinstance(image.get("path"), str):
            image = image["path"]
        if not isinstance(image, (str, Path)) or not str(image):
            raise _BadRow(f"an image is given by its path; got {_short(image)}")
        name = str(image)
        if "://" in name and not name.startswith("file://"):
            raise _BadRow(f"images are read from files; got the address {name!r}: download it first")
        return self.folder / name.removeprefix("file://")


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _answer(content: list[dict[str, str]], number: int) -> dict[str, str]:
    if any(part["type"] == "image" for part in content):
        raise _BadRow(f"message {number}: an answer is text; got an image in it")
    text = "".join(part["text"] for part in content)
    if not text.strip():
        raise _BadRow(f"message {number}: the answer is empty")
    return _text(text)


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:79] + "…"
