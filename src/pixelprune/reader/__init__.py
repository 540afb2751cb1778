"""The bundled reader: a small Qwen3-VL that reads printed pages and screens, offline, on a CPU.

Its folder holds what stock ``AutoModelForImageTextToText.from_pretrained`` and ``AutoTokenizer`` load, and the model
card (``README.md``) that says what it can and cannot read and how it was trained.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from PIL import Image

from ..errors import UnsupportedModelError
from ..models.resize import ResizeSpec

#: Sides of the pages that it was trained on, in pixels.
SIDES = (192, 640)

# The questions that it was trained on, as its model card lists them.
_QUESTIONS = re.compile(
    r"What is .+\?|Read the value of .+\.|In the table, what is the .+ of .+\?"
    r"|Transcribe the line that starts with .+\.|Under .+, which option is (selected|disabled)\?"
    r"|What text is at \[\d+, \d+\]\?|(Click|Point to) .+\."
)


@dataclass(frozen=True)
class Example:
    """A page that the reader was not trained on, a question about it and the right answer."""

    image: Path
    question: str
    answer: str


EXAMPLE = Example(Path(str(files(__package__) / "page.png")), "Under card, which option is selected?", "Cash")


def path() -> Path:
    """The folder of the bundled reader, for ``from_pretrained``.

    Raises:
        UnsupportedModelError: this installation came without the reader's files.
    """
    folder = Path(str(files(__package__) / "model"))
    if not (folder / "model.safetensors").is_file():
        raise UnsupportedModelError("this version comes without a bundled reader; name a model, as in --model FOLDER")
    return folder


def outside_training(images: Sequence[Image.Image], question: str) -> str | None:
    """What about the input is unlike all that the reader was trained on, in a sentence; None if nothing is known to be.

    It cannot tell a real page from a generated one of the same size.
    """
    reasons = []
    least, most = SIDES
    spec = ResizeSpec.for_model(path())
    for image in images:
        if not (least <= min(image.size) and max(image.size) <= most):
            height, width = spec.target_size(image.height, image.width)
            reasons.append(
                f"an image of {image.width} x {image.height} pixels, which it reads at {width} x {height} "
                f"(it was trained on sides of {least} to {most})"
            )
    if not _QUESTIONS.fullmatch(question.strip()):
        reasons.append("a question in words that it was not trained on")
    if not reasons:
        return None
    return f"The answer may well be wrong. The bundled reader was given {'; and '.join(reasons)}."
