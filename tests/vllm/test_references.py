"""References before the engine: what is kept, prepared and cached of histories, with vLLM's own processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engine_kit import HISTORIES, HOLE, REFERRING, Prompt, prompt_named, screen, settings_named, twin
from test_processor import fields, process, processor_of

from pixelprune import PixelPruneError, PruneConfig
from pixelprune.vllm import processor as ours
from pixelprune.vllm.rows import row_of

ASKED = [(name, setting) for setting in REFERRING for name in HISTORIES]


def cache_of(processor: Any) -> Any:
    from vllm.multimodal.cache import MultiModalProcessorOnlyCache

    return MultiModalProcessorOnlyCache(processor.info.ctx.model_config)


def kept(processor: Any, name: str, setting: str, cache: Any = None) -> list[list[int]]:
    inputs = process(processor, prompt_named(name), cache, pixelprune=settings_named(setting))
    count = len(prompt_named(name).images)
    found = [fields(inputs, index)["pixelprune_kept"].tolist() for index in range(count)]
    assert [place.length for place in inputs["mm_placeholders"]["image"]] == [len(blocks) for blocks in found]
    return found


def wanted(folder: Any, name: str, setting: str) -> list[list[int]]:
    row = twin(folder.name, folder).kept_of_row(prompt_named(name).images, settings_named(setting))
    return [blocks.tolist() for blocks in row]


@pytest.fixture(scope="module")
def qwen3(models):
    return models / "qwen3_vl"


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v"])
def folder(request, models):
    return models / request.param


def test_kept_blocks_are_those_of_the_sequence(folder) -> None:
    """Without a cache, and from one that the histories before have filled."""
    processor = processor_of(folder)
    cache = cache_of(processor)
    for name, setting in ASKED:
        expected = wanted(folder, name, setting)
        assert kept(processor, name, setting) == expected, (name, setting)
        assert kept(processor, name, setting, cache) == expected, (name, setting)
        assert kept(processor, name, setting, cache) == expected, (name, setting)
    # The comparison can tell, and block 0 may be missing.
    assert wanted(folder, "a ab", "previous")[1] != wanted(folder, "ab", "previous")[0]
    assert wanted(folder, "a ab", "previous")[1][0] > 0


def test_rows_are_the_stock_processors(folder) -> None:
    """Of the images that are not in the cache, whichever others are prepared to be referred to."""
    processor = processor_of(folder)
    cache = cache_of(processor)
    for name in ("a ab", "a ab abc"):
        pruned = process(processor, prompt_named(name), cache, pixelprune=REFERRING["previous"])
    stock = process(processor, prompt_named("a ab abc"))
    for index, blocks in enumerate(wanted(folder, "a ab abc", "previous")):
        rows = (np.array(blocks)[:, None] * 4 + np.arange(4)).ravel()
        assert torch.equal(fields(pruned, index)["pixel_values"], fields(stock, index)["pixel_values"][rows])
        assert torch.equal(fields(pruned, index)["image_grid_thw"], fields(stock, index)["image_grid_thw"])


def test_keys_without_those_of_references_are_wrong(qwen3, monkeypatch) -> None:
    """The control: a screen would be found as it was kept after another one."""
    monkeypatch.setattr(ours, "_keys_of_references", lambda keys, settings: [{} for _ in keys])
    processor = processor_of(qwen3)
    cache = cache_of(processor)
    found = {asked: kept(processor, *asked, cache) == wanted(qwen3, *asked) for asked in ASKED}
    assert found["a ab", "previous"] and found["a ab abc", "previous"]
    assert not any(found["ab", setting] for setting in REFERRING)
    assert not any(found["a a", setting] for setting in REFERRING)


def test_eviction(qwen3) -> None:
    """A cache that holds a few screens: what it has lost is prepared again, with its references."""
    processor = processor_of(qwen3, mm_processor_cache_gb=0.0008)
    cache = cache_of(processor)
    for name, setting in ASKED * 2:
        assert kept(processor, name, setting, cache) == wanted(qwen3, name, setting), (name, setting)
    stats = cache.make_stats()
    assert 0 < stats.hits < stats.total - 2 * len(ASKED)
    assert stats.total == 2 * sum(len(name.split()) for name, _ in ASKED)


def test_cache_keys(qwen3) -> None:
    processor = processor_of(qwen3)

    def keys(name: str, **settings: Any) -> list[str]:
        return process(processor, prompt_named(name), pixelprune=settings)["mm_hashes"]["image"]

    # What the kept blocks depend on, no more: the screen before it for "previous", all before it for "any".
    first, second, third = keys("a ab abc", references="previous")
    assert [first, second] == keys("a ab", references="previous")
    assert third == keys("ab abc", references="previous")[1] != keys("a abc", references="previous")[1]
    assert keys("a ab abc", references="any")[1] == keys("a ab", references="any")[1]
    assert keys("a ab abc", references="any")[2] != keys("ab abc", references="any")[1]
    third = keys("a ab abc", references="first+previous")[2]
    assert third != keys("b ab abc", references="first+previous")[2]
    assert third != keys("a b abc", references="first+previous")[2]
    for references in ("previous", "first+previous", "any"):
        one, other = keys("a ab", references=references), keys("b ab", references=references)
        assert one[1] != other[1] and one[1] != keys("ab", references=references)[0]
        assert len(set(keys("a a", references=references))) == 2
    # "none" is as before there were references.
    assert keys("a ab", references="none") == keys("a ab")
    assert keys("a ab")[1] == keys("ab")[0]


@pytest.mark.parametrize(
    ("references", "missing", "numbers", "places"),
    [
        ("previous", [3], [2, 3], [1]),
        ("previous", [0, 3], [0, 2, 3], [0, 2]),
        ("first+previous", [3], [0, 2, 3], [2]),
        ("any", [2], [0, 1, 2], [2]),
        ("any", [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_only_what_is_needed_is_prepared(qwen3, references, missing, numbers, places) -> None:
    processor = processor_of(qwen3)
    images = [screen(state) for state in ("a", "ab", "abc", "abcd")]
    items = processor.info.parse_mm_data({"image": images}, validate=False)["image"]
    row = row_of(processor.info, items, missing, PruneConfig(references=references))
    assert [images.index(image) for image in row.images] == numbers
    assert row.wanted == places


def test_uuids(qwen3) -> None:
    """They take the place of pixels in keys; an image without data cannot be referred to by one that is missing."""
    processor = processor_of(qwen3, pixelprune={"references": "previous"})
    cache = cache_of(processor)

    def send(**images: Any) -> Any:
        prompt = "".join(HOLE for _ in images)
        items = processor.info.parse_mm_data({"image": list(images.values())})
        return processor(prompt, items, mm_uuid_items={"image": list(images)}, hf_processor_mm_kwargs={}, cache=cache)

    whole = send(A=screen("a"), B=screen("ab"))
    again = send(A=None, B=None)
    assert again["mm_hashes"] == whole["mm_hashes"]
    assert [place.length for place in again["mm_placeholders"]["image"]] == [56, 6]
    for images, said in (
        ({"A": None, "C": screen("abc")}, "image 0 of the request was sent as a UUID alone, but image 1"),
        ({"A": None, "B": None, "C": screen("abc")}, "image 1 of the request was sent as a UUID alone, but image 2"),
    ):
        with pytest.raises(PixelPruneError, match=said) as error:
            send(**images)
        assert "\n" not in str(error.value) and 'references="previous"' in str(error.value)
    # The images before the one that is referred to may stay away.
    sent = send(A=None, B=screen("ab"), C=screen("abc"))
    assert [place.length for place in sent["mm_placeholders"]["image"]] == [56, 6, 6]
    # B alone is another item than B after A: vLLM asks for its data.
    with pytest.raises(ValueError, match="data is not provided"):
        send(B=None)


def test_settings_of_engine_and_request(qwen3) -> None:
    processor = processor_of(qwen3, pixelprune={"references": "previous", "threshold": 0.02})
    name, images = "ab abc ab", prompt_named("ab abc ab").images
    for given, settings in (
        ({}, {"references": "previous", "threshold": 0.02}),
        ({"pixelprune": {"references": "any", "threshold": 0}}, {"references": "any"}),
        ({"pixelprune": {"references": "none"}}, {"threshold": 0.02}),
        ({"pixelprune": {"lattice": 3}}, {"references": "previous", "threshold": 0.02, "lattice": 3}),
    ):
        inputs = process(processor, prompt_named(name), **given)
        expected = twin(qwen3.name, qwen3).kept_of_row(images, settings)
        assert [place.length for place in inputs["mm_placeholders"]["image"]] == [len(blocks) for blocks in expected]
    with pytest.raises(PixelPruneError, match="method 'random' predicts nothing"):
        process(processor, prompt_named(name), pixelprune={"method": "random"})
    with pytest.raises(PixelPruneError, match="references must be one of none, previous"):
        process(processor, prompt_named(name), pixelprune={"references": "last"})


def test_an_image_of_another_size_is_not_referred_to(qwen3) -> None:
    """It is prepared beside the missing one all the same, since only resizing tells."""
    processor = processor_of(qwen3)
    images = (screen("a"), screen("ab").crop((0, 0, 256, 200)), screen("ab"))
    prompt = Prompt(HOLE * 3, images)
    cache = cache_of(processor)
    for references in ("previous", "any"):
        settings = {"references": references}
        expected = [len(blocks) for blocks in twin(qwen3.name, qwen3).kept_of_row(images, settings)]
        for _ in range(2):
            inputs = process(processor, prompt, cache, pixelprune=settings)
            assert [place.length for place in inputs["mm_placeholders"]["image"]] == expected
        assert (expected[2] < 60) == (references == "any")


def test_the_counter_of_blocks_in_earlier_images(qwen3) -> None:
    from prometheus_client import REGISTRY

    read = lambda: REGISTRY.get_sample_value("pixelprune_referenced_blocks_total") or 0  # noqa: E731
    before = read()
    process(processor_of(qwen3), prompt_named("a ab"), pixelprune=REFERRING["previous"])
    alone = len(wanted(qwen3, "ab", "previous")[0])
    assert read() - before == alone - len(wanted(qwen3, "a ab", "previous")[1]) > 0
