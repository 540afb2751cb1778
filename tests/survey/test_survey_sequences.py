"""Sequences in a collection are recognised, and what references would save in them is that of the core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelprune import PruneConfig, select_sequence
from pixelprune.core.images import open_image, open_images
from pixelprune.models.resize import ResizeSpec
from pixelprune.survey import ImageRow, Settings, Survey, run, sequences
from pixelprune.survey.advice import of_sequences, summarize
from pixelprune.survey.records import SequenceRow
from pixelprune.survey.report import write_html
from pixelprune.survey.sequences import find_sequences, measure_sequences


def row(name: str, rows: int = 4, cols: int = 5) -> ImageRow:
    return ImageRow(name, "in", name, 0, 9, 9, rows, cols, 1, {"pred2d@0": 9}, 0.0, 0.0, 0.0, 0.0)


def found(*rows: ImageRow) -> list[tuple[str, int]]:
    return [(name, len(members)) for name, members in find_sequences(rows)]


def test_pages_and_numbered_images_are_sequences():
    pages = [row(f"a.pdf#page={number}") for number in (1, 2, 10, 11, 12)]
    frames = [row(f"in/shot_{number:03}.png") for number in (8, 9, 10, 11)]
    assert found(*pages[::-1], *frames) == [("in/shot_….png", 4), ("a.pdf", 3), ("a.pdf", 2)]
    assert found(*(row(f"in/{number}.png") for number in (9, 10, 11))) == [("in/….png", 3)]


@pytest.mark.parametrize(
    "rows",
    [
        [row("a-1.png"), row("a-2.png")],  # a pair of images is no history
        [row("a-1.png"), row("b-2.png"), row("c-3.png")],
        [row("a/1.png"), row("b/2.png"), row("c/3.png")],
        [row("a-1.png"), row("a-3.png"), row("a-5.png")],
        [row(f"t.parquet#row={number}") for number in range(1, 9)],
        [row("a.pdf#page=1"), row("a.pdf#page=3")],
        [row("a.pdf#page=1"), row("a.pdf#page=2", cols=6)],
        [row("a.pdf#page=1"), row("b.pdf#page=2")],
        [row("plain.png")],
    ],
)
def test_other_images_are_not(rows):
    assert found(*rows) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four numbered frames, of which each adds a noisy block to the one before, and a PDF of two pages."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (160, 160, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    (tmp_path / "history").mkdir()
    for number in range(8, 12):
        image[:32, 32 * number - 256 : 32 * number - 224] = generator.integers(0, 256, (32, 32, 3))
        Image.fromarray(image).save(tmp_path / "history" / f"screen {number}.png")
    pages = [Image.fromarray(image), Image.fromarray(image)]
    pages[0].save(tmp_path / "report.pdf", save_all=True, append_images=pages[1:], resolution=150)
    return tmp_path


def expected(images: list[Image.Image]) -> tuple[int, int]:
    pixels = [ResizeSpec.for_model("Qwen3-VL-2B").resize(image) for image in images]
    chosen = select_sequence(pixels, PruneConfig(references="previous"))
    return sum(each.num_kept for each in chosen.alone), chosen.num_kept


def test_numbers_are_those_of_the_core(folder, tmp_path):
    survey = run([str(folder)], Settings(), workers=1)
    frames, pages = survey.sequences
    history = [open_image(folder / "history" / f"screen {number}.png") for number in range(8, 12)]
    assert (frames.name, frames.images, frames.measured) == (str(folder / "history" / "screen ….png"), 4, 4)
    assert (frames.alone, frames.referring) == expected(history) and frames.referring < frames.alone / 2
    assert frames.saved == 1 - frames.referring / frames.alone
    assert pages.name == str(folder / "report.pdf")
    assert (pages.alone, pages.referring) == expected([image for _, image in open_images(folder / "report.pdf")])
    assert pages.referring == pages.alone // 2 + 1
    line = of_sequences(survey.sequences)
    saved = 1 - (frames.referring + pages.referring) / (frames.alone + pages.alone)
    assert line == (
        f'references="previous" would save {saved:.1%} of the blocks kept of 6 images that follow each other. '
        "Accuracy with references is unproven: measure it on your own task first."
    )
    assert summarize(survey)["sequences"] == line
    assert Survey.from_json(survey.to_json()) == survey
    write_html(survey, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "<td>4</td><td>4</td>" in html and f"<td>{frames.referring}</td><td>{frames.saved:.1%}</td>" in html
    assert "Accuracy with references is unproven" in html
    write_html(replace(survey, sequences=[]), tmp_path / "none.html")
    assert 'id="sequences"' not in (tmp_path / "none.html").read_text(), "control"


def test_not_more_than_a_few_images_are_read_again(folder, monkeypatch):
    monkeypatch.setattr(sequences, "MOST_MEASURED", 3)
    survey = run([str(folder)], Settings(), workers=1)
    assert [(each.images, each.measured) for each in survey.sequences] == [(4, 3), (2, 2)]
    monkeypatch.setattr(sequences, "MOST_IN_ALL", 4)
    assert [each.measured for each in measure_sequences(survey).sequences] == [3]
    (folder / "history" / "screen 9.png").unlink()
    assert [each.name for each in measure_sequences(survey).sequences] == []


def test_advice_without_sequences_and_where_they_save_nothing():
    assert of_sequences([]) is None
    said = of_sequences([SequenceRow("a.pdf", 3, 3, 100, 50, 48)])
    assert said is not None and "would save 4.0% of the blocks kept of 3 of them. Leave them off." in said
