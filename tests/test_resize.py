"""The sizes and pixels are those of the models' own image processor."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
import transformers
from corpus import UPSTREAM
from PIL import Image
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm4v.image_processing_pil_glm4v import smart_resize as glm_resize
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from pixelprune import PruneConfig
from pixelprune.core.images import open_image
from pixelprune.errors import ConfigError, ImageError, UnsupportedModelError
from pixelprune.hf import pruned_image_processor
from pixelprune.models.registry import FAMILIES
from pixelprune.models.resize import IMAGE_PROCESSORS, ResizeSpec

QWEN3, QWEN2 = ResizeSpec.for_model("qwen3_vl"), ResizeSpec.for_model("qwen2_5_vl")
GLM = ResizeSpec.for_model("glm4v")
OTHER_RULE = {"qwen2_vl": "glm4v", "glm4v": "qwen2_vl"}


def stock_size(spec: ResizeSpec, height: int, width: int) -> tuple[int, int]:
    """What the stock function of the spec's rule gives."""
    if spec.rule == "glm4v":
        return glm_resize(2, height, width, 2, spec.block_size, spec.min_pixels, spec.max_pixels)
    return smart_resize(height, width, spec.block_size, spec.min_pixels, spec.max_pixels)


def sizes(block: int) -> list[tuple[int, int]]:
    """(height, width) pairs: tiny to huge, among them sides that lie halfway between two multiples of the block."""
    rng = np.random.default_rng(0)
    drawn = np.exp(rng.uniform(0, math.log(12000), (20000, 2))).round().astype(int)
    halves = (rng.integers(0, 60, (2000, 2)) * block + block // 2).clip(1)
    small = [(height, width) for height in range(1, 40) for width in range(1, 40)]
    pairs = [(int(h), int(w)) for h, w in [*drawn, *halves]] + small
    return [pair for pair in pairs if max(pair) <= 200 * min(pair)]


@pytest.mark.parametrize(
    "spec",
    [QWEN3, QWEN2, ResizeSpec(7, 3, 1, 10**6), GLM, ResizeSpec(7, 3, 10**5 + 1, 10**6 + 1, "glm4v")],
    ids=["qwen3", "qwen2", "other", "glm", "other glm"],
)
def test_sizes_are_those_of_the_image_processor(spec):
    def stock(height, width):
        return stock_size(spec, height, width)

    def half_up(height, width):
        block = spec.block_size
        return tuple(math.floor(side / block + 0.5) * block for side in (height, width))

    checked = sizes(spec.block_size)
    assert [spec.target_size(*pair) for pair in checked] == [stock(*pair) for pair in checked]
    # Controls: the comparison sees another rounding of halves, and each of the bounds.
    within = [p for p in checked if spec.min_pixels <= math.prod(half_up(*p)) <= spec.max_pixels]
    if spec.block_size % 2 == 0:
        assert any(half_up(*pair) != stock(*pair) for pair in within)
    for changed in (
        ResizeSpec(spec.patch_size, spec.merge_size, spec.min_pixels, spec.max_pixels // 2, spec.rule),
        ResizeSpec(spec.patch_size, spec.merge_size, spec.min_pixels * 2, spec.max_pixels, spec.rule),
        ResizeSpec(spec.patch_size, spec.merge_size, spec.min_pixels, spec.max_pixels, OTHER_RULE[spec.rule]),
    ):
        if (
            changed.min_pixels > spec.block_size**2
            or changed.max_pixels != spec.max_pixels
            or changed.rule != spec.rule
        ):
            assert any(changed.target_size(*pair) != stock(*pair) for pair in checked)


@pytest.mark.parametrize("height, width", [(1, 200), (200, 1), (40, 8000), (1, 201), (40, 20000), (8001, 40)])
def test_refuses_what_the_image_processor_refuses(height, width):
    try:
        expected = smart_resize(height, width, 32, 65536, 16777216)
    except ValueError:
        with pytest.raises(ImageError, match=f"{width} x {height} .*too elongated"):
            QWEN3.target_size(height, width)
    else:
        assert QWEN3.target_size(height, width) == expected


def test_no_pixels():
    with pytest.raises(ImageError, match="no pixels: 5 x 0"):
        QWEN3.target_size(0, 5)


def test_without_arguments_it_is_that_of_qwen3_vl():
    assert ResizeSpec() == QWEN3 != QWEN2


def test_pixels_of_the_examples(real_name, real_path):
    """Equal to the hashes of the resized pixels in the authors' results."""
    spec = ResizeSpec()
    image = open_image(real_path)
    pixels = spec.resize(image)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    expected = UPSTREAM[real_name]
    assert [pixels.shape[1], pixels.shape[0]] == expected["resized"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == expected["pixels_sha256"]
    if list(image.size) != expected["resized"]:
        other = np.asarray(image.resize(tuple(expected["resized"]), Image.Resampling.BILINEAR))
        assert hashlib.sha256(other.tobytes()).hexdigest()[:16] != expected["pixels_sha256"]


def test_pixels_equal_the_stock_processor():
    pixels = np.random.default_rng(1).integers(0, 256, (333, 517, 3), dtype=np.uint8)
    qwen = Qwen2VLImageProcessorPil
    for spec, kind in ((QWEN3, qwen), (QWEN2, qwen), (GLM, Glm4vImageProcessorPil)):
        processor = kind(
            patch_size=spec.patch_size, size={"shortest_edge": spec.min_pixels, "longest_edge": spec.max_pixels}
        )
        patches = processor(Image.fromarray(pixels), do_rescale=False, do_normalize=False, return_tensors="np")
        resized = spec.resize(Image.fromarray(pixels))
        _, rows, cols = patches["image_grid_thw"][0]
        assert resized.shape[:2] == (rows * spec.patch_size, cols * spec.patch_size)
        ours = kind.patchify(
            processor, resized.transpose(2, 0, 1), spec.patch_size, spec.merge_size, temporal_patch_size=2
        )[0]
        np.testing.assert_array_equal(ours, patches["pixel_values"])
        assert (ours[::-1] != patches["pixel_values"]).any()


@pytest.mark.parametrize("kind", ["PaddleOCRVLImageProcessorPil", "SiglipImageProcessorPil"])
def test_image_processors_of_other_layouts_are_refused(kind):
    """PaddleOCR-VL's has the same methods, but lays patches out row by row."""
    with pytest.raises(UnsupportedModelError, match=f"must be one of Qwen2VLImageProcessor, .*; got {kind}"):
        pruned_image_processor(getattr(transformers, kind)(), PruneConfig())
    for name in IMAGE_PROCESSORS:
        pruned_image_processor(getattr(transformers, f"{name}Pil")(), PruneConfig())


def test_resize_wants_rgb():
    with pytest.raises(ImageError, match="must be RGB; got mode RGBA"):
        QWEN3.resize(Image.new("RGBA", (50, 50)))


@pytest.mark.parametrize(
    "name, family",
    [
        ("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl"),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", "qwen3_vl"),
        ("Qwen/Qwen3.5-4B", "qwen3_5"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl"),
        ("Qwen2-VL-2B-Instruct", "qwen2_vl"),
    ],
)
def test_models_known_by_name(name, family):
    assert ResizeSpec.for_model(name) == ResizeSpec.for_model(family)
    assert ResizeSpec.for_model("qwen2_vl") != ResizeSpec.for_model("qwen3_vl")


@pytest.mark.parametrize(
    "name", ["llava", "Qwen/Qwen3-2B", "./Qwen3-VL-2B-Instruct", "/a/Qwen3-VL-2B", "a/b/Qwen3-VL-2B", "", "Qwen3-VL-"]
)
def test_unknown_models_are_refused_with_what_is_known(name):
    with pytest.raises(ConfigError) as caught:
        ResizeSpec.for_model(name)
    assert all(family in str(caught.value) for family in FAMILIES)
    assert repr(name) in str(caught.value)


def save(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def test_folder_saved_by_transformers(tmp_path):
    Qwen2VLImageProcessorPil(patch_size=16, min_pixels=4096, max_pixels=10**6).save_pretrained(tmp_path)
    assert ResizeSpec.for_model(tmp_path) == ResizeSpec(16, 2, 4096, 10**6)
    Qwen2VLImageProcessorPil().save_pretrained(tmp_path)
    assert ResizeSpec.for_model(str(tmp_path)) == ResizeSpec(14, 2, 56 * 56, 28 * 28 * 1280)


@pytest.mark.parametrize("kind", IMAGE_PROCESSORS)
def test_settings_without_values_take_the_defaults_of_the_class(kind):
    stock = getattr(transformers, f"{kind}Pil")()
    rule, size = IMAGE_PROCESSORS[kind].rule, stock.size
    expected = ResizeSpec(stock.patch_size, stock.merge_size, size["shortest_edge"], size["longest_edge"], rule)
    assert ResizeSpec.from_processor({"image_processor_type": f"{kind}Fast"}) == expected
    assert ResizeSpec.from_processor(stock.to_dict()) == expected
    if kind == "Qwen2VLImageProcessor":
        assert ResizeSpec.from_processor({}) == expected


def test_files_of_a_folder_in_their_order(tmp_path):
    def edges(low, high):
        return {"patch_size": 16, "merge_size": 2, "size": {"shortest_edge": low, "longest_edge": high}}

    vision = {"patch_size": 8, "spatial_merge_size": 4}
    save(tmp_path / "config.json", {"model_type": "qwen2_vl", "vision_config": vision})
    assert ResizeSpec.for_model(tmp_path) == ResizeSpec(8, 4, 3136, 12845056)
    save(tmp_path / "preprocessor_config.json", {**edges(2000, 20000), "max_pixels": 30000})
    assert ResizeSpec.for_model(tmp_path) == ResizeSpec(16, 2, 2000, 30000)
    save(tmp_path / "processor_config.json", {"processor_class": "Qwen3VLProcessor"})
    assert ResizeSpec.for_model(tmp_path) == ResizeSpec(16, 2, 2000, 30000)
    save(tmp_path / "processor_config.json", {"image_processor": edges(1000, 10000)})
    assert ResizeSpec.for_model(tmp_path) == ResizeSpec(16, 2, 1000, 10000)


@pytest.mark.parametrize(
    "file, content, reason",
    [
        (None, None, "no processor_config.json"),
        ("config.json", "{", "cannot be read as JSON"),
        ("config.json", "[]", "must hold a JSON object; got list"),
        ("config.json", '{"model_type": "llava"}', "model_type 'llava' is not one of the known families"),
        ("config.json", '{"model_type": "qwen3_vl", "vision_config": 3}', "config.json"),
        ("preprocessor_config.json", '{"patch_size": "16"}', "patch_size must be a whole number"),
        ("preprocessor_config.json", '{"size": {"height": 4, "width": 4}}', "min_pixels .* got None"),
        ("preprocessor_config.json", '{"size": 224}', "size must hold shortest_edge and longest_edge"),
        ("preprocessor_config.json", '{"image_processor_type": "CLIPImageProcessor"}', "'CLIPImageProcessor'"),
        ("preprocessor_config.json", '{"resample": 2}', "bicubic filter; got .*resample=2"),
        ("preprocessor_config.json", '{"do_resize": false}', "do_resize=False"),
        ("processor_config.json", '{"image_processor": []}', "processor_config.json"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, file, content, reason):
    if file is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        ResizeSpec.for_model(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [(0, 2, 1, 9999), (16, 2.0, 1, 9999), (16, True, 1, 9999), (16, 2, 0, 9999), (16, 2, 9999, 9998), (64, 2, 1, 9999)],
)
def test_specs_that_make_no_sense(values):
    with pytest.raises(ConfigError):
        ResizeSpec(*values)
