"""The bundled reader's files, and what it says of input that is unlike its training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pixelprune import reader
from pixelprune.core.images import open_image
from pixelprune.errors import UnsupportedModelError

PAGES = Path(__file__).parents[2] / "examples" / "pages"


def test_a_missing_reader_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(reader, "files", lambda _: tmp_path)
    with pytest.raises(UnsupportedModelError, match="without a bundled reader; name a model"):
        reader.path()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    assert reader.path() == tmp_path / "model"


def test_it_says_when_the_input_is_unlike_its_training() -> None:
    fine = open_image(reader.EXAMPLE.image)
    assert reader.outside_training([fine], reader.EXAMPLE.question) is None
    questions = json.loads((PAGES / "questions.json").read_text())
    assert all(
        reader.outside_training([open_image(PAGES / row["image"])], row["question"]) is None for row in questions
    )
    doubt = reader.outside_training([Image.new("RGB", (1275, 1650))], "Who wrote this?")
    assert doubt is not None and "1275 x 1650 pixels, which it reads at 544 x 704" in doubt
    assert "a question in words" in doubt
