"""Kept patches have the values that the stock image processor gives them, and cost no more memory."""

from __future__ import annotations

import copy
import tracemalloc
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stock import DARK, FORM, IMAGES, MERGE, Twins, kept_rows, make_twins, noise, resized, spots

from pixelprune import PruneConfig, select
from pixelprune.core.layout import kept_patches
from pixelprune.core.layout_torch import kept_patches_on_device
from pixelprune.errors import ImageError
from pixelprune.hf import pruned_image_processor
from pixelprune.hf.image_processor import SELECTIONS
from pixelprune.models.image_processor import level_table

ARRAY = np.asarray(FORM)
FILES = sorted(path.name for path in IMAGES.iterdir() if path.suffix in (".png", ".jpg"))


@pytest.fixture(scope="session", params=["qwen2_5_vl", "qwen3_vl"], ids=["patch14", "patch16"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """With the bounds on the size that the real models have."""
    size = {"shortest_edge": 3136, "longest_edge": 12845056}
    return make_twins(request.param, tmp_path_factory.mktemp("preprocess"), size=size)


def processors(twins: Twins, config: PruneConfig | None = None) -> tuple[Any, Any]:
    stock = twins.stock.image_processor
    return stock, pruned_image_processor(stock, config or PruneConfig())


def check(twins: Twins, images: Any, config: PruneConfig | None = None, **settings: Any) -> Any:
    """Compare both image processors on a list of images; return the pruned output."""
    stock, pruned = processors(twins, config)
    batch = pruned(images=images, return_tensors="np", **settings)
    compare(batch, stock(images=images, return_tensors="np", **settings))
    return batch


def compare(batch: Any, whole: Any) -> None:
    """The pruned output is the stock one at the kept blocks, and not at others."""
    assert set(batch) == {*whole, SELECTIONS}
    assert np.array_equal(batch["image_grid_thw"], whole["image_grid_thw"])
    values = whole["pixel_values"]
    rows = kept_rows([chosen.selection for chosen in batch[SELECTIONS]])
    assert batch["pixel_values"].dtype == np.float32
    assert batch["pixel_values"].shape == (len(rows), values.shape[1])
    assert np.abs(batch["pixel_values"] - values[rows]).max() <= 1e-6
    if len(rows) < len(values):
        off_by_one = (rows + 1) % len(values)
        assert np.abs(batch["pixel_values"] - values[off_by_one]).max() > 1e-2


@pytest.mark.parametrize("file", FILES)
def test_example_images(twins: Twins, file: str) -> None:
    """Whole images, exactly and with a tolerance; what is kept is what the core selects on the resized image."""
    with Image.open(IMAGES / file) as image:
        image.load()
    stock = twins.stock.image_processor
    whole, pixels = stock(images=[image], return_tensors="np"), resized(stock, image)
    for threshold in (0.0, 0.05):
        config = PruneConfig(threshold=threshold)
        batch = processors(twins, config)[1](images=[image], return_tensors="np")
        compare(batch, whole)
        expected = select(pixels, config, block_size=twins.cell)
        assert np.array_equal(batch[SELECTIONS][0].selection.source, expected.source)


def test_several_images(twins: Twins) -> None:
    """Of equal and of different sizes, in one list or nested."""
    images = [FORM, DARK, FORM.transpose(Image.Transpose.FLIP_LEFT_RIGHT), FORM]
    batch = check(twins, images)
    nested = processors(twins)[1](images=[images[:1], images[1:]], return_tensors="np")
    assert np.array_equal(nested["pixel_values"], batch["pixel_values"])
    counts = [chosen.selection.num_kept * MERGE**2 for chosen in batch[SELECTIONS]]
    parts = np.split(batch["pixel_values"], np.cumsum(counts)[:-1])
    assert np.array_equal(parts[0], parts[3]) and not np.array_equal(parts[0], parts[2])


def test_known_blocks(twins: Twins) -> None:
    """A page whose kept blocks are known, cut up by hand."""
    image, kept = spots(twins.cell, 4, 6, [(1, 2), (2, 4)])
    batch = check(twins, [image])
    assert batch[SELECTIONS][0].selection.kept_indices.tolist() == kept
    processor, patch = twins.stock.image_processor, twins.patch
    mean, std = np.array(processor.image_mean, np.float32), np.array(processor.image_std, np.float32)
    values = ((np.asarray(image, np.float32) / 255 - mean) / std).transpose(2, 0, 1)
    rows = iter(batch["pixel_values"])
    for block in kept:
        for inner in range(MERGE**2):
            y = (block // 6 * MERGE + inner // MERGE) * patch
            x = (block % 6 * MERGE + inner % MERGE) * patch
            tile = values[:, y : y + patch, x : x + patch]
            assert np.allclose(next(rows).reshape(3, 2, patch, patch), tile[:, None], rtol=0, atol=1e-6)


MODES = ["RGBA", "LA", "L", "P", "PA", "1", "CMYK", "YCbCr", "HSV", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_modes(twins: Twins, mode: str) -> None:
    gray = mode in ("L", "LA", "1", "I;16")
    image = FORM.convert("L") if gray else FORM
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    elif mode == "RGBA":
        image = FORM.convert("RGBA")
        image.putalpha(DARK.convert("L").resize(image.size))
    else:
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    assert image.mode == mode
    check(twins, [image])


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(ARRAY, id="HWC"),
        pytest.param(ARRAY.transpose(2, 0, 1), id="CHW"),
        pytest.param(np.asfortranarray(ARRAY), id="Fortran order"),
        pytest.param(ARRAY[::2, 40:], id="strided"),
        pytest.param(torch.from_numpy(ARRAY.transpose(2, 0, 1).copy()), id="torch"),
    ],
)
def test_arrays(twins: Twins, array: Any) -> None:
    batch = check(twins, [array])
    channels_first = array.shape[0] == 3
    pixels = np.asarray(array).transpose(1, 2, 0) if channels_first else np.asarray(array)
    same = check(twins, [Image.fromarray(np.ascontiguousarray(pixels))])
    assert np.array_equal(batch["pixel_values"], same["pixel_values"])
    layout = "channels_first" if channels_first else "channels_last"
    assert np.array_equal(check(twins, [array], input_data_format=layout)["pixel_values"], same["pixel_values"])


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"do_normalize": False}, id="no normalisation"),
        pytest.param({"do_rescale": False}, id="no rescaling"),
        pytest.param({"do_rescale": False, "do_normalize": False}, id="levels"),
        pytest.param({"rescale_factor": 1 / 127.5}, id="rescale factor"),
        pytest.param({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, id="mean and std"),
        pytest.param({"size": {"shortest_edge": 3136, "longest_edge": 40000}}, id="smaller"),
        pytest.param({"size": {"shortest_edge": 200000, "longest_edge": 400000}}, id="larger"),
        pytest.param({"resample": Image.Resampling.NEAREST}, id="resampling"),
        pytest.param({"temporal_patch_size": 3}, id="temporal patch"),
    ],
)
def test_settings_of_a_call(twins: Twins, settings: dict[str, Any]) -> None:
    batch = check(twins, [FORM], **settings)
    plain = check(twins, [FORM])
    assert batch["pixel_values"].shape != plain["pixel_values"].shape or not np.allclose(
        batch["pixel_values"], plain["pixel_values"], atol=1e-3
    )


def test_settings_of_the_processor(twins: Twins) -> None:
    stock = copy.deepcopy(twins.stock.image_processor)
    stock.image_mean, stock.image_std, stock.do_rescale = (10.0, 20.0, 30.0), (100.0, 90.0, 80.0), False
    changed = copy.copy(twins.stock)
    changed.image_processor = stock
    batch = check(Twins(twins.model_type, twins.folder, changed, None), [FORM])
    assert not np.allclose(batch["pixel_values"], check(twins, [FORM])["pixel_values"], atol=1e-3)


def test_images_that_fit_need_no_resizing(twins: Twins) -> None:
    fitting = FORM.crop((0, 0, 10 * twins.cell, 7 * twins.cell))
    batch = check(twins, [fitting], do_resize=False)
    assert np.array_equal(batch["pixel_values"], check(twins, [fitting])["pixel_values"])
    with pytest.raises(ImageError, match=rf"multiples of block_size={twins.cell} and not 0; got 240 x 400\b"):
        processors(twins)[1](images=[FORM], do_resize=False)


@pytest.mark.parametrize("kind", ["pt", "np"])
def test_an_image_with_nothing_to_prune(twins: Twins, kind: str) -> None:
    image = noise(5 * twins.cell, 4 * twins.cell)
    stock, pruned = processors(twins)
    whole, batch = (p(images=[image, image], return_tensors=kind) for p in (stock, pruned))
    for key in whole:
        assert type(batch[key]) is type(whole[key]) and batch[key].dtype == whole[key].dtype
        assert np.array_equal(batch[key], whole[key])
    other = pruned(images=[noise(4 * twins.cell, 5 * twins.cell)] * 2, return_tensors=kind)
    assert not np.array_equal(other["pixel_values"], whole["pixel_values"])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16", "uint16"])
def test_other_types_are_refused(twins: Twins, dtype: str) -> None:
    with pytest.raises(ImageError, match=rf"must be 8-bit to be pruned .*got (torch\.)?{dtype}\. Convert") as caught:
        processors(twins)[1](images=[ARRAY.astype(dtype)], do_resize=False)
    assert "\n" not in str(caught.value)


@cache
def screenshot() -> Image.Image:
    with Image.open(IMAGES / "dashboard-4k.png") as image:
        return image.convert("RGB")


def peak(processor: Any, image: Image.Image) -> int:
    """Most memory in use at a time, in bytes, beyond what was in use before."""
    processor(images=[FORM], return_tensors="np")  # whatever is made once
    tracemalloc.start()
    try:
        processor(images=[image], return_tensors="np")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_peak_memory(twins: Twins) -> None:
    """Not above the stock image processor's, even where every block is kept."""
    stock, pruned = processors(twins)
    if stock.backend != "pil":
        pytest.skip("tracemalloc sees the memory of numpy alone, this backend has torch's")
    assert screenshot().size >= (3840, 2160)
    limit = peak(stock, screenshot())
    assert limit > 8 * 3 * 3840 * 2160, "the stock image processor doubles every patch"
    assert peak(pruned, screenshot()) <= limit
    image = noise(1000, 1000)
    assert peak(pruned, image) <= peak(stock, image)


def test_the_layout_on_a_device(twins: Twins) -> None:
    """The torch twin of the compiled layout gives the same bits."""
    stock, _ = processors(twins)
    settings = {name: getattr(stock, name) for name in ("do_rescale", "rescale_factor", "do_normalize")}
    table = level_table(stock, 3, {**settings, "image_mean": stock.image_mean, "image_std": stock.image_std})
    assert table.shape == (3, 256) and (np.diff(table) > 0).all()
    pixels, blocks = np.array(noise(7 * twins.cell, 4 * twins.cell)), 28
    for kept in (range(28), range(0, 28, 3), [27], [0]):
        indices = np.array(kept, np.int32)
        for temporal in (1, 2, 3):
            layout = {"patch_size": twins.patch, "merge_size": MERGE, "temporal_patch_size": temporal}
            fast = kept_patches(pixels, indices, table, **layout)
            slow = kept_patches_on_device(torch.from_numpy(pixels), indices, table, **layout)
            assert slow.dtype == torch.float32
            assert np.array_equal(slow.numpy(), fast)
            assert len(fast) == len(indices) * MERGE**2
        moved = kept_patches_on_device(torch.from_numpy(pixels), (indices + 1) % blocks, table, **layout)
        assert not np.array_equal(moved.numpy(), fast)
