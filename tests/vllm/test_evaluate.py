"""The engines of ``pixelprune evaluate`` answer the same and count the same, for an arm of each kind."""

from __future__ import annotations

import gc

import pytest
from engine_kit import without_llvmlite
from test_reader import QUESTIONS, picture

from pixelprune import reader
from pixelprune.evaluate.answering import Question
from pixelprune.evaluate.arms import Arm
from pixelprune.evaluate.transformers_engine import Loading, TransformersEngine
from pixelprune.evaluate.vllm_engine import VllmEngine

LOADING = Loading(
    str(reader.path()), dtype="float32", device="cpu", options={"enforce_eager": True, "max_model_len": 2048}
)


def asked() -> list[Question]:
    """One question a page, and one about two pages at once."""
    rows = list({row["image"]: row for row in QUESTIONS}.values())
    one = [[{"type": "image", "image": picture(row)}, {"type": "text", "text": row["question"]}] for row in rows]
    two = [one[0][0], one[1][0], one[1][1]]
    return [Question(str(number), [{"role": "user", "content": parts}], 40) for number, parts in enumerate([*one, two])]


@pytest.mark.parametrize("name", ["whole", "exact", "resized"])
def test_vllm_answers_as_transformers_does(name: str) -> None:
    arm, questions = Arm.parse(name), asked()
    oracle = TransformersEngine(LOADING, arm)
    wanted = [reply for question in questions for reply in oracle.answer([question])]
    with without_llvmlite():
        engine = VllmEngine(LOADING, arm)
    try:
        got = engine.answer(questions)
    finally:
        del engine
        gc.collect()
    assert [reply.text for reply in got] == [reply.text for reply in wanted]
    assert [reply.images for reply in got] == [reply.images for reply in wanted]
    ratios = {image.kept / image.total for reply in got for image in reply.images}
    assert ratios == {1.0} if name == "whole" else max(ratios) < 1 and len(got[-1].images) == 2
    # Control: the questions about other pages have other answers.
    assert [reply.text for reply in got] != [reply.text for reply in reversed(wanted)]
