"""Rows in both forms, and what is said about rows that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from train_kit import answer, row, user

from pixelprune.errors import DataError
from pixelprune.train import parse_row
from pixelprune.train.rows import parse_line

QUESTION = {"role": "user", "content": "<image>Total?"}
PARTS = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Total?"}]}
ANSWER_PARTS = {"role": "assistant", "content": [{"type": "text", "text": "12"}]}
TURNS = [{"from": "human", "value": "<image>Total?"}, {"from": "gpt", "value": "12"}]
GOOD = [
    row(user("form.png", "Total?"), answer("12")),
    row(QUESTION, answer("12"), images=["form.png"]),
    row(PARTS, answer("12"), image="form.png"),
    row(QUESTION, ANSWER_PARTS, images=[{"path": "form.png"}]),
    {"conversations": TURNS, "images": ["form.png"]},
    {"conversations": [QUESTION, answer("12")], "images": "form.png"},
]


@pytest.mark.parametrize("given", GOOD)
def test_every_form_is_the_same_conversation(given: Any, pictures: Path) -> None:
    conversation = parse_line(json.dumps(given), "a.jsonl:1", pictures)
    assert conversation.messages == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Total?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "12"}]},
    ]
    assert conversation.images == [pictures / "form.png"]
    assert conversation.where == "a.jsonl:1"


def test_images_keep_the_order_of_their_marks(pictures: Path) -> None:
    given = row(
        {"role": "user", "content": "One <image> two <image>."},
        answer("So."),
        user("slide.png", "and"),
        answer("So."),
        {"role": "user", "content": "<image>"},
        answer("so"),
        images=["form.png", "page.png", "dark.png"],
    )
    conversation = parse_row(given, folder=pictures)
    assert [path.stem for path in conversation.images if isinstance(path, Path)] == ["form", "page", "slide", "dark"]
    kinds = [[part["type"] for part in message["content"]] for message in conversation.messages]
    assert kinds[0] == ["text", "image", "text", "image", "text"]


def test_pictures_in_memory_and_a_system_prompt() -> None:
    picture = Image.new("RGB", (64, 64))
    given = {"system": "Be brief.", **row({"role": "user", "content": "<image>?"}, answer("a"), images=[picture])}
    conversation = parse_row(given)
    assert conversation.images == [picture]
    assert conversation.messages[0] == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}


BAD = {
    "broken JSON": ('{"messages": [', "not valid JSON"),
    "no text": (b'\xff\xfe{"messages"', "not valid JSON"),
    "no object": ("[1, 2]", "a row is an object with messages or conversations; got [1, 2]"),
    "neither form": ({"question": "?", "answer": "!"}, "the row has question, answer"),
    "no messages": ({"messages": []}, "messages must be a list of messages; got []"),
    "no content": (row({"role": "user"}), "message 1 must have 'role' and 'content'"),
    "unknown role": (row({"role": "tool", "content": "x"}, answer("a")), "message 1 has role 'tool'; known are"),
    "no answer": (row(user("Total?")), "no answer: no message of the assistant"),
    "ends with a question": (row(user("a"), answer("b"), user("c")), "the last message is of the user"),
    "empty answer": (row(user("a"), answer(" \n")), "message 2: the answer is empty"),
    "missing image": (row(user("gone.png"), answer("a")), "there is no image"),
    "more marks": (
        row({"role": "user", "content": "<image><image>"}, answer("a"), images=["form.png"]),
        "more <image> marks or image parts than images; the row lists 1",
    ),
    "fewer marks": (row(user("Total?"), answer("a"), images=["form.png"]), "1 images but only 0 <image> marks"),
    "image in the answer": (
        row(user("draw"), {"role": "assistant", "content": "<image>"}, images=["form.png"]),
        "message 2: an answer is text; got an image in it",
    ),
    "an address": (row(user("http://a/b.png"), answer("a")), "got the address 'http://a/b.png': download it first"),
    "a sound": (
        row({"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}, answer("a")),
        "message 1: a part must be text, an image or a video",
    ),
    "a video that is missing": (
        row({"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}, answer("a")),
        "there is no video or frame",
    ),
    "a number": (row({"role": "user", "content": 5}, answer("a")), "content must be a text or a list of parts; got 5"),
    "image by number": (
        row(user("<image>"), answer("b"), images=[7]),
        "an image or a video is given by its path; got 7",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows(name: str, pictures: Path) -> None:
    given, message = BAD[name]
    line = given if isinstance(given, (str, bytes)) else json.dumps(given)
    with pytest.raises(DataError) as caught:
        parse_line(line, "a.jsonl:17", pictures)
    assert str(caught.value).startswith("a.jsonl:17: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)
