"""Before the engine: settings, fields, placeholders, cache keys and refusals, with vLLM's own processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engine_kit import CHART, DARK, FORM, HOLE, Prompt, in_tokens_of, options, twin

from pixelprune import PixelPruneError, PruneConfig
from pixelprune.models.registry import FAMILIES
from pixelprune.vllm.settings import settings_from

MODELS = [family.model_type for family in FAMILIES.values() if family.vllm is not None]
TWO = Prompt(f"Compare {HOLE} with {HOLE}.", (FORM, CHART))


def config_of(folder, **changes):
    """vLLM's model config as an engine would have it."""
    from vllm.engine.arg_utils import EngineArgs

    settings = changes.pop("pixelprune", "absent")
    chosen = options(folder, **changes)
    if settings != "absent":
        chosen["mm_processor_kwargs"] = {**chosen["mm_processor_kwargs"], "pixelprune": settings}
    return EngineArgs(**chosen).create_model_config()


def processor_of(folder, **changes):
    from vllm.multimodal import MULTIMODAL_REGISTRY

    return MULTIMODAL_REGISTRY.create_processor(config_of(folder, **changes))


def process(processor, prompt: Prompt = TWO, cache: Any = None, **kwargs):
    items = processor.info.parse_mm_data({"image": list(prompt.images)})
    text = in_tokens_of(processor.info.get_hf_config().model_type, prompt.text)
    return processor(text, items, hf_processor_mm_kwargs=kwargs, cache=cache)


def fields(inputs, index: int = 0) -> dict[str, torch.Tensor]:
    return {name: element.data for name, element in inputs["mm_kwargs"]["image"][index].items()}


@pytest.fixture(scope="module", params=MODELS)
def folder(request, models):
    return models / request.param


@pytest.fixture(scope="module")
def qwen3(models):
    return models / "qwen3_vl"


@pytest.mark.parametrize("on_device", [True, False])
def test_kept_rows_are_the_stock_processors(folder, on_device) -> None:
    """Per image: the stock rows of kept patches, of the stock type; and placeholders of as many tokens."""
    processor = processor_of(folder, mm_device_do_normalize=on_device)
    stock, pruned = process(processor), process(processor, pixelprune={"threshold": 0.02})
    sizes = []
    for index, image in enumerate(TWO.images):
        kept = twin(folder.name, folder).kept(image, {"threshold": 0.02})
        rows = (kept[:, None] * 4 + np.arange(4)).ravel()
        whole, part = fields(stock, index), fields(pruned, index)
        assert part["pixel_values"].dtype == whole["pixel_values"].dtype
        assert (whole["pixel_values"].dtype == torch.uint8) == on_device
        assert torch.equal(part["pixel_values"], whole["pixel_values"][rows])
        assert not torch.equal(part["pixel_values"], whole["pixel_values"][np.sort((rows + 4) % len(rows))])
        assert torch.equal(part["image_grid_thw"], whole["image_grid_thw"])
        assert part["pixelprune_kept"].tolist() == kept.tolist()
        sizes.append(len(kept))
    assert [place.length for place in pruned["mm_placeholders"]["image"]] == sizes
    token = processor.info.get_hf_config().image_token_id
    assert pruned["prompt_token_ids"].count(token) == sum(sizes) < stock["prompt_token_ids"].count(token)


def test_without_settings_everything_is_stock(folder) -> None:
    """Fields, placeholders and cache keys as of vLLM's own class, which knows nothing of this key."""
    from pixelprune.vllm import models as ours

    processor = processor_of(folder)
    stock_model = getattr(ours, processor.info.ctx.model_config.architecture).__mro__[2]
    stock = stock_model._processor_factory.build_processor(
        processor.info.ctx.__class__.__mro__[1](processor.info.ctx.model_config, processor.info.ctx.tokenizer)
    )
    assert type(stock).__mro__[1] is not type(processor).__mro__[1]
    expected = process(stock)
    for inputs in (process(processor), process(processor, pixelprune=None)):
        assert inputs["prompt_token_ids"] == expected["prompt_token_ids"]
        assert inputs["mm_hashes"] == expected["mm_hashes"]
        assert inputs["mm_placeholders"] == expected["mm_placeholders"]
        for index in range(2):
            a, b = fields(inputs, index), fields(expected, index)
            assert set(a) == set(b)
            assert all(torch.equal(a[name], b[name]) for name in a)
    assert process(processor, pixelprune={})["mm_hashes"] != expected["mm_hashes"]


def test_the_request_goes_over_the_engine(qwen3) -> None:
    """Merged setting by setting; null switches off."""
    processor = processor_of(qwen3, pixelprune={"threshold": 0.02, "method": "raster"})
    settings = processor.info.ctx.settings
    assert settings({}) == PruneConfig(threshold=0.02, method="raster")
    assert settings({"pixelprune": {"threshold": 0}}) == PruneConfig(method="raster")
    assert settings({"pixelprune": {"lattice": 4}}) == PruneConfig("raster", threshold=0.02, lattice=4)
    assert settings({"pixelprune": None}) is None
    counts = [
        len(process(processor, **kwargs)["prompt_token_ids"])
        for kwargs in ({}, {"pixelprune": {"threshold": 0}}, {"pixelprune": None})
    ]
    assert counts == sorted(set(counts))
    # A lattice of the engine, and another one of the request.
    latticed = processor_of(qwen3, pixelprune={"lattice": 4})
    for index, image in enumerate(TWO.images):
        for given, lattice in (({}, 4), ({"pixelprune": {"lattice": 2}}, 2), ({"pixelprune": {"lattice": 0}}, 0)):
            kept = twin(qwen3.name, qwen3).kept(image, {"lattice": lattice})
            assert fields(process(latticed, **given), index)["pixelprune_kept"].tolist() == kept.tolist()


def test_cache_keys_hold_the_effective_settings(qwen3) -> None:
    engine = {"threshold": 0.02}
    with_engine, without = processor_of(qwen3, pixelprune=engine), processor_of(qwen3)
    key = lambda processor, **kwargs: process(processor, **kwargs)["mm_hashes"]["image"][0]  # noqa: E731
    # The engine's settings, which vLLM's own keys leave out; and the same settings, wherever they come from.
    assert key(with_engine) != key(without)
    assert key(with_engine) == key(without, pixelprune=engine) == key(without, pixelprune={"threshold": 0.02})
    assert key(with_engine, pixelprune=None) == key(without)
    others = [{"threshold": 0.05}, {"method": "raster"}, {"metric": "mae"}, {"anchored": False}, {"max_tokens": 60}]
    others += [{"lattice": 4}, {"lattice": 3}]
    keys = [key(without), *(key(without, pixelprune={**engine, **other}) for other in [{}, *others])]
    assert len(set(keys)) == len(keys)
    # What cannot matter makes no other key.
    assert key(without, pixelprune={}) == key(without, pixelprune={"seed": 3, "metric": "mae", "anchored": False})
    # A name for the image given by the user takes the place of its pixels, not of the settings.
    for processor in (with_engine, without):
        items = processor.info.parse_mm_data({"image": [FORM]})
        named = processor(f"{HOLE}", items, mm_uuid_items={"image": ["name"]}, hf_processor_mm_kwargs={})
        assert (named["mm_hashes"]["image"] == ["name"]) == (processor is without)


def test_the_processor_cache_keeps_settings_apart(qwen3) -> None:
    from vllm.multimodal.cache import MultiModalProcessorOnlyCache

    processor = processor_of(qwen3)
    cache = MultiModalProcessorOnlyCache(processor.info.ctx.model_config)
    asked = [{}, {"pixelprune": {"threshold": 0}}, {"pixelprune": {"threshold": 0.05}}, {"pixelprune": None}]
    cold = [process(processor, cache=cache, **kwargs) for kwargs in asked]
    warm = [process(processor, cache=cache, **kwargs) for kwargs in asked]
    for a, b in zip(cold, warm, strict=True):
        assert a["prompt_token_ids"] == b["prompt_token_ids"]
        assert torch.equal(fields(a, 1)["pixel_values"], fields(b, 1)["pixel_values"])
    lengths = [len(inputs["prompt_token_ids"]) for inputs in cold]
    assert lengths[0] == lengths[3] > lengths[1] > lengths[2]
    # One image from the cache, one new.
    mixed = process(processor, Prompt(f"{HOLE}{HOLE}", (DARK, CHART)), cache=cache, **asked[1])
    assert torch.equal(fields(mixed, 1)["pixel_values"], fields(cold[1], 1)["pixel_values"])


def test_the_image_of_the_profile_is_whole(folder) -> None:
    """White as vLLM's dummy is, it would be pruned to a single token."""
    processor = processor_of(folder, pixelprune={"threshold": 0, "max_tokens": 5})
    inputs = processor.get_dummy_mm_inputs({"image": 1, "video": 0})
    whole = processor.info.get_max_image_tokens()
    assert inputs["mm_placeholders"]["image"][0].length == whole
    assert "pixelprune_kept" not in fields(inputs)
    assert process(processor, pixelprune={"max_tokens": 60})["mm_placeholders"]["image"][0].length <= 60 < whole


WRONG = [
    ({"treshold": 0}, "unknown setting 'treshold'; did you mean 'threshold'"),
    ({"threshold": 2}, "threshold must be a number from 0 to 1"),
    ({"threshold": "0"}, "threshold must be a number from 0 to 1"),
    ({"method": "best"}, "method must be one of"),
    ({"max_tokens": 0}, "max_tokens must be a whole number"),
    ({"references": "last"}, "references must be one of none, previous"),
    ({"references": "any", "method": "random"}, "method 'random' predicts nothing"),
    ({"anchored": 1}, "anchored must be True or False"),
    (0.02, "must be a mapping"),
    (True, "must be a mapping"),
    ([], "must be a mapping"),
]
SCOPED = {"images_kwargs": {"size": {}, "pixelprune": {"threshold": 0}}}


def test_settings_inside_those_of_images() -> None:
    """vLLM sorts options into such groups; ours is not one of them."""
    with pytest.raises(PixelPruneError, match='"pixelprune" is inside "images_kwargs"; write it beside'):
        settings_from(SCOPED)


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_wrong_settings(value, message) -> None:
    with pytest.raises(PixelPruneError, match=message) as error:
        settings_from({"pixelprune": value})
    assert "pixelprune" in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_settings_of_engine_and_request_are_refused(qwen3) -> None:
    with pytest.raises(RuntimeError, match="threshold must be") as error:
        processor_of(qwen3, pixelprune={"threshold": -1})
    assert isinstance(error.value.__cause__, PixelPruneError)
    # Where vLLM asks first, it takes a ValueError for a model without images.
    with pytest.raises(RuntimeError, match="threshold must be"):
        config_of(qwen3, pixelprune={"threshold": -1}).supports_multimodal_inputs  # noqa: B018
    assert config_of(qwen3, pixelprune={"threshold": 1}).supports_multimodal_inputs
    processor = processor_of(qwen3)
    with pytest.raises(PixelPruneError, match="threshold must be"):
        process(processor, pixelprune={"threshold": -1})
    # What only shows on the image is said alone too, without vLLM's listing of all the data around it.
    fractions = Prompt(HOLE, (np.zeros((3, 64, 64), np.float32),))
    with pytest.raises(PixelPruneError, match="images must be 8-bit"):
        process(processor, fractions, pixelprune={})


def test_video_pruning_is_refused_together(qwen3) -> None:
    with pytest.raises(RuntimeError, match="video-pruning-rate"):
        processor_of(qwen3, video_pruning_rate=0.5, pixelprune={})
    processor = processor_of(qwen3, video_pruning_rate=0.5)
    process(processor)
    with pytest.raises(PixelPruneError, match="video-pruning-rate"):
        process(processor, pixelprune={})


def test_embeddings_are_refused(qwen3) -> None:
    processor = processor_of(qwen3, enable_mm_embeds=True, pixelprune={})
    embeddings = {"image_embeds": torch.zeros(64, 3 * 128), "image_grid_thw": torch.tensor([[1, 16, 16]])}
    items = processor.info.parse_mm_data({"image": embeddings})
    with pytest.raises(PixelPruneError, match="image_embeds cannot be pruned"):
        processor(f"{HOLE}", items, hf_processor_mm_kwargs={})
    inputs = processor(f"{HOLE}", items, hf_processor_mm_kwargs={"pixelprune": None})
    assert inputs["mm_placeholders"]["image"][0].length == 64


def test_the_rust_frontend_is_refused(qwen3, monkeypatch) -> None:
    config = config_of(qwen3, pixelprune={})
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", "1")
    from vllm.multimodal import MULTIMODAL_REGISTRY

    with pytest.raises(RuntimeError, match="VLLM_USE_RUST_FRONTEND"):
        MULTIMODAL_REGISTRY.create_processor(config)


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_vl_moe"])
def test_the_transformers_backend_refuses_settings(models, name) -> None:
    """It would prune nothing; without settings it works as ever."""
    config = {"model_impl": "transformers"}
    said = "does nothing for TransformersMultiModal.*without --model-impl transformers"
    with pytest.raises(RuntimeError, match=said):
        processor_of(models / name, **config, pixelprune={"threshold": 0})
    processor = processor_of(models / name, **config)
    assert process(processor, pixelprune=None)["mm_placeholders"]["image"][0].length > 0
    with pytest.raises(PixelPruneError, match=said):
        process(processor, pixelprune={"threshold": 0})


def test_no_encoder_graphs_for_what_is_pruned(folder, monkeypatch) -> None:
    """The stock config, less the images, and less the videos where they are pruned."""
    from vllm.v1.worker.encoder_cudagraph_defs import EncoderCudaGraphConfig

    from pixelprune.vllm import models as ours

    model_class = getattr(ours, config_of(folder).architecture)
    stock = EncoderCudaGraphConfig(modalities=["image", "video"], buffer_keys=["pixel_values"], out_hidden_size=7)
    monkeypatch.setattr(model_class.__mro__[2], "get_encoder_cudagraph_config", lambda self: stock)
    config = model_class.get_encoder_cudagraph_config(object.__new__(model_class))
    assert config.modalities == ([] if "qwen3" in folder.name else ["video"])
    assert (config.buffer_keys, config.out_hidden_size) == (["pixel_values"], 7)
    assert stock.modalities == ["image", "video"]


def test_counters_and_log(qwen3, caplog) -> None:
    import logging

    from prometheus_client import REGISTRY

    names = ("pixelprune_images_total", "pixelprune_blocks_total", "pixelprune_kept_blocks_total")
    read = lambda: [REGISTRY.get_sample_value(name) or 0 for name in names]  # noqa: E731
    processor = processor_of(qwen3)
    logger = logging.getLogger("vllm.pixelprune")
    caplog.set_level(logging.DEBUG, logger="vllm.pixelprune")
    logger.addHandler(caplog.handler)
    try:
        before = read()
        inputs = process(processor, pixelprune={"threshold": 0})
        after = read()
    finally:
        logger.removeHandler(caplog.handler)
    kept = [place.length for place in inputs["mm_placeholders"]["image"]]
    total = [int(fields(inputs, index)["image_grid_thw"].prod()) // 4 for index in range(2)]
    assert [a - b for a, b in zip(after, before, strict=True)] == [2, sum(total), sum(kept)]
    assert f"{kept[1]} of {total[1]} blocks kept" in caplog.text
    assert REGISTRY.get_sample_value("pixelprune_selection_seconds_total") > 0
