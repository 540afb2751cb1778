"""A set of the user's own: questions with answers, as DocVQA has them, or with boxes, as ScreenSpot.

A JSONL file with a row for each question: ``{"image": "page.png", "question": "...", "answers": ["..."]}``, or with
``"box": [left, top, right, bottom]`` in pixels, edges included, in place of answers. Images are relative to the file.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..core.images import open_image
from ..errors import DataError
from .sets import Harness, KnownSet


@dataclass(frozen=True)
class LocalRow:
    """A question about an image: with right answers, or with the box that a point must be in."""

    image: Path
    question: str
    answers: list[str]
    box: tuple[float, float, float, float] | None

    def png(self) -> bytes:
        """The image, encoded without loss."""
        buffer = io.BytesIO()
        self.opened().save(buffer, "PNG")
        return buffer.getvalue()

    def opened(self) -> Image.Image:
        """The image, RGB."""
        return open_image(self.image)


def read_rows(path: Path) -> list[LocalRow]:
    """The rows of a file.

    Raises:
        DataError: it cannot be read, a row is not as above, or some rows have answers and others boxes.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    rows = [_row(line, f"{path}:{number}", path.parent) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{path}: no rows")
    if len({row.box is None for row in rows}) > 1:
        raise DataError(f"{path}: rows must all have answers, or all a box; make two sets of them")
    return rows


def known_set(name: str, harness: Harness, rows: list[LocalRow]) -> KnownSet:
    """The rows as a set that a harness can be given."""
    if rows[0].box is None:
        task, metric, source = f"DocVQA_{name}", "Overall", "matches"
    else:
        task, metric, source = f"ScreenSpot_{name}", "Overall_Accuracy", "alone"
    if harness == "lmms-eval":
        metric, source = "anls" if rows[0].box is None else "screenspot_v2_action_acc", "samples"
    kind: Any = "text" if rows[0].box is None else "point"
    return KnownSet(name, harness, task, kind, source, len(rows), metric)  # type: ignore[arg-type]


def to_records(rows: list[LocalRow]) -> list[dict[str, Any]]:
    """As VLMEvalKit's table has them. Its boxes are left, top, width and height, where the last pixel counts."""
    records = []
    for number, row in enumerate(rows):
        image = base64.b64encode(row.png()).decode()
        record: dict[str, Any] = {"index": number, "image": image, "question": row.question}
        if row.box is None:
            record["answer"] = str(row.answers)
        else:
            left, top, right, bottom = row.box
            record |= {
                "bbox": str([left, top, right - left + 1, bottom - top + 1]),
                "image_path": f"{number}.png",
                "data_type": "text",
                "data_source": "local",
            }
        records.append(record)
    return records


def _row(line: str, where: str, folder: Path) -> LocalRow:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("image"), str):
        raise DataError(f"{where}: needs an object with image, question, and answers or box; got {line[:80]!r}")
    if not isinstance(value.get("question"), str) or not value["question"].strip():
        raise DataError(f"{where}: question must be a text; got {value.get('question')!r}")
    answers, box = value.get("answers"), value.get("box")
    if (answers is None) == (box is None):
        raise DataError(f"{where}: give answers, or a box, and not both")
    if answers is not None and (
        not isinstance(answers, list) or not answers or not all(isinstance(each, str) for each in answers)
    ):
        raise DataError(f"{where}: answers must be a list of texts; got {answers!r}")
    if box is not None and (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(each, int | float) for each in box)
        or not (0 <= box[0] <= box[2] and 0 <= box[1] <= box[3])
    ):
        raise DataError(f"{where}: box must be [left, top, right, bottom] in pixels; got {box!r}")
    image = folder / value["image"]
    if not image.is_file():
        raise DataError(f"{where}: there is no image {image}")
    return LocalRow(image, value["question"], answers or [], None if box is None else tuple(box))
