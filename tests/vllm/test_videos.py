"""Videos of Qwen3-VL's kin on vLLM: what is kept, cached and placed, and the answers of an engine."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from engine_kit import BYTES, FORM, HOLE, STEPS, engine, options, screen, twin
from test_processor import processor_of

from pixelprune import PixelPruneError, PruneConfig, select_sequence
from pixelprune.check import oracle

FILM = "<|vision_start|><|video_pad|><|vision_end|>"
#: Some settings of a request, by name.
SETTINGS: dict[str, Any] = {
    "none": None,
    "0": {"threshold": 0},
    "previous": {"references": "previous"},
    "any, 0.02": {"references": "any", "threshold": 0.02},
}
LIMITS = {"limit_mm_per_prompt": {"image": 1, "video": 2}, "max_model_len": 4096}


def video(*states: str) -> np.ndarray:
    """uint8 ``(frames, 224, 320, 3)``: screens of whole blocks, so that nothing is resized."""
    return np.stack([np.asarray(screen(state).crop((0, 0, 320, 224))) for state in states])


FILMS = {"typed": video("a", "a", "ab", "ab", "abc"), "still": video(*["d"] * 4)}


def items_of(films: list[np.ndarray], images: list[Any]) -> dict[str, Any]:
    metadata = [
        {"fps": 2.0, "total_num_frames": len(film), "frames_indices": list(range(len(film))), "duration": len(film) / 2}
        for film in films
    ]
    films = [(film, {**data, "video_backend": "opencv"}) for film, data in zip(films, metadata, strict=True)]
    return {"video": films, **({"image": images} if images else {})}


#: Prompts with their videos and images, in order.
PROMPTS: dict[str, tuple[str, list[str], list[Any]]] = {
    "one": (f"See {FILM} What changed?", ["typed"], []),
    "two and an image": (f"{FILM}, {HOLE} and {FILM}: which?", ["typed", "still"], [FORM]),
}


def process(processor: Any, name: str, cache: Any = None, **kwargs: Any) -> Any:
    text, films, images = PROMPTS[name]
    items = processor.info.parse_mm_data(items_of([FILMS[film] for film in films], images))
    return processor(text, items, hf_processor_mm_kwargs={"do_sample_frames": False, **kwargs}, cache=cache)


def fields(inputs: Any, modality: str, index: int) -> dict[str, torch.Tensor]:
    return {name: element.data for name, element in inputs["mm_kwargs"][modality][index].items()}


def kept_of(name: str, settings: dict[str, Any] | None) -> list[list[np.ndarray]]:
    """Per video of a prompt and pair of its frames what the core keeps; everything without settings."""
    kept = []
    for film in PROMPTS[name][1]:
        frames = FILMS[film]
        frames = np.concatenate([frames, frames[-1:]]) if len(frames) % 2 else frames
        pairs = [np.stack(pair, -1).reshape(224, 320, 6) for pair in zip(frames[::2], frames[1::2], strict=True)]
        every = [np.arange(70)] * len(pairs)
        kept.append(every if settings is None else list(select_sequence(pairs, PruneConfig(**settings)).kept_indices))
    return kept


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen3_5"])
def folder(request: pytest.FixtureRequest, models: Any) -> Any:
    return models / request.param


@pytest.mark.parametrize("setting", list(SETTINGS)[1:])
def test_kept_rows_and_placeholders(folder: Any, setting: str) -> None:
    """Twice, through a cache: rows of the stock processor, and timestamps around as many tokens as blocks are kept."""
    from vllm.multimodal.cache import MultiModalProcessorOnlyCache

    processor, settings = processor_of(folder, **LIMITS), SETTINGS[setting]
    cache = MultiModalProcessorOnlyCache(processor.info.ctx.model_config)
    token = processor.info.get_hf_config().video_token_id
    for name in [*PROMPTS, *PROMPTS]:
        whole, part = process(processor, name, cache), process(processor, name, cache, pixelprune=settings)
        expected = kept_of(name, settings)
        for index, frames in enumerate(expected):
            stock, ours = fields(whole, "video", index), fields(part, "video", index)
            blocks = np.concatenate([kept + 70 * number for number, kept in enumerate(frames)])
            rows = (blocks[:, None] * 4 + np.arange(4)).ravel()
            assert torch.equal(ours["pixel_values_videos"], stock["pixel_values_videos"][rows])
            assert torch.equal(ours["video_grid_thw"], stock["video_grid_thw"])
            assert ours["pixelprune_frame_counts"].tolist() == [len(kept) for kept in frames]
        runs = [len(list(run)) for is_film, run in groupby(part["prompt_token_ids"], lambda t: t == token) if is_film]
        assert runs == [len(kept) for frames in expected for kept in frames]
        holes = (token, processor.info.get_hf_config().image_token_id)
        words = [[t for t in inputs["prompt_token_ids"] if t not in holes] for inputs in (whole, part)]
        assert words[0] == words[1], "timestamps and all other tokens are the stock ones"


def test_hashes_and_refusals(models: Any) -> None:
    processor = processor_of(models / "qwen3_vl", **LIMITS)
    hashes = [process(processor, "one", pixelprune=SETTINGS[name])["mm_hashes"]["video"] for name in SETTINGS]
    assert len({tuple(each) for each in hashes}) == len(SETTINGS), "other settings are other videos"
    assert process(processor, "one")["mm_hashes"]["video"] == hashes[0]
    with pytest.raises(PixelPruneError, match="predicts nothing"):
        process(processor, "one", pixelprune={"method": "random", "references": "any"})
    embeds = {
        "video_embeds": torch.zeros(70, 64),
        "video_grid_thw": torch.tensor([[1, 14, 20]]),
        "timestamps": torch.tensor([[0.5]]),
    }
    processor = processor_of(models / "qwen3_vl", **LIMITS, enable_mm_embeds=True)
    items = processor.info.parse_mm_data({"video": embeds})
    with pytest.raises(PixelPruneError, match="video_embeds cannot be pruned: send the video, or"):
        processor(f"{FILM}", items, hf_processor_mm_kwargs={"pixelprune": {}})


def answer_of(folder: Any, inputs: Any, name: str, settings: Any, given: list[int]) -> tuple[int, list[int]]:
    """As ``Twin.answer``, from the stock processor's whole inputs; every pair of frames is an image of its own."""
    reference, (text, _, images) = twin("qwen3_vl", folder), PROMPTS[name]
    config = reference.model.config
    films, of_images = iter(kept_of(name, settings)), iter(reference.kept_of_row(images, settings))
    pixels, grids, kept = [], [], []
    at = {FILM: 0, HOLE: 0}
    for hole in re.findall(f"{re.escape(FILM)}|{re.escape(HOLE)}", text):
        item = fields(inputs, "video" if hole == FILM else "image", at[hole])
        at[hole] += 1
        values, grid = ("pixel_values_videos", "video_grid_thw") if hole == FILM else ("pixel_values", "image_grid_thw")
        times, height, width = item[grid].tolist()
        pixels.append(item[values].float())
        grids += [[1, height, width]] * times
        kept += next(films) if hole == FILM else [next(of_images)]
    ids = torch.tensor(inputs["prompt_token_ids"])
    everything = (torch.cat(pixels), torch.tensor(grids), [torch.as_tensor(k, dtype=torch.long) for k in kept])
    alike = torch.where(ids == config.video_token_id, config.image_token_id, ids)
    where = oracle.positions(oracle.FullInputs(alike, *everything), config.image_token_id, 2)
    full = oracle.FullInputs(ids, *everything)
    length = len(ids) - int(oracle.dropped_tokens(full, config.image_token_id, config.video_token_id).sum())
    more = torch.arange(len(given)) + where.max() + 1
    full.where = torch.cat([where, more.expand(3, -1)], 1)
    full.input_ids = torch.cat([ids, torch.tensor(given)])
    with torch.no_grad():
        logits = oracle.logits(reference.model, full)
    return length, logits[length - 1 : -1, : len(BYTES)].argmax(-1).tolist()


def test_answers_of_an_engine(models: Any) -> None:
    """Every setting and prompt, twice, so that what is cached answers too; chunks cut through videos."""
    folder = models / "qwen3_vl"
    kwargs = {**options(folder)["mm_processor_kwargs"], "do_sample_frames": False}
    changes = {**LIMITS, "mm_processor_kwargs": kwargs, "max_num_batched_tokens": 128}
    stock = processor_of(folder, **{**LIMITS, "mm_device_do_normalize": False})
    whole = {name: process(stock, name) for name in PROMPTS}
    asked = [(name, setting) for setting in SETTINGS for name in PROMPTS] * 2
    requests = []
    for name, setting in asked:
        text, films, images = PROMPTS[name]
        request: dict[str, Any] = {"prompt": text, "multi_modal_data": items_of([FILMS[f] for f in films], images)}
        if SETTINGS[setting] is not None:
            request["mm_processor_kwargs"] = {"pixelprune": SETTINGS[setting]}
        requests.append(request)
    with engine("qwen3_vl", folder, **changes) as running:
        answers = running.answers(requests, STEPS)
    wrong = [
        (name, setting)
        for (name, setting), answer in zip(asked, answers, strict=True)
        if answer != answer_of(folder, whole[name], name, SETTINGS[setting], answer[1])
    ]
    assert wrong == []
    lengths = {setting: length for (name, setting), (length, _) in zip(asked, answers, strict=True) if name == "one"}
    assert lengths["previous"] < lengths["0"] < lengths["none"]
    # Control: the oracle for other settings, or for frames in another order, answers otherwise.
    name, setting = "one", "previous"
    answer = answers[asked.index((name, setting))]
    assert answer != answer_of(folder, whole[name], name, SETTINGS["0"], answer[1])
