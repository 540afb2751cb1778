"""Settings, reports, errors, saving, copies and threads of the pruned processor."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stock import (
    DARK,
    FORM,
    HOLE,
    NONE,
    ONE,
    PAGE,
    SETTINGS,
    SIZE,
    TWO,
    Twins,
    check,
    load_stock,
    make_twins,
    positions_of,
    same,
    selection_of,
    shortened,
    unpadded,
)
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from pixelprune import PruneConfig
from pixelprune.check.tiny import build_tiny
from pixelprune.core import preprocess
from pixelprune.core.budget import RareWarning
from pixelprune.errors import ConfigError, ImageError, PrunedInputError, UnsupportedModelError
from pixelprune.hf import FAMILIES, ImageReport, PrunedProcessor
from pixelprune.hf.kept import KEPT


# Each of the stock processor classes; the families differ in their positions only.
@pytest.fixture(scope="session", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return make_twins(request.param, tmp_path_factory.mktemp("twins"))


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return make_twins("qwen3_vl", tmp_path_factory.mktemp("qwen3"))


def test_last_report(twins: Twins) -> None:
    pruned = copy.deepcopy(twins.pruned)
    for config in (
        PruneConfig(),
        PruneConfig("adaptive", threshold=0.05),
        PruneConfig(metric="mae", threshold=0.02),
        PruneConfig(lattice=2),
    ):
        pruned.prune = config
        pruned(text=[TWO], images=[FORM, DARK])
        assert [type(report) for report in pruned.last_report] == [ImageReport, ImageReport]
        for image, report in zip((FORM, DARK), pruned.last_report, strict=True):
            selection = selection_of(twins.stock.image_processor, image, config)
            assert (report.total, report.kept) == (selection.num_blocks, selection.num_kept)
            assert report.retain_ratio == selection.retain_ratio
            assert report.lattice == selection.num_lattice and (report.lattice > 0) == (config.lattice > 0)
            assert (report.method, report.threshold) == (config.method, config.threshold)
            assert report.selection_ms > 0


def test_settings_can_be_switched_off(twins: Twins) -> None:
    """``None`` gives the stock output."""
    pruned = copy.deepcopy(twins.pruned)
    pruned.prune = None
    for kind in ("pt", "np", None):
        settings = {**SETTINGS, "return_tensors": kind}
        stock, batch = twins.stock(**settings), pruned(**settings)
        assert set(batch) == set(stock)
        assert all(np.array_equal(batch[key], stock[key]) for key in stock)
    grids = iter(stock["image_grid_thw"])
    for row, number in enumerate((2, 1)):
        own = [next(grids) for _ in range(number)]
        every = [range(int(grid.prod()) // 4) for grid in own]
        ids, where = shortened(unpadded(stock, row), twins.stock.image_token_id, own, every)
        assert unpadded(batch, row) == ids
        assert np.array_equal(positions_of(pruned, batch)[row], where)
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
    config = PruneConfig("raster", "rmse", 0.1, False, None, 7, 3)
    pruned = PrunedProcessor.from_pretrained(
        qwen3.folder, method="raster", metric="rmse", threshold=0.1, anchored=False, seed=7, lattice=3, size=SIZE
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
        "videos need torchvision, which is not installed: pip install torchvision",
    ),
    "videos in a chat": (
        lambda p: p.apply_chat_template(
            [{"role": "user", "content": [{"type": "video", "path": "a.mp4"}]}], tokenize=True, return_dict=True
        ),
        PrunedInputError,
        "videos need torchvision, which is not installed: pip install torchvision",
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
    "another merge size": (
        lambda p: p(text=[ONE], images=[FORM], merge_size=1),
        ImageError,
        r"patch_size and merge_size are the model's, 16 and 2; got 16 and 1",
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
    check(qwen3, lambda p: p(text=[ONE], images=[FORM], return_tensors="pt"), [FORM])  # and works afterwards


def test_truncation_that_spares_the_image(qwen3: Twins) -> None:
    call = partial(lambda p: p(text=[HOLE + " word" * 50], images=[FORM], truncation=True, max_length=200))
    batch = call(qwen3.pruned)
    count = qwen3.pruned.last_report[0].kept
    assert len(batch["input_ids"][0]) == 200 and batch["input_ids"][0].count(qwen3.stock.image_token_id) == count
    whole = qwen3.pruned(text=[HOLE + " word" * 50], images=[FORM])
    assert batch[KEPT][0] == whole[KEPT][0][:200]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": 2}, "threshold must be a number from 0 to 1 .* got 2"),
        ({"method": "png"}, "method must be one of pred2d, .* got 'png'"),
        ({"metric": "ssim"}, "metric must be one of max, mae, rmse; got 'ssim'"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1"),
        ({"anchored": 1}, "anchored must be True or False; got 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
        ({"treshold": 0.02}, "unknown setting 'treshold'; did you mean 'threshold'"),
        ({"prune": {"threshold": 0.02}}, "unknown setting 'prune'; known are method, .*, seed"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PrunedProcessor.from_pretrained("never read", **settings)


@pytest.mark.parametrize("model_type", ["bert", "llava", "newest_vl"])
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
    """The worker starts with the pickled processor alone."""
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


def test_the_rule_is_compiled_when_a_processor_is_loaded(tmp_path: Path) -> None:
    """In a process of its own, so that nothing else has compiled it: no image waits for the compiler."""
    build_tiny(tmp_path, weights=False)
    script = (
        "import sys; from pixelprune import PruneConfig; from pixelprune.core import kernels;"
        "from pixelprune.hf import PrunedProcessor;"
        "count = lambda: [len(kernel.signatures) for kernel in (kernels.walk_2d, kernels.walk_scan)];"
        "counts = [count()]; processor = PrunedProcessor.from_pretrained(sys.argv[1]); counts.append(count());"
        "processor.prune = PruneConfig('raster'); counts.append(count()); print(counts)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[[0, 0], [1, 0], [1, 1]]"


def test_a_budget_that_drops_content_warns(
    qwen3: Twins, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the report and in the log; a threshold that was asked for does not."""
    monkeypatch.setattr(preprocess, "_warn_of_budget", RareWarning(preprocess.logger))
    pruned = copy.deepcopy(qwen3.pruned)
    pruned.prune = PruneConfig(max_tokens=1)
    pruned(text=[ONE], images=[FORM])
    (report,) = pruned.last_report
    assert report.warning is not None and report.warning.startswith("max_tokens=1 took threshold ")
    assert caplog.messages == [report.warning]
    pruned.prune = PruneConfig(threshold=1.0)
    pruned(text=[ONE], images=[FORM])
    assert pruned.last_report[0].warning is None and len(caplog.messages) == 1
