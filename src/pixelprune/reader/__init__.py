"""The bundled reader: a small Qwen3-VL that reads printed pages and screens, offline, on a CPU.

Its folder holds what stock ``AutoModelForImageTextToText.from_pretrained`` and ``AutoTokenizer`` load, and the model
card (``README.md``) that says what it can and cannot read and how it was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ..errors import UnsupportedModelError


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
