"""The pruned processor is called in every way the stock one is, and returns its output with pruned images."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from stock import (
    DARK,
    FORM,
    HOLE,
    NONE,
    ONE,
    PAGE,
    SLIDE,
    TWO,
    Twins,
    check,
    lists,
    make_twins,
    noise,
    positions_of,
    shortened,
    spots,
    unpadded,
)
from transformers import AutoConfig, AutoModelForImageTextToText

from pixelprune.hf import FAMILIES, PrunedProcessor
from pixelprune.hf.kept import KEPT


# Each of the stock processor classes; the families differ in their positions only.
@pytest.fixture(scope="session", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return make_twins(request.param, tmp_path_factory.mktemp("twins"))


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return make_twins(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return make_twins("qwen3_vl", tmp_path_factory.mktemp("qwen3"))


CALLS: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "keywords": (lambda p: p(text=[ONE], images=[FORM], padding=True, return_tensors="pt"), [FORM]),
    "positional": (lambda p: p([FORM], [ONE], return_tensors="pt"), [FORM]),
    "bare text and image": (lambda p: p(text=ONE, images=FORM, return_tensors="pt"), [FORM]),
    "flat images": (
        lambda p: p(text=[ONE, TWO], images=[FORM, DARK, PAGE], padding=True, return_tensors="pt"),
        [FORM, DARK, PAGE],
    ),
    "nested images": (
        lambda p: p(text=[TWO, NONE, ONE], images=[[FORM, DARK], [], [PAGE]], padding=True, return_tensors="pt"),
        [FORM, DARK, PAGE],
    ),
    "path": (lambda p: p(text=ONE, images=str(SLIDE), return_tensors="pt"), [str(SLIDE)]),
    "numpy": (lambda p: p(text=[ONE, ONE], images=[FORM, DARK], padding=True, return_tensors="np"), [FORM, DARK]),
    "lists, padded": (lambda p: p(text=[ONE, NONE], images=[FORM], padding=True), [FORM]),
    "lists, ragged": (lambda p: p(text=[ONE, NONE, TWO], images=[FORM, PAGE, DARK]), [FORM, PAGE, DARK]),
    "nested settings": (
        lambda p: p(
            text=[ONE, NONE],
            images=[FORM],
            text_kwargs={"padding": True, "padding_side": "right"},
            images_kwargs={"do_normalize": True},
            common_kwargs={"return_tensors": "pt"},
        ),
        [FORM],
    ),
    "offsets": (
        lambda p: p(text=[ONE], images=[FORM], return_offsets_mapping=True, return_tensors="pt"),
        [FORM],
    ),
}


@pytest.mark.parametrize("style", CALLS)
def test_call_styles(twins: Twins, style: str) -> None:
    call, images = CALLS[style]
    check(twins, call, images)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("length", ["longest", "max_length", "multiple"])
def test_padding(twins: Twins, side: str, length: str) -> None:
    """Rows with two, no and one image of several sizes; padding goes where and as far as asked."""
    how = {
        "longest": {"padding": True},
        "max_length": {"padding": "max_length", "max_length": 700},
        "multiple": {"padding": True, "pad_to_multiple_of": 64},
    }[length]
    call = partial(
        lambda p, **k: p(text=[TWO, NONE, ONE], images=[FORM, DARK, PAGE], return_tensors="pt", **k),
        padding_side=side,
        **how,
    )
    _, pruned = check(twins, call, [FORM, DARK, PAGE])
    lengths = [len(unpadded(pruned, row)) for row in range(3)]
    width = {"longest": max(lengths), "max_length": 700, "multiple": -(-max(lengths) // 64) * 64}[length]
    ones = [[1] * n for n in lengths]
    pads = [[0] * (width - n) for n in lengths]
    masks = [p + o if side == "left" else o + p for p, o in zip(pads, ones, strict=True)]
    assert pruned["attention_mask"].tolist() == masks
    assert pruned[KEPT].shape == (3, width)


def test_padding_side_of_the_tokenizer(qwen3: Twins) -> None:
    pruned = copy.deepcopy(qwen3.pruned)
    for side in ("right", "left"):
        pruned.tokenizer.padding_side = side
        batch = pruned(text=[NONE, ONE], images=[FORM], padding=True, return_tensors="pt")
        assert batch["attention_mask"][0, 0] == (side == "right")
        assert np.array_equal(positions_of(pruned, batch)[0], np.tile(np.arange(len(NONE)), (4, 1)))


def test_ragged_rows_as_arrays(qwen3: Twins) -> None:
    """The stock processor returns an array of lists; so is what travels like it."""
    batch = qwen3.pruned(text=[ONE, NONE], images=[FORM], return_tensors="np")
    padded = qwen3.pruned(text=[ONE, NONE], images=[FORM], padding=True, return_tensors="np")
    for row in range(2):
        assert list(batch["input_ids"][row]) == unpadded(padded, row)
        assert batch[KEPT][row] == unpadded(padded, row, KEPT)


def message(*images: Any, text: str = "Read this", key: str = "image") -> list[dict[str, Any]]:
    content = [{"type": "image", key: image} for image in images]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


CHATS: dict[str, tuple[Any, list[Any], dict[str, Any]]] = {
    "PIL": (message(FORM), [FORM], {"return_tensors": "pt", "add_generation_prompt": True}),
    "two images": (message(FORM, PAGE), [FORM, PAGE], {"return_tensors": "pt"}),
    "image: path": (message(str(SLIDE)), [str(SLIDE)], {"return_tensors": "pt"}),
    "path": (message(str(SLIDE), key="path"), [str(SLIDE)], {"return_tensors": "pt"}),
    "url": (message(str(SLIDE), key="url"), [str(SLIDE)], {"return_tensors": "pt"}),
    "numpy": (message(FORM), [FORM], {"return_tensors": "np"}),
    "lists": (message(FORM), [FORM], {}),
    "turns": (
        [*message(FORM), {"role": "assistant", "content": "A form."}, *message(DARK, text="And this?")],
        [FORM, DARK],
        {"return_tensors": "pt"},
    ),
    "batch": (
        [message(FORM, DARK), [{"role": "user", "content": "hello"}], message(PAGE)],
        [FORM, DARK, PAGE],
        {"return_tensors": "pt", "processor_kwargs": {"padding": True}},
    ),
    "continue": (
        [*message(FORM), {"role": "assistant", "content": [{"type": "text", "text": "The total"}]}],
        [FORM],
        {"return_tensors": "pt", "continue_final_message": True},
    ),
}


@pytest.mark.parametrize("style", CHATS)
def test_apply_chat_template(twins: Twins, style: str) -> None:
    conversation, images, settings = CHATS[style]

    def call(processor: Any) -> Any:
        return processor.apply_chat_template(
            copy.deepcopy(conversation), tokenize=True, return_dict=True, **copy.deepcopy(settings)
        )

    check(twins, call, images)


def test_apply_chat_template_openai_style(qwen3: Twins) -> None:
    conversation = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": str(SLIDE)}}]}]
    check(
        qwen3,
        lambda p: p.apply_chat_template(conversation, tokenize=True, return_dict=True, return_tensors="pt"),
        [str(SLIDE)],
    )


def test_apply_chat_template_without_dict_or_tokens(qwen3: Twins) -> None:
    stock, pruned = qwen3.stock, qwen3.pruned
    prompt = pruned.apply_chat_template(message(FORM))
    assert prompt == stock.apply_chat_template(message(FORM)) and prompt.count("<|image_pad|>") == 1
    ids = pruned.apply_chat_template(message(FORM), tokenize=True, return_tensors="pt")
    assert torch.equal(ids, pruned(text=[prompt], images=[FORM], return_tensors="pt")["input_ids"])


def test_assistant_mask(qwen3: Twins) -> None:
    """The mask for training on answers marks the same words, although the image before them is shorter."""
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        + HOLE
        + "{% elif m['role'] == 'assistant' %}{% generation %}{{ c['text'] }}{% endgeneration %}"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    answer = [{"role": "assistant", "content": [{"type": "text", "text": "a form"}]}]
    words = {}
    for name, processor in (("stock", qwen3.stock), ("pruned", qwen3.pruned)):
        batch = processor.apply_chat_template(
            message(FORM) + answer,
            chat_template=template,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            return_assistant_tokens_mask=True,
        )
        words[name] = processor.decode(batch["input_ids"][0][batch["assistant_masks"][0].bool()])
    assert words == {"stock": "a form", "pruned": "a form"}


@pytest.mark.parametrize("kind", ["pt", "np", None])
def test_text_alone_is_the_stock_output(twins: Twins, kind: str | None) -> None:
    for text in ([NONE, "hi"], NONE):
        stock = twins.stock(text=text, padding=True, return_tensors=kind)
        pruned = twins.pruned(text=text, padding=True, return_tensors=kind)
        assert list(pruned) == list(stock)
        assert all(type(pruned[k]) is type(stock[k]) and lists(pruned[k]) == lists(stock[k]) for k in stock)
    assert twins.pruned.last_report == []


def test_decoding(qwen3: Twins) -> None:
    batch = qwen3.pruned(text=[ONE], images=[FORM], return_tensors="pt")
    kept = qwen3.pruned.last_report[0].kept
    whole = ONE.replace("<|image_pad|>", "<|image_pad|>" * kept)
    assert qwen3.pruned.batch_decode(batch["input_ids"]) == [whole]
    assert qwen3.pruned.decode(batch["input_ids"][0]) == whole
    decoded = qwen3.pruned.post_process_image_text_to_text(batch["input_ids"])
    assert decoded == ["What is ?"] == qwen3.stock.post_process_image_text_to_text(batch["input_ids"])


def test_positions_of_a_page_with_known_blocks(family: Twins) -> None:
    """Counted by hand: a kept token has its place in the grid, and text continues where it would have continued."""
    image, kept = spots(family.cell, 4, 6, [(1, 2), (2, 4)])
    before, after = "ab", "cde"
    batch = family.pruned(text=[family.text(before + HOLE + after)], images=[image], return_tensors="pt")
    assert family.pruned.last_report[0].kept == len(kept) == 7
    start = len(before) + 1
    tokens = [(i, i, i) for i in range(start)]
    tokens += [(start, start + k // 6, start + k % 6) for k in kept]
    tokens += [(i, i, i) for i in range(start + 6, start + 6 + 1 + len(after))]
    positions = family.pruned.position_ids(batch)
    assert positions[1:, 0].T.tolist() == [list(t) for t in tokens]
    assert positions[0, 0].tolist() == list(range(len(tokens)))
    assert [value - 1 for value in batch[KEPT][0].tolist() if value] == kept


def test_each_row_has_its_own_positions(family: Twins) -> None:
    """Two rows with equal grids and counts, which differ only in the places of their kept blocks."""
    (first, kept_first), (second, kept_second) = (
        spots(family.cell, 4, 6, places) for places in ([(1, 2), (2, 4)], [(0, 3), (2, 1)])
    )
    assert len(kept_first) == len(kept_second)
    texts = [family.text(ONE)] * 2
    call = partial(lambda p: p(text=texts, images=[first, second], padding=True, return_tensors="pt"))
    stock, pruned = check(family, call, [first, second])
    grids = stock["image_grid_thw"]
    for row, (own, other) in enumerate(((kept_first, kept_second), (kept_second, kept_first))):
        ids, positions = unpadded(stock, row), positions_of(family.pruned, pruned)[row]
        token = family.stock.image_token_id
        assert np.array_equal(positions, shortened(ids, token, grids[row], [own])[1])
        assert not np.array_equal(positions, shortened(ids, token, grids[row], [other])[1])
        shifted = [own[0], *(index + 1 for index in own[1:])]
        assert not np.array_equal(positions, shortened(ids, token, grids[row], [shifted])[1])


def test_nothing_pruned_has_the_models_positions(family: Twins) -> None:
    images = [noise(4 * family.cell, 3 * family.cell), noise(2 * family.cell, 5 * family.cell)]
    settings = {"text": [family.text(TWO), NONE], "images": images, "padding": True, "return_tensors": "pt"}
    stock, pruned = family.stock(**settings), family.pruned(**settings)
    assert [report.retain_ratio for report in family.pruned.last_report] == [1, 1]
    assert all(torch.equal(pruned[key], stock[key]) for key in stock)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(family.folder))
    keys = ("input_ids", "attention_mask", "mm_token_type_ids", "image_grid_thw")
    expected, _ = model.base_model.get_rope_index(**{key: stock[key] for key in keys})
    mask = stock["attention_mask"].bool()
    positions = family.pruned.position_ids(pruned)
    assert torch.equal(positions[1:, mask], expected[:, mask])
    assert not torch.equal(positions[1:, mask], expected.roll(1, dims=2)[:, mask])
    # The stock output, in which nothing says what is kept, has the same ones.
    assert torch.equal(family.pruned.position_ids(stock), positions)


def test_is_a_stock_processor(family: Twins) -> None:
    pruned = family.pruned
    assert isinstance(pruned, PrunedProcessor)
    assert isinstance(pruned, type(family.stock).__mro__[1])
    assert type(pruned).__name__ == FAMILIES[family.model_type].processor
    assert pruned.model_input_names == family.stock.model_input_names
    assert "prune" not in json.loads(pruned.to_json_string())["image_processor"]
    assert repr(pruned).startswith(FAMILIES[family.model_type].processor)


def test_images_of_every_kind(qwen3: Twins) -> None:
    """One batch with all that the stock processor takes as an image."""
    array = np.asarray(FORM)
    images = [FORM, array, array.transpose(2, 0, 1), torch.from_numpy(array.copy()), FORM.convert("RGBA")]
    batch = qwen3.pruned(text=[HOLE + ","] * 5, images=images, padding=True, return_tensors="pt")
    rows = batch["pixel_values"].chunk(5)
    assert all(torch.equal(row, rows[0]) for row in rows)
    assert not torch.equal(rows[0], qwen3.pruned(text=ONE, images=DARK, return_tensors="pt")["pixel_values"])
