"""Videos, beside torchvision, which all video processors need. Run by ``test_torchvision.py``, not collected by pytest.

A video's frames of one token are, for the oracle, an image: towers attend within them, and they have their own place.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from kit import Kit, crop, make_kit
from PIL import Image, ImageOps
from transformers import AutoProcessor, DynamicCache

from pixelprune import PruneConfig, select_sequence
from pixelprune.check import oracle
from pixelprune.errors import ConfigError, ImageError, PrunedInputError
from pixelprune.hf import FAMILIES
from pixelprune.hf import inputs as call_inputs
from pixelprune.hf.inputs import Vision
from pixelprune.hf.kept import KEPT
from pixelprune.models.registry import family_of

STEPS = 6
SIZE = {"shortest_edge": 3136, "longest_edge": 1 << 20}
WITH_VIDEOS = sorted(name for name in FAMILIES if family_of(name).video_processor)


def frame(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A screen whose sides are multiples of 28 and 32, with parts of it inverted."""
    image = crop("dark").crop((0, 0, 224, 224))
    for box in boxes:
        image.paste(ImageOps.invert(image.crop(box)), box)
    return np.asarray(image)


#: Still, typed into, typed into at another place, and an odd last frame. And another one, still at first.
VIDEO = np.stack([frame(), frame(), frame((70, 70, 150, 90)), frame((70, 70, 150, 90)), frame((70, 150, 150, 170))])
OTHER = np.stack([frame((0, 0, 224, 60))] * 4)


@pytest.fixture(scope="session", params=WITH_VIDEOS)
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(request.param, tmp_path_factory.mktemp(request.param))
    return dataclasses.replace(kit, stock=AutoProcessor.from_pretrained(kit.folder, size=SIZE))


@pytest.fixture(params=["none", "previous", "any"])
def pruned(request: pytest.FixtureRequest, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.setattr(kit.processor.image_processor, "prune", PruneConfig(references=request.param))
    return kit


HOLES = {"image": "<|vision_start|><|image_pad|><|vision_end|>", "video": "<|vision_start|><|video_pad|><|vision_end|>"}


def call_of(rows: list[list[Any]], fps: float | None = 2.0) -> dict[str, Any]:
    """A processor's call: each row a list of words, images and videos."""
    flat = [part for row in rows for part in row]
    videos = [part for part in flat if isinstance(part, np.ndarray)]
    kind = lambda part: HOLES["video" if isinstance(part, np.ndarray) else "image"]  # noqa: E731
    call: dict[str, Any] = {
        "text": ["".join(part if isinstance(part, str) else kind(part) for part in row) for row in rows],
        "images": [part for part in flat if isinstance(part, Image.Image)] or None,
        "padding": True,
        "return_tensors": "pt",
    }
    if videos:
        metadata = [{"fps": fps, "total_num_frames": len(v), "frames_indices": list(range(len(v)))} for v in videos]
        call |= {"videos": videos, "do_sample_frames": False}
        if fps is not None:
            call["video_metadata"] = metadata
    return call


def steps(video: np.ndarray) -> list[np.ndarray]:
    """The frames of one token as one image: pairs, the last frame twice if their number is odd."""
    frames = [*video, *video[-1:]] if len(video) % 2 else list(video)
    return [np.stack(pair, -1).reshape(*video.shape[1:3], 6) for pair in zip(frames[::2], frames[1::2], strict=True)]


def expected_kept(kit: Kit, row: list[Any]) -> list[np.ndarray]:
    """In the order of the row: what is kept of each image and of each video's frames of one token."""
    config, block = kit.processor.prune, kit.stock.video_processor.patch_size * 2
    images = [np.asarray(part) for part in row if isinstance(part, Image.Image)]
    of_images = iter(select_sequence(images, config, block_size=block).kept_indices)
    kept: list[np.ndarray] = []
    for part in row:
        if isinstance(part, Image.Image):
            kept.append(next(of_images))
        elif isinstance(part, np.ndarray):
            kept += select_sequence(steps(part), config, block_size=block).kept_indices
    return kept


def full(kit: Kit, row: list[Any], fps: float | None = 2.0) -> oracle.FullInputs:
    """The whole row by the stock processor, with the stock model's positions; a video's frames one after the other."""
    whole = kit.stock(**call_of([row], fps))
    more = {name: whole[name] for name in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts") if name in whole}
    where, _ = kit.model.base_model.get_rope_index(
        whole["input_ids"], mm_token_type_ids=whole["mm_token_type_ids"], **more
    )
    left = {
        kind: (list(whole.get(grid, [])), whole.get(pixels))
        for kind, grid, pixels in (
            (1, "image_grid_thw", "pixel_values"),
            (2, "video_grid_thw", "pixel_values_videos"),
        )
    }
    done = {1: 0, 2: 0}
    rows, grids = [], []
    for part in row:
        if isinstance(part, str):
            continue
        kind = 1 if isinstance(part, Image.Image) else 2
        times, height, width = left[kind][0].pop(0).tolist()
        for _ in range(times):
            rows.append(left[kind][1][done[kind] : done[kind] + height * width])
            grids.append([1, height, width])
            done[kind] += height * width
    kept = [torch.as_tensor(k, dtype=torch.long) for k in expected_kept(kit, row)]
    return oracle.FullInputs(whole["input_ids"][0], torch.cat(rows), torch.tensor(grids), kept, where[:, 0])


def close(kit: Kit, got: torch.Tensor, expected: torch.Tensor, factor: float = 1.0) -> bool:
    limit = {"qwen3_5": 2e-4, "qwen3_5_moe": 2e-3}.get(kit.model_type, 2e-5) * factor
    return got.shape == expected.shape and bool((got - expected).abs().max() <= limit * expected.abs().max())


def logits(kit: Kit, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return kit.model(**batch).logits


def new_tokens(kit: Kit, batch: Any, **how: Any) -> list[list[int]]:
    output = kit.model.generate(**batch, max_new_tokens=STEPS, do_sample=False, **how)
    return output[:, batch["input_ids"].shape[1] :].tolist()


ROW = ["See ", VIDEO, " and ", Image.fromarray(VIDEO[0]), " and ", OTHER, " What changed?"]
ROWS = [ROW, ["No video here."], [Image.fromarray(OTHER[0]), "-", OTHER, "Which?"]]


def test_rows_of_pixels_and_placeholders(pruned: Kit) -> None:
    kit = pruned
    whole, got = kit.stock(**call_of([ROW])), kit.processor(**call_of([ROW]))
    kept = expected_kept(kit, ROW)
    reports = kit.processor.last_video_report
    assert [[r.kept for r in video] for video in reports] == [
        [len(k) for k in kept[:3]],
        [len(k) for k in kept[4:]],
    ]
    assert torch.equal(got["video_grid_thw"], whole["video_grid_thw"]) and "pixelprune_video_selections" not in got
    blocks = [r.total for video in reports for r in video]
    offsets = np.cumsum([0, *blocks])
    videos = [k + offset for k, offset in zip([*kept[:3], *kept[4:]], offsets[:-1], strict=True)]
    rows = (np.concatenate(videos)[:, None] * 4 + np.arange(4)).ravel()
    assert torch.equal(got["pixel_values_videos"], whole["pixel_values_videos"][rows])
    assert not torch.equal(got["pixel_values_videos"], whole["pixel_values_videos"][rows ^ 4]), "control"

    def words(batch: Any) -> str:
        text = kit.processor.tokenizer.decode(batch["input_ids"][0])
        return re.sub(r"(<\|(image|video)_pad\|>)+", r"\1", text)

    assert words(got) == words(whole), "timestamps and the tokens around frames are the stock ones"
    types = [len(list(group)) for kind, group in groupby(got["mm_token_type_ids"][0].tolist()) if kind == 2]
    per_frame = [len(k) for k in kept[:3]], [len(k) for k in kept[4:]]
    runs = [n for video in per_frame for n in (video if "qwen3" in kit.model_type else [sum(video)])]
    assert types == runs


def test_a_row_equals_the_oracle(pruned: Kit) -> None:
    kit, row = pruned, full(pruned, ROW)
    batch = kit.processor(**call_of([ROW]))
    with torch.no_grad():
        expected = oracle.logits(kit.model, row)
    got = logits(kit, batch)[0]
    assert close(kit, got, expected)
    # Controls: another frame's blocks, and frames taken in another order.
    swapped = dataclasses.replace(row, kept=[row.kept[0], *row.kept[2:0:-1], *row.kept[3:]])
    if len(swapped.kept[1]) != len(row.kept[1]) or not torch.equal(swapped.kept[1], row.kept[1]):
        with torch.no_grad():
            other = oracle.logits(kit.model, swapped)
        assert other.shape != got.shape or not close(kit, got, other, factor=10)
    late = dataclasses.replace(row, where=row.where + (row.where > row.where.min()).long())
    with torch.no_grad():
        assert not close(kit, got, oracle.logits(kit.model, late), factor=10)
    assert new_tokens(kit, batch) == [oracle.generate(kit.model, row, STEPS)]


def test_control_one_segment_for_a_whole_clip(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = kit.processor(**call_of([ROW]))
    expected = logits(kit, batch)

    def joined(self: Vision) -> tuple[torch.Tensor, list[Any]]:
        grid = self.grid.clone()
        grid[:, 1] *= grid[:, 0]
        grid[:, 0] = 1
        return grid, [item.kept for item in self.items]

    monkeypatch.setattr(call_inputs.Vision, "_frames", joined)
    assert not close(kit, logits(kit, batch), expected, factor=10)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_equal_the_oracle(pruned: Kit, side: str) -> None:
    kit = pruned
    kit.processor.tokenizer.padding_side = side
    batch = kit.processor(**call_of(ROWS))
    kit.processor.tokenizer.padding_side = "left"
    assert close(kit, kit.processor.position_ids(batch).float(), positions_of(kit, batch).float())
    got = logits(kit, batch)
    for number, row in enumerate(ROWS):
        if len(row) > 1:
            with torch.no_grad():
                expected = oracle.logits(kit.model, full(kit, row))
            assert close(kit, got[number][batch["attention_mask"][number].bool()], expected, factor=5)


def positions_of(kit: Kit, batch: Any) -> torch.Tensor:
    """The positions that the enabled model gives to its language model."""
    seen: dict[str, torch.Tensor] = {}
    hook = kit.model.base_model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(positions=kwargs["position_ids"]), with_kwargs=True
    )
    logits(kit, batch)
    hook.remove()
    return seen["positions"]


def test_batches_and_beams_equal_one_at_a_time(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit.processor.image_processor, "prune", PruneConfig(references="previous"))
    for how in ({}, {"num_beams": 2}):
        together = new_tokens(kit, kit.processor(**call_of(ROWS)), **how)
        assert together == [new_tokens(kit, kit.processor(**call_of([row])), **how)[0] for row in ROWS]


@pytest.mark.parametrize("fps", [None, 1.0, 24.0])
def test_frame_rates(kit: Kit, fps: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 24 frames a second, which Qwen2.5-VL assumes without metadata, several steps share a temporal position."""
    monkeypatch.setattr(kit.processor.image_processor, "prune", PruneConfig(references="previous"))
    row = [VIDEO, "What?"]
    expected = full(kit, row, fps)
    with torch.no_grad():
        assert close(kit, logits(kit, kit.processor(**call_of([row], fps)))[0], oracle.logits(kit.model, expected))
    assert expected.where is not None
    shared = len(set(expected.where[0].tolist())) < 3 + 3
    assert not shared or kit.model_type == "qwen2_5_vl"


def test_second_turn_on_a_cache(pruned: Kit) -> None:
    kit = pruned
    first = ["See ", VIDEO, " What is it?"]
    before, whole = kit.processor(**call_of([first])), kit.processor(**call_of([[*first, " And ", OTHER, "?"]]))
    expected = new_tokens(kit, whole)
    cache = DynamicCache(config=kit.model.config)
    with torch.no_grad():
        kit.model(**before, past_key_values=cache, use_cache=True)
    assert new_tokens(kit, whole, past_key_values=cache) == expected


def test_nothing_pruned_is_the_stock_way(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit.processor.image_processor, "prune", None)
    got, stock = kit.processor(**call_of([ROW])), kit.stock(**call_of([ROW]))
    assert KEPT not in got and set(got) == set(stock)
    assert all(torch.equal(torch.as_tensor(got[name]), torch.as_tensor(stock[name])) for name in stock)
    plain = logits(kit, stock)
    noise = np.random.default_rng(0).integers(0, 256, VIDEO.shape, np.uint8)
    monkeypatch.setattr(kit.processor.image_processor, "prune", PruneConfig())
    call = call_of([[noise, "What?"]])
    whole = kit.processor(**call)
    assert whole[KEPT].max() == whole["video_grid_thw"].prod() // 4
    assert torch.equal(logits(kit, whole), logits(kit, kit.stock(**call)))
    # An image of which nothing is missing beside a pruned video: both are encoded here.
    mixed = [Image.fromarray(noise[0]), "-", VIDEO, "?"]
    with torch.no_grad():
        assert close(kit, logits(kit, kit.processor(**call_of([mixed])))[0], oracle.logits(kit.model, full(kit, mixed)))
    assert plain.shape[1] == stock["input_ids"].shape[1]


def test_budgets_thresholds_and_sizes(kit: Kit) -> None:
    call = call_of([[VIDEO, "What?"]])
    kit.processor(**call, max_tokens=10, references="previous")
    assert all(r.kept <= 10 for r in kit.processor.last_video_report[0])
    small = kit.processor(**call, size={"shortest_edge": 3136, "longest_edge": 112 * 112})
    assert small["video_grid_thw"].prod() < kit.processor(**call)["video_grid_thw"].prod()


def test_frames_and_templates(kit: Kit) -> None:
    """Lists of Pillow images, tensors, nested lists per row, and chat templates give what arrays give."""
    call = call_of([[VIDEO, "What?"], [OTHER, "And?"]])
    expected = kit.processor(**call)
    pictures = [[Image.fromarray(picture) for picture in video] for video in (VIDEO, OTHER)]
    tensors = [torch.from_numpy(video).permute(0, 3, 1, 2) for video in (VIDEO, OTHER)]
    for videos in (pictures, tensors, [[VIDEO], [OTHER]]):
        got = kit.processor(**{**call, "videos": videos})
        assert all(torch.equal(torch.as_tensor(got[name]), torch.as_tensor(expected[name])) for name in expected)
    chat = [{"role": "user", "content": [{"type": "video", "video": VIDEO}, {"type": "text", "text": "What?"}]}]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    how = {"do_sample_frames": False, "video_metadata": call["video_metadata"][:1]}
    got = kit.processor.apply_chat_template(chat, **options, processor_kwargs=how)
    rows = 4 * sum(r.kept for r in kit.processor.last_video_report[0])
    assert torch.equal(got["pixel_values_videos"], expected["pixel_values_videos"][:rows])


def test_what_cannot_be_processed_is_refused(kit: Kit) -> None:
    call = call_of([[VIDEO, "What?"]])
    process = kit.processor
    with pytest.raises(PrunedInputError, match=r"video placeholders .* but 2 videos were passed; give each"):
        process(**{**call, "videos": [VIDEO, VIDEO]})
    with pytest.raises(PrunedInputError, match="need their text"):
        process(videos=[VIDEO])
    with pytest.raises(ImageError, match="8-bit to be pruned"):
        process(**{**call, "videos": [VIDEO.astype(np.float32)]})
    with pytest.raises(ConfigError, match="a call of the processor"):
        process.video_processor([VIDEO], do_sample_frames=False)
    batch = process(**call)
    bare = {name: value for name, value in batch.items() if name != KEPT}
    with pytest.raises(PrunedInputError, match=r"pixel_values_videos has .* rows but video_grid_thw is of"):
        logits(kit, bare)
    last = batch[KEPT].clone()
    frames = kit.processor.last_video_report[0]
    gone = last > sum(r.total for r in frames[:-1])
    short = {
        **batch,
        "input_ids": batch["input_ids"][~gone][None],
        "attention_mask": batch["attention_mask"][~gone][None],
        "mm_token_type_ids": batch["mm_token_type_ids"][~gone][None],
        KEPT: last[~gone][None],
        "pixel_values_videos": batch["pixel_values_videos"][: -4 * frames[-1].kept],
    }
    with pytest.raises(PrunedInputError, match="frames 2 of a video of 3 in row 0 keep no block"):
        logits(kit, short)


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies(kit: Kit, how: str) -> None:
    call = call_of([ROW])
    expected = kit.processor(**call)
    again = pickle.loads(pickle.dumps(kit.processor)) if how == "pickle" else copy.deepcopy(kit.processor)
    assert all(torch.equal(torch.as_tensor(again(**call)[n]), torch.as_tensor(expected[n])) for n in expected)
