"""Histories: blocks are copied from earlier images of the row, and the model sees the others in their places."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from kit import Kit, crop
from PIL import Image, ImageOps
from test_generate import batch_of, count_patches, new_tokens, single
from test_oracle import close
from transformers import DynamicCache

from pixelprune import PruneConfig, select_sequence
from pixelprune.check import oracle
from pixelprune.errors import ConfigError
from pixelprune.hf.kept import KEPT
from pixelprune.models.resize import ResizeSpec

STEPS = 8


def typed() -> Image.Image:
    """The dark page with a word typed into it, away from its first block."""
    image = crop("dark").copy()
    box = (150, 150, 260, 180)
    image.paste(ImageOps.invert(image.crop(box)), box)
    return image


#: A screenshot, typed into, another page, and back: with ``previous`` the last is whole, with ``any`` one block.
HISTORY = [crop("dark"), typed(), crop("form"), crop("dark")]
WORDS = ("First ", "image", " then ", "image", " then ", "image", " and now ", "image", " What is selected?")


@pytest.fixture(params=["previous", "any"])
def referring(request: pytest.FixtureRequest, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.setattr(kit.processor.image_processor, "prune", PruneConfig(references=request.param))
    return kit


def expected_kept(kit: Kit, images: list[Any], config: PruneConfig) -> list[Any]:
    """What the core keeps of the row, on pixels that the stock image processor's resize gives."""
    resize = ResizeSpec.from_processor(kit.stock.to_dict())
    return list(select_sequence([resize.resize(i) for i in images], config, block_size=resize.block_size).kept_indices)


def full(kit: Kit, text: str, images: list[Any]) -> oracle.FullInputs:
    return kit.full_inputs(text, images, expected_kept(kit, images, kit.processor.prune))


def test_a_history_equals_the_oracle(referring: Kit) -> None:
    kit, text = referring, referring.text(*WORDS)
    inputs = single(kit, text, HISTORY)
    report = kit.processor.last_report
    assert [r.kept < r.alone for r in report] == [False, True, False, kit.processor.prune.references == "any"]
    assert report[1].references == {0: report[1].alone - report[1].kept}
    row = full(kit, text, HISTORY)
    assert [r.kept for r in report] == [len(kept) for kept in row.kept]
    assert 0 not in row.kept[1], "an image that does not keep its first block must be among them"
    with torch.no_grad():
        logits, expected = kit.model(**inputs).logits[0], oracle.logits(kit.model, row)
        assert close(logits, expected, kit.model_type)
        # Controls: one kept block taken for its neighbour; blocks counted from another image's beginning.
        moved = [kept.clone() for kept in row.kept]
        moved[1][-1] += 1 if int(moved[1][-1]) + 1 < report[1].total else -1
        row.kept = moved
        assert not close(logits, oracle.logits(kit.model, row), kit.model_type, factor=10)
    assert new_tokens(kit, inputs) == [oracle.generate(kit.model, full(kit, text, HISTORY), STEPS)]


def rows_of(kit: Kit) -> list[tuple[str, list[Any]]]:
    """The second row begins with the screen that ends the first one."""
    return [
        (kit.text("image", " then ", "image", "?"), [crop("dark"), typed()]),
        (kit.text("image", "What is selected?"), [typed()]),
        (kit.text("Nothing to see."), []),
        (kit.text("image", "-", "image", "-", "image"), [typed(), crop("form"), crop("form")]),
    ]


@pytest.mark.parametrize("side", ["left", "right"])
def test_references_never_cross_rows(referring: Kit, side: str) -> None:
    kit, rows = referring, rows_of(referring)
    batch = batch_of(kit, rows, side)
    reports = kit.processor.last_report
    assert [bool(r.references) for r in reports] == [False, True, False, False, False, True]
    flat = [image for _, images in rows for image in images]
    crossing = expected_kept(kit, flat, kit.processor.prune)
    assert len(crossing[2]) < reports[2].kept, "control: as one sequence, the second row would refer to the first"
    with torch.no_grad():
        logits = kit.model(**batch).logits
        for number, (text, images) in enumerate(rows):
            got = logits[number][batch["attention_mask"][number].bool()]
            if images:
                assert close(got, oracle.logits(kit.model, full(kit, text, images)), kit.model_type, factor=10)
    # Flat lists say nothing of rows; the placeholders do.
    kit.processor.tokenizer.padding_side = side
    again = kit.processor(text=[text for text, _ in rows], images=flat, padding=True, return_tensors="pt")
    kit.processor.tokenizer.padding_side = "left"
    assert all(torch.equal(again[name], batch[name]) for name in batch)


def test_batches_and_beams_equal_one_at_a_time(referring: Kit) -> None:
    kit, rows = referring, rows_of(referring)
    for settings in ({}, {"num_beams": 2}):
        together = new_tokens(kit, batch_of(kit, rows), **settings)
        assert together == [new_tokens(kit, single(kit, *row), **settings)[0] for row in rows]


def test_second_turn_on_a_cache(referring: Kit) -> None:
    """The whole conversation is processed again; what is kept of earlier screens stays, so the cache stays right."""
    kit = referring
    first, second = kit.text("image", "What is this?"), kit.text("And now? ", "image")
    before = single(kit, first, [crop("dark")])
    whole = single(kit, first + second, [crop("dark"), typed()])
    assert len(whole["pixel_values"]) < 1.5 * len(before["pixel_values"])
    assert torch.equal(whole["input_ids"][:, : before["input_ids"].shape[1]], before["input_ids"])
    expected = oracle.generate(kit.model, full(kit, first + second, [crop("dark"), typed()]), STEPS)
    cache = DynamicCache(config=kit.model.config)
    with torch.no_grad():
        kit.model(**before, past_key_values=cache, use_cache=True)
    calls = count_patches(kit)
    assert new_tokens(kit, whole, past_key_values=cache) == [expected]
    assert calls.pop() == len(whole["pixel_values"]) - len(before["pixel_values"])


def chat(*turns: tuple[str, str, Any]) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": [{"type": "image", "image": image}] * bool(image) + [{"type": "text", "text": text}]}
        for role, text, image in turns
    ]


CHATS = [
    chat(("user", "Open it.", crop("dark")), ("assistant", "click", None), ("tool", "screen", typed())),
    chat(("user", "What?", typed())),
]


def test_chats_with_tool_results(qwen3: Kit) -> None:
    def process(chats: Any, **how: Any) -> Any:
        options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "padding": True}
        return qwen3.processor.apply_chat_template(chats, **options, **how)

    alone = process(CHATS)
    together = process(CHATS, references="previous")
    assert [r.references for r in qwen3.processor.last_report][::2] == [{}, {}]
    one = process(CHATS[0], references="previous")
    kept = together[KEPT][0]
    assert (kept > 0).sum() == (one[KEPT] > 0).sum() < (alone[KEPT][0] > 0).sum()
    values, values_alone = together[KEPT][1], alone[KEPT][1]
    assert torch.equal(values[values > 0], values_alone[values_alone > 0]), "the other row's screen is no reference"
    assert qwen3.processor.prune == PruneConfig(), "what a call says holds for that call"


def test_settings_of_a_call(qwen3: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    text, images = qwen3.text("image", "-", "image"), [crop("dark"), typed()]
    at_load = type(qwen3.processor).from_pretrained(qwen3.folder, references="previous")
    at_load.image_processor.size = qwen3.processor.image_processor.size
    expected = at_load(text=text, images=images, return_tensors="pt")
    got = qwen3.processor(text=text, images=images, references="previous", return_tensors="pt")
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    raster = qwen3.processor(text=text, images=images, method="raster", max_tokens=50, return_tensors="pt")
    assert max(r.kept for r in qwen3.processor.last_report) <= 50 and len(raster["input_ids"][0]) < 120
    monkeypatch.setattr(qwen3.processor.image_processor, "prune", None)
    whole = qwen3.processor(text=text, images=images, return_tensors="pt")
    assert KEPT not in whole
    assert KEPT in qwen3.processor(text=text, images=images, threshold=0, return_tensors="pt")
    with pytest.raises(ConfigError, match="a call of the processor: unknown setting 'reference'; did you mean 'refer"):
        qwen3.processor(text=text, images=images, reference="previous")
    with pytest.raises(ConfigError, match=r"a call of the processor: references must be one of none, .*; got 'next'"):
        qwen3.processor(text=text, images=images, references="next")


def test_the_image_processor_alone_does_not_know_rows(referring: Kit) -> None:
    with pytest.raises(ConfigError, match="needs the images of each row; call the processor, with text"):
        referring.processor.image_processor(images=HISTORY)


def test_threads_get_their_own_rows(referring: Kit) -> None:
    kit, rows = referring, [row for row in rows_of(referring) if row[1]]
    expected = [single(kit, *row)["input_ids"].tolist() for row in rows]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda row: single(kit, *row)["input_ids"].tolist(), rows * 4))
    assert got == expected * 4
