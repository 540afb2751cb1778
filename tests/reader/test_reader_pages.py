"""Generated pages: what is asked is on the page, once, where the box says, and the same seed gives the same page."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pixelprune.train.rows import parse_line
from recipes.tiny_reader import canvas, conversation, data, dense, fonts, pages, tasks

SIZES = [(96, 96), (384, 384), (512, 320), (700, 900)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_questions_can_be_answered_from_the_page(size, split):
    for seed in range(12):
        sheet = pages.page(random.Random(seed), *size, split)
        texts = [text for text, _ in sheet.elements]
        assert sheet.questions
        for question in sheet.questions:
            if question.task == "point":
                at = tasks.parse_point(question.answer)
                assert at is not None
                assert tasks.right(question, question.answer, *size)
            else:
                assert question.answer in texts
            assert all(character == " " or character in canvas.LABEL for character in question.answer)


def test_a_question_has_one_answer():
    for seed in range(40):
        sheet = pages.page(random.Random(seed), 512, 512)
        answers: dict[str, set[str]] = {}
        for question in sheet.questions:
            answers.setdefault(question.text.lower(), set()).add(question.answer)
        doubtful = [text for text, found in answers.items() if len(found) > 1]
        assert not doubtful


def test_text_is_drawn_inside_its_box():
    """Blank the boxes of all texts: no dark pixel of text is left outside on a page of text alone."""
    sheet = canvas.Canvas(400, 200, (255, 255, 255))
    for index, family in enumerate(fonts.TRAIN):
        box = sheet.text(10, 4 + index * 21, "Agjpqy 1,234.50", canvas.Face(family, 15))
        ImageDraw.Draw(sheet.image).rectangle((box[0] - 1, box[1], box[2] + 1, box[3]), fill=(255, 255, 255))
    assert (np.asarray(sheet.image) == 255).all()


def test_labels_stand_where_the_characters_are():
    sheet = canvas.Canvas(64, 32, (255, 255, 255))
    sheet.text(2, 0, "ab", canvas.Face("Liberation Sans", 12))
    labels = sheet.labels()
    assert labels.shape == (2, 4, canvas.SLOTS)
    assert labels[0, 0].tolist() == [canvas.LABEL["a"], canvas.LABEL["b"], 0, 0]
    assert not labels[0, 1:].any()
    assert not labels[1:].any()


def test_resizing_moves_boxes_and_labels_along():
    sheet = pages.page(random.Random(3), 320, 320)
    box = next(q.box for q in sheet.questions if q.task == "point")
    before = len(sheet.glyphs)
    sheet.resized(640, 160)
    after = next(q.box for q in sheet.questions if q.task == "point")
    assert after == pytest.approx((box[0] * 2, box[1] / 2, box[2] * 2, box[3] / 2))
    assert sheet.image.size == (640, 160)
    assert len(sheet.glyphs) == before


def test_the_seed_decides():
    first, again = (conversation.make(5, 3, 160, 128, 4) for _ in range(2))
    other = conversation.make(6, 3, 160, 128, 4)
    for name in ("images", "kept", "characters", "ids", "wanted", "segment", "positions", "task"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.images, other.images)
    # Pruning takes blocks away and nothing else.
    pruned = conversation.make(5, 3, 160, 128, 4, pruned=1.0)
    assert np.array_equal(first.images, pruned.images)
    assert (first.kept >= 0).all() and (pruned.kept >= 0).sum() < first.kept.size
    assert all(np.array_equal(a, b) for a, b in zip(dense.batch(1, 2, 64, 64), dense.batch(1, 2, 64, 64), strict=True))


def test_shares_say_how_often_a_task_is_drawn():
    questions = [tasks.Question(task, "", "") for task in ("value", "text", "point") for _ in range(2)]
    sheet = pages.Page(64, 64, (255, 255, 255), questions=questions)

    def drawn(shares):
        return Counter(conversation.choose(sheet, random.Random(seed), 1, shares)[0].task for seed in range(600))

    even, uneven = drawn(None), drawn({"value": 1, "text": 2, "point": 3})
    assert all(150 < even[task] < 250 for task in ("value", "text", "point"))
    assert 70 < uneven["value"] < 130 < 150 < uneven["text"] < 250 < uneven["point"] < 350
    assert len(conversation.choose(sheet, random.Random(0), 20, {"value": 1, "text": 2, "point": 3})) == 6


def test_rows_for_training_ask_one_question_each(tmp_path):
    data.write(tmp_path, 2, 1, "train", (192, 256), 3)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    rows = [parse_line(line, f"row {number}", tmp_path) for number, line in enumerate(lines)]
    assert len({row.images[0] for row in rows}) == 2 < len(rows) <= 6
    assert [[message["role"] for message in row.messages] for row in rows] == [["user", "assistant"]] * len(rows)


def test_held_out_fonts_are_held_out():
    assert not set(fonts.TRAIN) & set(fonts.TEST)
    rng = random.Random(0)
    drawn = {canvas.face(rng, "test", (0, 0, 0)).family for _ in range(200)}
    assert drawn == set(fonts.TEST)


def test_judging():
    reading = tasks.Question("value", "What is the total?", "$12.50")
    assert tasks.right(reading, " $12.50 ", 100, 100)
    assert not tasks.right(reading, "$12.5", 100, 100)
    click = tasks.Question("point", "Click OK.", "", (10, 10, 30, 20))
    assert tasks.right(click, '{"point_2d": [200, 150]}', 100, 100)
    assert not tasks.right(click, '{"point_2d": [500, 150]}', 100, 100)
    assert not tasks.right(click, "somewhere", 100, 100)


def test_missing_fonts_are_named(monkeypatch):
    monkeypatch.setattr(fonts, "_files", dict)
    fonts.available.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"Inter-Regular\.otf.*apt-get install"):
        fonts.available("test")
    fonts.available.cache_clear()


def test_noise_of_jpeg_is_small():
    sheet = pages.page(random.Random(1), 256, 256)
    before = np.asarray(sheet.image).astype(int)
    sheet.compressed(90)
    assert isinstance(sheet.image, Image.Image)
    assert 0 < np.abs(np.asarray(sheet.image).astype(int) - before).mean() < 4
