"""Stock processors beside the pruned ones of the same folder, and what the pruned ones must return.

The reference starts from the stock processor's output alone: its raw levels (no rescaling, no normalisation) are the
resized image, its rows of ``pixel_values`` those of the kept patches, its sequence is shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import BatchFeature

from pixelprune import PruneConfig, Selection, select
from pixelprune.check import oracle
from pixelprune.check.tiny import build_tiny
from pixelprune.hf import PrunedProcessor
from pixelprune.hf.kept import KEPT
from pixelprune.models.registry import family_of

IMAGES = Path(__file__).parents[2] / "examples" / "images"
#: Small bounds, so that large images are scaled down and small ones are left alone.
SIZE = {"shortest_edge": 3136, "longest_edge": 1 << 18}
MERGE = 2


@cache
def picture(file: str, *box: int) -> Image.Image:
    """An example image, or a crop of it."""
    with Image.open(IMAGES / file) as image:
        return image.convert("RGB").crop(box or None)


def noise(height: int, width: int) -> Image.Image:
    """An image in which no block resembles another."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def spots(cell: int, rows: int, cols: int, places: list[tuple[int, int]]) -> tuple[Image.Image, list[int]]:
    """A white page with noisy blocks at some places, no two of them neighbours; and what ``pred2d`` keeps of it.

    A spot costs three blocks: itself, the one to its right and the one below it.
    """
    pixels = np.full((rows * cell, cols * cell, 3), 255, np.uint8)
    kept = {0}
    for number, (row, col) in enumerate(places):
        spot = np.random.default_rng(number).integers(0, 256, (cell, cell, 3), np.uint8)
        pixels[row * cell : (row + 1) * cell, col * cell : (col + 1) * cell] = spot
        kept |= {row * cols + col, row * cols + col + 1, (row + 1) * cols + col}
    return Image.fromarray(pixels), sorted(kept)


FORM = picture("tax-form.png", 40, 60, 440, 300)
DARK = picture("dashboard-dark.png", 200, 0, 500, 360)
PAGE = picture("docs-page.png", 300, 100, 780, 420)
SLIDE = IMAGES / "slide.png"
HOLE = "<|vision_start|><|image_pad|><|vision_end|>"
ONE, TWO, NONE = f"What is {HOLE}?", f"{HOLE} or {HOLE}?", "No image here"
SETTINGS: dict[str, Any] = {"text": [TWO, ONE], "images": [FORM, DARK, PAGE], "padding": True, "return_tensors": "pt"}


@dataclass(frozen=True)
class Twins:
    """A family's folder with the stock and the pruned processor loaded from it."""

    model_type: str
    folder: Path
    stock: Any
    pruned: Any

    @property
    def patch(self) -> int:
        size: int = self.stock.image_processor.patch_size
        return size

    def text(self, prompt: str) -> str:
        """A prompt with the tokens that this family has around an image."""
        return prompt.replace(HOLE, family_of(self.model_type).tokens.hole)

    @property
    def cell(self) -> int:
        """Side of a block in pixels."""
        return self.patch * MERGE


def load_stock(model_type: str, folder: Path, **kwargs: Any) -> Any:
    """The family's stock processor, but for the video processor, which would need torchvision."""
    stock: Any = getattr(transformers, family_of(model_type).processor)

    class WithoutVideo(stock):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

    return WithoutVideo.from_pretrained(folder, **kwargs)


def make_twins(model_type: str, folder: Path, **kwargs: Any) -> Twins:
    kwargs = {"size": SIZE, **kwargs}
    build_tiny(folder, model_type, weights=False)
    stock = load_stock(model_type, folder, **kwargs)
    return Twins(model_type, folder, stock, PrunedProcessor.from_pretrained(folder, **kwargs))


def resized(stock_image_processor: Any, image: Any, **kwargs: Any) -> np.ndarray:
    """uint8 ``(H, W, C)``: the image as the stock image processor resizes it, put together from its own patches."""
    raw = stock_image_processor(images=image, do_rescale=False, do_normalize=False, return_tensors="np", **kwargs)
    ((_, height, width),) = raw["image_grid_thw"].tolist()
    patch = kwargs.get("patch_size", stock_image_processor.patch_size)
    temporal = stock_image_processor.temporal_patch_size
    rows = raw["pixel_values"].reshape(height // MERGE, width // MERGE, MERGE, MERGE, -1, temporal, patch, patch)
    assert (rows == rows[..., :1, :, :]).all()
    pixels = rows[..., 0, :, :].transpose(0, 2, 5, 1, 3, 6, 4).reshape(height * patch, width * patch, -1)
    assert (pixels == pixels.astype(np.uint8)).all()
    return pixels.astype(np.uint8)


def selection_of(stock_image_processor: Any, image: Any, config: PruneConfig, **kwargs: Any) -> Selection:
    """What the core selects on the image as the stock image processor resizes it."""
    block = stock_image_processor.patch_size * MERGE
    return select(resized(stock_image_processor, image, **kwargs), config, block_size=block)


def kept_rows(selections: list[Selection]) -> np.ndarray:
    """Rows of the stock ``pixel_values`` of these images that belong to kept blocks."""
    rows, offset = [], 0
    for selection in selections:
        rows.append(offset + selection.kept_indices[:, None] * MERGE**2 + np.arange(MERGE**2))
        offset += selection.num_blocks * MERGE**2
    return np.concatenate(rows).ravel()


def shortened(ids: list[int], image_token_id: int, grids: Any, kept: list[Any]) -> tuple[list[int], np.ndarray]:
    """A row of the stock processor, without padding, after pruning: its tokens, and its positions ``(4, length)``.

    ``grids`` and ``kept`` are those of the row's own images.
    """
    grids = torch.as_tensor(np.asarray(grids).reshape(-1, 3))
    row = torch.tensor(ids)
    full = oracle.FullInputs(row, torch.empty(0), grids, [torch.as_tensor(k, dtype=torch.long) for k in kept])
    stays = torch.ones_like(row, dtype=torch.bool) if not kept else ~oracle.dropped_tokens(full, image_token_id)
    vision = oracle.positions(full, image_token_id, MERGE)[:, stays]
    text = torch.arange(int(stays.sum()))[None]
    return row[stays].tolist(), torch.cat([text, vision]).numpy()


def lists(values: Any) -> list[Any]:
    return [row if isinstance(row, list) else row.tolist() for row in values]


def unpadded(batch: Any, row: int, key: str = "input_ids") -> list[int]:
    """A row of ``input_ids``, or of what travels like it, where its mask is set."""
    mask = np.asarray(lists(batch["attention_mask"])[row], bool)
    values: list[int] = np.asarray(lists(batch[key])[row])[mask].tolist()
    return values


def positions_of(pruned: Any, batch: Any) -> list[np.ndarray]:
    """Per row the positions ``(4, length)`` that an enabled model gives to it, without padding."""
    masks = [np.asarray(mask, bool) for mask in lists(batch["attention_mask"])]
    width = max(len(mask) for mask in masks)
    square = {
        key: np.array([[0] * (width - len(row)) + row for row in lists(batch[key])])
        for key in ("input_ids", "attention_mask", KEPT)
        if key in batch
    }
    positions = pruned.position_ids({**square, "image_grid_thw": batch["image_grid_thw"]}).numpy()
    assert (positions[:, square["attention_mask"] == 0] == 0).all()
    return [positions[:, row, seen] for row, seen in enumerate(square["attention_mask"].astype(bool))]


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
    assert set(pruned) == {*stock, KEPT}
    for key in stock:
        assert type(pruned[key]) is type(stock[key]), key
        assert getattr(pruned[key], "dtype", None) == getattr(stock[key], "dtype", None), key
    assert type(pruned[KEPT]) is type(pruned["input_ids"])
    assert [len(row) for row in lists(pruned[KEPT])] == [len(row) for row in lists(pruned["input_ids"])]
    positions = positions_of(twins.pruned, pruned)
    assert np.array_equal(pruned["image_grid_thw"], stock["image_grid_thw"])
    rows = kept_rows(selections)
    assert np.abs(np.asarray(pruned["pixel_values"]) - np.asarray(stock["pixel_values"])[rows]).max() <= 1e-6

    first = 0
    token = twins.stock.image_token_id
    for row, number in enumerate(images_per_row(twins, stock)):
        mine = slice(first, first + number)
        kept = [selection.kept_indices for selection in selections[mine]]
        grids = np.asarray(stock["image_grid_thw"])[mine]
        expected, where = shortened(unpadded(stock, row), token, grids, kept)
        assert unpadded(pruned, row) == expected, f"tokens of row {row}"
        assert np.array_equal(positions[row], where), f"positions of row {row}"
        assert not np.array_equal(positions[row], where + 1)
        blocks = iter(
            value
            for indices, offset in zip(kept, np.cumsum([0, *grids.prod(1)]), strict=False)
            for value in indices + 1 + offset // MERGE**2
        )
        assert unpadded(pruned, row, KEPT) == [next(blocks) if i == token else 0 for i in expected]
        first += number
    assert first == len(images)
    types = [[int(i == token) for i in row] for row in lists(pruned["input_ids"])]
    assert lists(pruned["mm_token_type_ids"]) == types
    return stock, pruned


def same(a: Any, b: Any) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)
