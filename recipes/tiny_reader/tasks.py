"""What the reader is asked, and how answers are judged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from .canvas import Box

Task = Literal["value", "cell", "line", "state", "text", "point"]
READING: tuple[Task, ...] = ("value", "cell", "line", "state", "text")

_POINT = '{"point_2d": ['
_CLOSE = "]}"
# Each is one token of the reader's tokenizer; everything else is read and written character by character.
PHRASES = (
    "What is the ",
    "What is ",
    "Read the value of ",
    "In the table, what is the ",
    " of ",
    "Transcribe the line that starts with ",
    "Which option is selected?",
    "Which option is disabled?",
    "Under ",
    ", which option is selected?",
    ", which option is disabled?",
    "What text is at [",
    "]?",
    "Click ",
    "Point to ",
    _POINT,
    _CLOSE,
)


@dataclass(frozen=True)
class Question:
    """A question about a page, its answer and, for pointing, the box that the point must fall into (pixels)."""

    task: Task
    text: str
    answer: str
    box: Box | None = None


def point(x: float, y: float, width: int, height: int) -> tuple[int, int]:
    """A pixel on the 0..1000 scale of Qwen3-VL."""
    return round(x / width * 1000), round(y / height * 1000)


def point_answer(box: Box, width: int, height: int) -> str:
    """The centre of a box, as Qwen3-VL writes points."""
    x, y = point((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, width, height)
    return f"{_POINT}{x}, {y}{_CLOSE}"


def parse_point(answer: str) -> tuple[int, int] | None:
    """The first pair of numbers of an answer, or None."""
    found = re.search(r"(\d{1,4})\s*,\s*(\d{1,4})", answer)
    return (int(found[1]), int(found[2])) if found else None


def right(question: Question, answer: str, width: int, height: int) -> bool:
    """Exact match for reading; the point inside the element's box for grounding."""
    if question.task != "point":
        return answer.strip() == question.answer
    found = parse_point(answer)
    if found is None or question.box is None:
        return False
    x, y = found[0] * width / 1000, found[1] * height / 1000
    return question.box[0] <= x <= question.box[2] and question.box[1] <= y <= question.box[3]
