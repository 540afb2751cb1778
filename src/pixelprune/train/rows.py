"""One row of training data, in chat-messages or ShareGPT form, to one conversation; or the reason why not.

Chat messages:

    {"messages": [
        {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Total?"}]},
        {"role": "assistant", "content": "12.50"}]}

Parts ``{"type": "image"}`` without a file, and marks ``<image>`` in a text, take the next of the row's ``images``.
So do videos, with ``<video>`` and ``videos``: a file, a folder of numbered frames, or a list of frames. ``fps`` of the
part or of the row says how many of them are a second.

ShareGPT:

    {"conversations": [{"from": "human", "value": "<image>\\nTotal?"}, {"from": "gpt", "value": "12.50"}],
     "images": ["a.png"]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from PIL import Image

from ..errors import DataError

#: The marks in a text where an image or a video belongs.
MARKS = {"<image>": "image", "<video>": "video"}
_MARK = re.compile("|".join(MARKS))

_ARTICLES = {"image": "an", "video": "a"}
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

    ``content`` is a list of parts, ``{"type": "text", "text": ...}``, ``{"type": "image"}`` or ``{"type": "video"}``.
    """

    role: str
    content: list[dict[str, str]]


@dataclass(frozen=True)
class Video:
    """A video of a row.

    Attributes:
        source: a video file or a folder of numbered frames; or the frames, files or pictures.
        fps: how many of the frames are a second; ``None`` if the row does not say.
    """

    source: Path | list[Path | Image.Image]
    fps: float | None = None


@dataclass(frozen=True)
class Conversation:
    """A row that can be used.

    Attributes:
        messages: the turns. Answers are one text part each.
        images: the files (or pictures) of the image parts, in their order.
        where: ``file:line``, or what else tells people which row it is.
        videos: those of the video parts, in their order.
    """

    messages: list[Message]
    images: list[Path | Image.Image]
    where: str
    videos: list[Video] = field(default_factory=list)


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
        self.listed: dict[str, list[object]] = {}
        for kind in MARKS.values():
            listed, only = row.get(f"{kind}s"), row.get(kind)
            if listed is None and only is not None:  # a list is several images, but the frames of one video
                listed = only if kind == "image" else [only]
            several = list(listed) if isinstance(listed, (list, tuple)) else [listed]
            self.listed[kind] = [] if listed is None else several
        self.images: list[Path | Image.Image] = []
        self.videos: list[Video] = []
        self.taken = dict.fromkeys(self.listed, 0)

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
        for kind, listed in self.listed.items():
            if self.taken[kind] < len(listed):
                raise _BadRow(
                    f"{len(listed)} {kind}s but only {self.taken[kind]} <{kind}> marks or {kind} parts that take them; "
                    f"put one mark where each {kind} belongs"
                )
        if not any(message["role"] == "assistant" for message in messages):
            raise _BadRow("no answer: no message of the assistant")
        if messages[-1]["role"] != "assistant":
            raise _BadRow(f"the last message is of the {messages[-1]['role']}; a conversation ends with an answer")
        for image in self.images:
            if isinstance(image, Path) and not image.is_file():
                raise _BadRow(f"there is no image {image}")
        for video in self.videos:
            for file in video.source if isinstance(video.source, list) else [video.source]:
                if isinstance(file, Path) and not file.exists():
                    raise _BadRow(f"there is no video or frame {file}")
        return Conversation(messages, self.images, where, self.videos)

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
        """Parts in one form: text, with marks cut out of it, images and videos."""
        parts = [_text(content)] if isinstance(content, str) else content
        if not isinstance(parts, (list, tuple)):
            raise _BadRow(f"message {number}: content must be a text or a list of parts; got {_short(content)}")
        result: list[dict[str, str]] = []
        for part in parts:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "text" and isinstance(part.get("text"), str):
                text, done = part["text"], 0
                for mark in _MARK.finditer(text):
                    result += [_text(text[done : mark.start()])] if mark.start() > done else []
                    result.append(self._visual(MARKS[mark.group()], None, number))
                    done = mark.end()
                result += [_text(text[done:])] if done < len(text) else []
            elif kind in ("image", "image_url", "video", "video_url"):
                medium = kind.removesuffix("_url")
                own = next((part[key] for key in (medium, "path", "url", f"{medium}_url") if part.get(key)), None)
                own = own["url"] if isinstance(own, Mapping) and "url" in own else own
                result.append(self._visual(medium, own, number, part.get("fps", part.get("sample_fps"))))
            else:
                raise _BadRow(f"message {number}: a part must be text, an image or a video; got {_short(part)}")
        return result

    def _visual(self, kind: str, own: object, number: int, fps: object = None) -> dict[str, str]:
        listed = self.listed[kind]
        if own is None and self.taken[kind] == len(listed):
            raise _BadRow(
                f"message {number}: more <{kind}> marks or {kind} parts than {kind}s; the row lists {len(listed)}"
            )
        if own is None:
            own = listed[self.taken[kind]]
            self.taken[kind] += 1
        if kind == "image":
            self.images.append(self._file(own))
        else:
            self.videos.append(self._video(own, self.row.get("fps") if fps is None else fps))
        return {"type": kind}

    def _video(self, own: object, fps: object) -> Video:
        if fps is not None and (isinstance(fps, bool) or not isinstance(fps, (int, float)) or not fps > 0):
            raise _BadRow(f"fps must be a number above 0; got {_short(fps)}")
        source = [self._file(frame) for frame in own] if isinstance(own, (list, tuple)) else self._file(own)
        if isinstance(source, Image.Image) or not source:
            raise _BadRow(f"a video is a file, a folder of frames, or a list of frames; got {_short(own)}")
        return Video(source, None if fps is None else float(fps))

    def _file(self, image: object) -> Path | Image.Image:
        if isinstance(image, Image.Image):
            return image
        if isinstance(image, Mapping) and isinstance(image.get("path"), str):
            image = image["path"]
        if not isinstance(image, (str, Path)) or not str(image):
            raise _BadRow(f"an image or a video is given by its path; got {_short(image)}")
        name = str(image)
        if "://" in name and not name.startswith("file://"):
            raise _BadRow(f"images and videos are read from files; got the address {name!r}: download it first")
        return self.folder / name.removeprefix("file://")


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _answer(content: list[dict[str, str]], number: int) -> dict[str, str]:
    other = next((part["type"] for part in content if part["type"] != "text"), None)
    if other is not None:
        raise _BadRow(f"message {number}: an answer is text; got {_ARTICLES[other]} {other} in it")
    text = "".join(part["text"] for part in content)
    if not text.strip():
        raise _BadRow(f"message {number}: the answer is empty")
    return _text(text)


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:79] + "…"
