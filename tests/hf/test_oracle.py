"""The pruned model equals an independent oracle, on every family; and the comparison fails when anything is broken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kit import EXACT, TOLERANCE, Kit, crop
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText

from pixelprune.check import oracle
from pixelprune.hf import enable
from pixelprune.hf import encode as encode_module
from pixelprune.hf.encode import encode_kept, tower_inputs
from pixelprune.models.registry import family_of

IMAGES = ("form", "page")


def close(got: Tensor, expected: Tensor, model_type: str, factor: float = 1.0) -> bool:
    limit = factor * TOLERANCE.get(model_type, EXACT) * float(expected.abs().max())
    return got.shape == expected.shape and float((got - expected).abs().max()) <= limit


@pytest.fixture(scope="module")
def case(kit: Kit) -> tuple[Kit, Any, oracle.FullInputs, Tensor]:
    images = [crop(name) for name in IMAGES]
    text = kit.text("Look ", "image", " and ", "image", " what is the total?")
    inputs = kit.processor(text=[text], images=images, return_tensors="pt")
    full = kit.full_inputs(text, images, kit.select(images))
    assert all(0.3 < report.retain_ratio < 0.95 for report in kit.processor.last_report)
    with torch.no_grad():
        return kit, inputs, full, oracle.logits(kit.model, full)


def features(kit: Kit, inputs: Any, kept: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    with torch.no_grad():
        output = encode_kept(
            kit.model.base_model.visual,
            family_of(kit.model_type),
            inputs["pixel_values"],
            inputs["image_grid_thw"],
            [indices.numpy() for indices in kept],
        )
    deep = getattr(output, "deepstack_features", None) or []
    return torch.cat(output.pooler_output), [torch.cat(level) for level in deep]


def test_encoder_outputs(case: Any) -> None:
    kit, inputs, full, _ = case
    with torch.no_grad():
        pooled, deep = oracle.encode(kit.model, full)
    got, got_deep = features(kit, inputs, list(full.kept))
    assert close(got, torch.cat(pooled), "tower")
    assert len(got_deep) == len(deep) == (2 if family_of(kit.model_type).deepstack else 0)
    assert all(close(a, b, "tower") for a, b in zip(got_deep, deep, strict=True))


def test_logits(case: Any) -> None:
    kit, inputs, _, expected = case
    with torch.no_grad():
        assert close(kit.model(**inputs).logits[0], expected, kit.model_type)


def test_greedy_generation(case: Any) -> None:
    kit, inputs, full, _ = case
    expected = oracle.generate(kit.model, full, 10)
    length = inputs["input_ids"].shape[1]
    for use_cache in (True, False):
        output = kit.model.generate(**inputs, max_new_tokens=10, do_sample=False, use_cache=use_cache)
        assert output[0, length:].tolist() == expected, f"use_cache={use_cache}"


def test_nothing_pruned_is_the_plain_tower(kit: Kit) -> None:
    """With every block kept, precomputed inputs give the plain call's result bit for bit."""
    pixels = kit.stock(images=[crop("form"), crop("dark")], return_tensors="pt")
    grid = pixels["image_grid_thw"]
    kept = [torch.arange(int(g.prod()) // 4) for g in grid]
    with torch.no_grad():
        plain = kit.model.base_model.visual(pixels["pixel_values"], grid_thw=grid, return_dict=True).pooler_output
    assert torch.equal(features(kit, pixels, kept)[0], plain)


def shifted_rotary(inputs: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
    return {**inputs, "position_ids": inputs["position_ids"].roll(4, 0)}


def compact_rotary(inputs: dict[str, Tensor], *, tower: Any, **_: Any) -> dict[str, Tensor]:
    """Positions as if the kept patches were an image of their own: one long row of blocks."""
    count = len(inputs["position_ids"])
    blocks = torch.arange(count // 4).repeat_interleave(4)
    inner = torch.arange(4).repeat(count // 4)
    return {**inputs, "position_ids": torch.stack([inner // 2, blocks * 2 + inner % 2], dim=-1)}


def merged_sequences(inputs: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
    merged = {**inputs, "cu_seqlens": inputs["cu_seqlens"][[0, -1]]}
    if "cu_window_seqlens" in inputs:
        merged["cu_window_seqlens"] = inputs["cu_window_seqlens"][[0, -1]]
    return merged


def next_blocks(
    _: dict[str, Tensor], *, tower: Any, family: Any, grid: Tensor, kept: list[Tensor]
) -> dict[str, Tensor]:
    """Every index after the first off by one, where that stays inside the image."""
    moved: list[Any] = []
    for indices, g in zip(map(torch.as_tensor, kept), grid, strict=True):
        last = int(g.prod()) // 4 - 1
        later = (indices + 1).clamp(max=last)
        moved.append(torch.where(torch.isin(later, indices) | (indices == 0), indices, later).numpy())
    assert any((m != np.asarray(k)).any() for m, k in zip(moved, kept, strict=True))
    return tower_inputs(tower, family, grid, moved)


def wrong_interpolation(inputs: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
    return {**inputs, "interp_indices": inputs["interp_indices"].roll(4, 0)}


def wrong_windows(inputs: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
    return {**inputs, "window_index": inputs["window_index"].roll(5)}


CONTROLS: list[Callable[..., dict[str, Tensor]]] = [
    shifted_rotary,
    compact_rotary,
    merged_sequences,
    next_blocks,
    wrong_interpolation,
    wrong_windows,
]


@pytest.mark.parametrize("broken", CONTROLS, ids=lambda f: f.__name__)
def test_control_broken_tower_inputs(case: Any, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Break what the tower gets and both comparisons fail by a wide margin."""
    kit, inputs, full, expected = case
    family = family_of(kit.model_type)
    if (broken is wrong_interpolation and not family.interpolated) or (broken is wrong_windows and not family.windowed):
        # The family has no such input; its absence is what there is to check.
        key = "interp_indices" if broken is wrong_interpolation else "window_index"
        arrays = [indices.numpy() for indices in full.kept]
        assert key not in tower_inputs(kit.model.base_model.visual, family, inputs["image_grid_thw"], arrays)
        return

    def wrapped(tower: Any, fam: Any, grid: Tensor, kept: Any) -> dict[str, Tensor]:
        return broken(tower_inputs(tower, fam, grid, kept), tower=tower, family=fam, grid=grid, kept=list(kept))

    monkeypatch.setattr(encode_module, "tower_inputs", wrapped)
    with torch.no_grad():
        pooled, _ = oracle.encode(kit.model, full)
        assert not close(features(kit, inputs, list(full.kept))[0], torch.cat(pooled), "tower", factor=100)
        assert not close(kit.model(**inputs).logits[0], expected, kit.model_type, factor=10)


def test_control_wrong_text_positions(case: Any) -> None:
    """Positions by the count of tokens, or of text that begins too early, are caught; the right ones may be passed."""
    kit, inputs, _, expected = case
    right = kit.processor.position_ids(inputs)
    counted = right.clone()
    counted[1:, 0] = counted[0, 0]
    early = right.clone()
    tail = int((inputs["input_ids"][0] == kit.model.config.image_token_id).nonzero()[-1]) + 1
    early[1:, 0, tail:] -= 3
    with torch.no_grad():
        assert close(kit.model(**inputs, position_ids=right).logits[0], expected, kit.model_type)
        for wrong in (counted, early):
            logits = kit.model(**inputs, position_ids=wrong).logits[0]
            assert not close(logits, expected, kit.model_type, factor=10)


def test_control_another_images_indices(kit: Kit) -> None:
    """Two images that keep the same number of blocks: with their indices swapped, the comparison fails."""
    images = [crop("dark"), crop("dark").transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    pixels = kit.stock(images=images, return_tensors="pt")
    grid = pixels["image_grid_thw"]
    total = int(grid[0].prod()) // 4
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randperm(total - 1, generator=generator)[: total // 2] + 1 for _ in images]
    kept = [torch.cat([torch.tensor([0]), indices.sort().values]) for indices in draw]
    patches = pixels["pixel_values"].reshape(2, total, 4, -1)
    rows = {
        "pixel_values": torch.cat([patches[i][indices].flatten(0, 1) for i, indices in enumerate(kept)]),
        "image_grid_thw": grid,
    }
    full = kit.full_inputs(kit.text("image", "-", "image"), images, kept)
    with torch.no_grad():
        expected = torch.cat(oracle.encode(kit.model, full)[0])
    assert close(features(kit, rows, kept)[0], expected, "tower")
    assert not close(features(kit, rows, kept[::-1])[0], expected, "tower", factor=100)


def test_bfloat16_is_as_close_as_bfloat16_can_be(kit: Kit) -> None:
    """In bf16 the pruned features differ from the fp32 oracle about as much as the plain bf16 tower does from fp32."""
    images = [crop("form")]
    text = kit.text("image")
    inputs = kit.processor(text=[text], images=images, return_tensors="pt")
    full = kit.full_inputs(text, images, kit.select(images))
    whole = [torch.arange(int(full.image_grid_thw[0].prod()) // 4)]
    rows = {"pixel_values": full.pixel_values, "image_grid_thw": full.image_grid_thw}
    half = AutoModelForImageTextToText.from_pretrained(kit.folder, dtype=torch.bfloat16).eval()
    low = dataclasses.replace(kit, model=enable(half))
    exact, _ = features(kit, inputs, list(full.kept))
    exact_whole, _ = features(kit, rows, whole)
    rough, _ = features(low, inputs, list(full.kept))
    rough_whole, _ = features(low, rows, whole)
    with torch.no_grad():
        assert low.model(**inputs).logits.dtype == torch.bfloat16
    length = inputs["input_ids"].shape[1]
    assert low.model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[1] == length + 2
    error = float((rough.float() - exact).norm() / exact.norm())
    usual = float((rough_whole.float() - exact_whole).norm() / exact_whole.norm())
    assert 0 < error <= 2 * usual
