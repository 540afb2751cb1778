"""The pruned processor is called in every way the stock one is, and returns its output with pruned images."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stock import (
    IMAGES,
    SIZE,
    Twins,
    kept_rows,
    load_stock,
    make_twins,
    noise,
    picture,
    selection_of,
    shortened,
    spots,
)
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, BatchFeature

from pixelprune import PruneConfig
from pixelprune.errors import ConfigError, ImageError, PrunedInputError, UnsupportedModelError
from pixelprune.hf import FAMILIES, ImageReport, PrunedProcessor

FORM = picture("tax-form.png", 40, 60, 440, 300)
DARK = picture("dashboard-dark.png", 200, 0, 500, 360)
PAGE = picture("docs-page.png", 300, 100, 780, 420)
SLIDE = IMAGES / "slide.png"
HOLE = "<|vision_start|><|image_pad|><|vision_end|>"
ONE, TWO, NONE = f"What is {HOLE}?", f"{HOLE} or {HOLE}?", "No image here"


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


def lists(values: Any) -> list[Any]:
    return [row if isinstance(row, list) else row.tolist() for row in values]


def unpadded(batch: Any, row: int) -> tuple[list[int], np.ndarray]:
    """Tokens and, if there are any, positions of a row where its mask is set."""
    mask = np.asarray(lists(batch["attention_mask"])[row], bool)
    ids = np.asarray(lists(batch["input_ids"])[row])[mask].tolist()
    positions = np.asarray([lists(axis)[row] for axis in batch.get("position_ids", [])])
    return ids, positions[:, mask] if len(positions) else positions


def images_per_row(twins: Twins, batch: Any) -> list[int]:
    """How many images each row has: its runs of image tokens."""
    token = twins.stock.image_token_id
    rows = lists(batch["input_ids"])
    return [sum(a == token != b for a, b in zip(row, [*row[1:], None], strict=True)) for row in rows]


def check(
    twins: Twins, call: Callable[[Any], Any], images: list[Any], config: PruneConfig | None = None
) -> tuple[BatchFeature, BatchFeature]:
    """Call both processors and compare everything; return both outputs."""
    stock, pruned = call(twins.stock), call(twins.pruned)
    image_processor = twins.stock.image_processor
    selections = [selection_of(image_processor, image, config or twins.pruned.prune) for image in images]
    assert any(selection.num_kept < selection.num_blocks for selection in selections)
    assert set(pruned) == {*stock, "position_ids"}
    for key in stock:
        assert type(pruned[key]) is type(stock[key]), key
        assert getattr(pruned[key], "dtype", None) == getattr(stock[key], "dtype", None), key
    assert type(pruned["position_ids"]) is type(pruned["input_ids"])
    assert np.array_equal(pruned["image_grid_thw"], stock["image_grid_thw"])
    rows = kept_rows(selections)
    assert np.abs(np.asarray(pruned["pixel_values"]) - np.asarray(stock["pixel_values"])[rows]).max() <= 1e-6

    first = 0
    token = twins.stock.image_token_id
    for row, number in enumerate(images_per_row(twins, stock)):
        mine = slice(first, first + number)
        kept = [selection.kept_indices for selection in selections[mine]]
        ids, _ = unpadded(stock, row)
        expected, where = shortened(ids, token, np.asarray(stock["image_grid_thw"])[mine], kept)
        got, positions = unpadded(pruned, row)
        assert got == expected, f"tokens of row {row}"
        assert np.array_equal(positions, where), f"positions of row {row}"
        assert not np.array_equal(positions, where + 1)
        first += number
    assert first == len(images)
    types = [[int(i == token) for i in row] for row in lists(pruned["input_ids"])]
    assert lists(pruned["mm_token_type_ids"]) == types
    return stock, pruned


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
    lengths = [len(unpadded(pruned, row)[0]) for row in range(3)]
    width = {"longest": max(lengths), "max_length": 700, "multiple": -(-max(lengths) // 64) * 64}[length]
    ones = [[1] * n for n in lengths]
    pads = [[0] * (width - n) for n in lengths]
    masks = [p + o if side == "left" else o + p for p, o in zip(pads, ones, strict=True)]
    assert pruned["attention_mask"].tolist() == masks
    assert pruned["position_ids"].shape == (4, 3, width)


def test_padding_side_of_the_tokenizer(qwen3: Twins) -> None:
    pruned = copy.deepcopy(qwen3.pruned)
    for side in ("right", "left"):
        pruned.tokenizer.padding_side = side
        batch = pruned(text=[NONE, ONE], images=[FORM], padding=True, return_tensors="pt")
        assert batch["attention_mask"][0, 0] == (side == "right")
        assert np.array_equal(unpadded(batch, 0)[1], np.tile(np.arange(len(NONE)), (4, 1)))


def test_ragged_rows_as_arrays(qwen3: Twins) -> None:
    """The stock processor returns an array of lists; positions are then plain lists."""
    batch = qwen3.pruned(text=[ONE, NONE], images=[FORM], return_tensors="np")
    padded = qwen3.pruned(text=[ONE, NONE], images=[FORM], padding=True, return_tensors="np")
    for row in range(2):
        assert list(batch["input_ids"][row]) == unpadded(padded, row)[0]
        assert np.array_equal([axis[row] for axis in batch["position_ids"]], unpadded(padded, row)[1])


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
    """Counted by hand: a kept token has its place in the grid, and text goes on where it would have gone on."""
    image, kept = spots(family.cell, 4, 6, [(1, 2), (2, 4)])
    before, after = "ab", "cde"
    batch = family.pruned(text=[before + HOLE + after], images=[image], return_tensors="pt")
    assert family.pruned.last_report[0].kept == len(kept) == 7
    start = len(before) + 1
    tokens = [(i, i, i) for i in range(start)]
    tokens += [(start, start + k // 6, start + k % 6) for k in kept]
    tokens += [(i, i, i) for i in range(start + 6, start + 6 + 1 + len(after))]
    assert batch["position_ids"][1:, 0].T.tolist() == [list(t) for t in tokens]
    assert batch["position_ids"][0, 0].tolist() == list(range(len(tokens)))


def test_each_row_has_its_own_positions(family: Twins) -> None:
    """Two rows with equal grids and counts, which differ only in the places of their kept blocks."""
    (first, kept_first), (second, kept_second) = (
        spots(family.cell, 4, 6, places) for places in ([(1, 2), (2, 4)], [(0, 3), (2, 1)])
    )
    assert len(kept_first) == len(kept_second)
    call = partial(lambda p: p(text=[ONE, ONE], images=[first, second], padding=True, return_tensors="pt"))
    stock, pruned = check(family, call, [first, second])
    grids = stock["image_grid_thw"]
    for row, (own, other) in enumerate(((kept_first, kept_second), (kept_second, kept_first))):
        ids, _ = unpadded(stock, row)
        _, positions = unpadded(pruned, row)
        token = family.stock.image_token_id
        assert np.array_equal(positions, shortened(ids, token, grids[row], [own])[1])
        assert not np.array_equal(positions, shortened(ids, token, grids[row], [other])[1])
        shifted = [own[0], *(index + 1 for index in own[1:])]
        assert not np.array_equal(positions, shortened(ids, token, grids[row], [shifted])[1])


def test_nothing_pruned_has_the_models_positions(family: Twins) -> None:
    images = [noise(4 * family.cell, 3 * family.cell), noise(2 * family.cell, 5 * family.cell)]
    settings = {"text": [TWO, NONE], "images": images, "padding": True, "return_tensors": "pt"}
    stock, pruned = family.stock(**settings), family.pruned(**settings)
    assert [report.retain_ratio for report in family.pruned.last_report] == [1, 1]
    assert all(torch.equal(pruned[key], stock[key]) for key in stock)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(family.folder))
    keys = ("input_ids", "attention_mask", "mm_token_type_ids", "image_grid_thw")
    expected, _ = model.base_model.get_rope_index(**{key: stock[key] for key in keys})
    mask = stock["attention_mask"].bool()
    assert torch.equal(pruned["position_ids"][1:, mask], expected[:, mask])
    assert not torch.equal(pruned["position_ids"][1:, mask], expected.roll(1, dims=2)[:, mask])


def test_last_report(twins: Twins) -> None:
    pruned = copy.deepcopy(twins.pruned)
    for config in (PruneConfig(), PruneConfig("adaptive", threshold=0.05), PruneConfig(metric="mae", threshold=0.02)):
        pruned.prune = config
        pruned(text=[TWO], images=[FORM, DARK])
        assert [type(report) for report in pruned.last_report] == [ImageReport, ImageReport]
        for image, report in zip((FORM, DARK), pruned.last_report, strict=True):
            selection = selection_of(twins.stock.image_processor, image, config)
            assert (report.total, report.kept) == (selection.num_blocks, selection.num_kept)
            assert report.retain_ratio == selection.retain_ratio
            assert (report.method, report.threshold) == (config.method, config.threshold)
            assert report.selection_ms > 0


def test_settings_can_be_switched_off(twins: Twins) -> None:
    """``None`` gives the stock output, with positions."""
    pruned = copy.deepcopy(twins.pruned)
    pruned.prune = None
    for kind in ("pt", "np", None):
        settings = {**SETTINGS, "return_tensors": kind}
        stock, batch = twins.stock(**settings), pruned(**settings)
        assert set(batch) == {*stock, "position_ids"}
        assert all(np.array_equal(batch[key], stock[key]) for key in stock)
    grids = iter(stock["image_grid_thw"])
    for row, number in enumerate((2, 1)):
        own = [next(grids) for _ in range(number)]
        every = [range(int(grid.prod()) // 4) for grid in own]
        ids, where = shortened(unpadded(stock, row)[0], twins.stock.image_token_id, own, every)
        assert unpadded(batch, row)[0] == ids
        assert np.array_equal(unpadded(batch, row)[1], where)
    assert [(report.method, report.kept) for report in pruned.last_report] == [
        ("none", int(grid.prod()) // 4) for grid in stock["image_grid_thw"]
    ]
    assert not same(twins.pruned(**SETTINGS), pruned(**SETTINGS))


def test_settings_change_between_calls(qwen3: Twins) -> None:
    pruned = copy.deepcopy(qwen3.pruned)
    counts = []
    for config in (PruneConfig(), PruneConfig(threshold=0.2), PruneConfig("random", seed=1), PruneConfig()):
        pruned.prune = config
        assert pruned.prune == config
        changed = Twins(qwen3.model_type, qwen3.folder, qwen3.stock, pruned)
        check(changed, lambda p: p(text=ONE, images=PAGE, return_tensors="pt"), [PAGE], config)
        counts.append(pruned.last_report[0].kept)
    assert counts[1] < counts[0] == counts[2] == counts[3]


def test_settings_at_load(qwen3: Twins) -> None:
    config = PruneConfig("raster", "rmse", 0.1, False, None, 7)
    pruned = PrunedProcessor.from_pretrained(
        qwen3.folder, method="raster", metric="rmse", threshold=0.1, anchored=False, seed=7, size=SIZE
    )
    assert pruned.prune == config
    loaded = Twins(qwen3.model_type, qwen3.folder, qwen3.stock, pruned)
    check(loaded, lambda p: p(text=ONE, images=PAGE, return_tensors="pt"), [PAGE], config)


def test_max_tokens(twins: Twins) -> None:
    pruned = copy.deepcopy(twins.pruned)
    pruned(text=[TWO], images=[FORM, PAGE])
    exact = [report.kept for report in pruned.last_report]
    budget = min(exact) * 2 // 3
    pruned.prune = PruneConfig(max_tokens=budget)
    limited = Twins(twins.model_type, twins.folder, twins.stock, pruned)
    check(limited, lambda p: p(text=[TWO], images=[FORM, PAGE], return_tensors="pt"), [FORM, PAGE])
    for report, image in zip(pruned.last_report, (FORM, PAGE), strict=True):
        assert report.kept <= budget
        assert report.threshold == selection_of(twins.stock.image_processor, image, pruned.prune).level / 255 > 0


BAD_CALLS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "videos": (
        lambda p: p(text=["<|video_pad|>"], videos=[np.zeros((4, 64, 64, 3), np.uint8)]),
        PrunedInputError,
        "images and text only; got videos",
    ),
    "videos in a chat": (
        lambda p: p.apply_chat_template(
            [{"role": "user", "content": [{"type": "video", "path": "a.mp4"}]}], tokenize=True, return_dict=True
        ),
        PrunedInputError,
        "images and text only; got videos",
    ),
    "images alone": (lambda p: p(images=[FORM]), PrunedInputError, "pruned images need their text"),
    "no images": (lambda p: p(text=[NONE], images=[]), ImageError, "no images in the list"),
    "nothing": (lambda p: p(), ValueError, "at least one input"),
    "more placeholders": (
        lambda p: p(text=[TWO], images=[FORM]),
        PrunedInputError,
        r"the text has 2 image placeholders \(<\|image_pad\|>\) but 1 images were passed",
    ),
    "fewer placeholders": (
        lambda p: p(text=[ONE], images=[FORM, DARK]),
        PrunedInputError,
        "has 1 image placeholders .* but 2 images",
    ),
    "placeholders without images": (
        lambda p: p(text=[NONE, ONE]),
        PrunedInputError,
        "has 1 image placeholders .* but 0 images",
    ),
    "adjacent placeholders": (
        lambda p: p(text=["<|image_pad|><|image_pad|>"], images=[FORM, DARK]),
        PrunedInputError,
        r"a run of \d+ image tokens .* give each image one placeholder between other tokens",
    ),
    "truncated": (
        lambda p: p(text=[ONE], images=[FORM], truncation=True, max_length=30),
        ValueError,
        "disable truncation or increase `max_length`",
    ),
    "float image": (
        lambda p: p(text=[ONE], images=[np.asarray(FORM, np.float32) / 255]),
        ImageError,
        r"images must be 8-bit to be pruned .* got (torch\.)?float32",
    ),
    "missing image": (lambda p: p(text=[ONE], images=["/no/such.png"]), ValueError, "/no/such.png"),
    "a threshold instead of settings": (
        lambda p: setattr(p, "prune", 0.5),
        ConfigError,
        "must be a PruneConfig.*got 0.5",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls(qwen3: Twins, case: str) -> None:
    call, kind, words = BAD_CALLS[case]
    with pytest.raises(kind, match=words) as caught:
        call(qwen3.pruned)
    assert "\n" not in str(caught.value)
    check(qwen3, lambda p: p(text=[ONE], images=[FORM], return_tensors="pt"), [FORM])  # and goes on working


def test_truncation_that_spares_the_image(qwen3: Twins) -> None:
    call = partial(lambda p: p(text=[HOLE + " word" * 50], images=[FORM], truncation=True, max_length=200))
    batch = call(qwen3.pruned)
    count = qwen3.pruned.last_report[0].kept
    assert len(batch["input_ids"][0]) == 200 and batch["input_ids"][0].count(qwen3.stock.image_token_id) == count
    whole = qwen3.pruned(text=[HOLE + " word" * 50], images=[FORM])
    assert [axis[0] for axis in batch["position_ids"]] == [axis[0][:200] for axis in whole["position_ids"]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": 2}, "threshold must be a number from 0 to 1 .* got 2"),
        ({"method": "png"}, "method must be one of pred2d, .* got 'png'"),
        ({"metric": "ssim"}, "metric must be one of max, mae, rmse; got 'ssim'"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1"),
        ({"anchored": 1}, "anchored must be True or False; got 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PrunedProcessor.from_pretrained("never read", **settings)


@pytest.mark.parametrize("model_type", ["bert", "llava", "qwen2_5_omni", "newest_vl"])
def test_another_family_is_refused(tmp_path: Path, model_type: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UnsupportedModelError) as caught:
        PrunedProcessor.from_pretrained(tmp_path)
    assert (
        str(caught.value) == f"model_type {model_type!r} is not supported; supported are {', '.join(sorted(FAMILIES))}"
    )


def test_folders_without_a_model(tmp_path: Path) -> None:
    for missing in (tmp_path / "missing", str(tmp_path / "missing"), "./missing", "some/missing/folder"):
        with pytest.raises(UnsupportedModelError, match=r"there is no folder .*missing"):
            PrunedProcessor.from_pretrained(missing)
    for text in (None, "{}"):
        if text is not None:
            (tmp_path / "config.json").write_text(text)
        with pytest.raises((UnsupportedModelError, OSError), match=r"config\.json") as caught:
            PrunedProcessor.from_pretrained(tmp_path)
        assert "\n" not in str(caught.value)


def test_saved_files_load_as_the_stock_processor(twins: Twins, tmp_path: Path) -> None:
    pruned = copy.deepcopy(twins.pruned)
    pruned.prune = PruneConfig("adaptive", threshold=0.05)
    pruned(text=[ONE], images=[FORM])
    pruned.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["processor_class"] == FAMILIES[twins.model_type].processor
    assert set(saved) == {"processor_class", "image_processor", "video_processor"}
    assert set(saved["image_processor"]) == set(twins.stock.image_processor.to_dict())
    assert AutoTokenizer.from_pretrained(tmp_path)(NONE)["input_ids"] == twins.stock.tokenizer(NONE)["input_ids"]
    image_processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(image_processor) is type(twins.stock.image_processor)
    assert image_processor.to_dict() == twins.stock.image_processor.to_dict()

    settings = {"text": [TWO], "images": [FORM, DARK], "return_tensors": "pt"}
    reloaded = load_stock(twins.model_type, tmp_path)
    assert same(reloaded(**settings), twins.stock(**settings))
    assert reloaded.chat_template == twins.stock.chat_template

    AutoConfig.from_pretrained(twins.folder).save_pretrained(tmp_path)  # as beside a saved model
    again = PrunedProcessor.from_pretrained(tmp_path)
    assert again.prune == PruneConfig()
    assert same(again(**settings), twins.pruned(**settings))
    assert not same(again(**settings), twins.stock(**settings))


def same(a: Any, b: Any) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


SETTINGS: dict[str, Any] = {"text": [TWO, ONE], "images": [FORM, DARK, PAGE], "padding": True, "return_tensors": "pt"}


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "copy"])
def test_copies(twins: Twins, how: str) -> None:
    original = copy.deepcopy(twins.pruned)
    original.prune = PruneConfig(threshold=0.05)
    expected = original(**SETTINGS)
    twin: Any = {"pickle": lambda p: pickle.loads(pickle.dumps(p)), "deepcopy": copy.deepcopy, "copy": copy.copy}[how](
        original
    )
    assert type(twin) is type(original) and isinstance(twin, PrunedProcessor)
    assert twin.prune == original.prune
    assert same(twin(**SETTINGS), expected)
    assert not same(twins.pruned(**SETTINGS), expected)
    if how != "copy":
        twin.prune = PruneConfig()
        assert original.prune == PruneConfig(threshold=0.05)
        assert same(twin(**SETTINGS), twins.pruned(**SETTINGS))


def test_a_worker_of_a_data_loader(qwen3: Twins) -> None:
    """The worker starts from nothing but the pickled processor."""
    texts = [ONE, f"Why {HOLE}"]
    collate = partial(qwen3.pruned, [FORM], return_tensors="pt")
    loader: Any = DataLoader(texts, num_workers=1, collate_fn=collate, multiprocessing_context="spawn")  # type: ignore[arg-type]
    batches = list(loader)
    assert len(batches) == 2
    for text, batch in zip(texts, batches, strict=True):
        assert same(batch, qwen3.pruned(text=[text], images=[FORM], return_tensors="pt"))


def test_threads_get_their_own_results(qwen3: Twins) -> None:
    jobs = [{"text": [ONE], "images": [image], "return_tensors": "pt"} for image in (FORM, DARK, PAGE)] * 8
    expected = [qwen3.pruned(**job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda job: qwen3.pruned(**job), jobs))
    assert all(same(result, right) for result, right in zip(results, expected, strict=True))
    assert not same(results[0], expected[1])


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
