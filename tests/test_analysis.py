"""Distinct blocks and the retain table, against slow twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelprune import PruneConfig, select
from pixelprune.core.analysis import distinct_ratio, retain_table
from pixelprune.core.config import METHODS
from pixelprune.errors import ConfigError, ImageError

IMAGES = Path(__file__).parents[1] / "examples" / "images"


def _real(name: str, block_size: int) -> np.ndarray:
    """A corner of a real image, cut to whole blocks."""
    image = np.asarray(Image.open(IMAGES / name).convert("RGB"))[64:352, 64:448]
    return image[: image.shape[0] // block_size * block_size, : image.shape[1] // block_size * block_size]


def _slow_distinct(image: np.ndarray, size: int) -> float:
    blocks = [
        image[y : y + size, x : x + size]
        for y in range(0, image.shape[0], size)
        for x in range(0, image.shape[1], size)
    ]
    distinct: list[np.ndarray] = []
    for block in blocks:
        if not any(np.array_equal(block, other) for other in distinct):
            distinct.append(block)
    return len(distinct) / len(blocks)


@pytest.mark.parametrize("name", ["slide.png", "docs-page.png", "dashboard-dark.png"])
@pytest.mark.parametrize("size", [28, 32])
def test_distinct_ratio_equals_comparing_every_pair(name: str, size: int) -> None:
    image = _real(name, size)
    ratio = distinct_ratio(image, size)
    assert ratio == _slow_distinct(image, size)
    assert ratio != _slow_distinct(image, size // 4)  # control: it does depend on where blocks are cut


def test_distinct_ratio_sees_a_single_value_anywhere() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    assert distinct_ratio(image, 32) == 1 / 12
    image[95, 127, 2] = 1
    assert distinct_ratio(image, 32) == 2 / 12
    image[:32, :32] = image[64:, 96:]
    assert distinct_ratio(image, 32) == 2 / 12
    assert distinct_ratio(image[:, :, :1], 32) == 1 / 12  # one channel, not contiguous, without the odd value


def test_no_exact_method_keeps_fewer_than_the_distinct_blocks() -> None:
    image = _real("docs-page.png", 32)
    least = distinct_ratio(image, 32)
    exact = [row for row in retain_table(image, 32, thresholds=[0.0]) if row.method != "random"]
    assert all(row.retain_ratio >= least for row in exact)
    assert any(row.retain_ratio < 1 for row in exact)


def test_retain_table_rows_are_what_select_keeps() -> None:
    image = _real("slide.png", 32)
    table = retain_table(image, 32, metric="mae")
    assert [(row.method, row.threshold) for row in table] == [(m, t) for m in METHODS for t in (0.0, 0.02, 0.05)]
    for row in table:
        selection = select(image, PruneConfig(method=row.method, metric="mae", threshold=row.threshold), block_size=32)
        assert (row.kept, row.total) == (selection.num_kept, selection.num_blocks)
        assert row.retain_ratio == row.kept / row.total
    assert len({row.kept for row in table}) > 1  # control: the rows differ


def test_bad_input_is_refused() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ImageError, match="uint8"):
        distinct_ratio(image.astype(np.float32), 32)
    with pytest.raises(ImageError, match="multiples of block_size=30"):
        distinct_ratio(image, 30)
    with pytest.raises(ConfigError, match="magic"):
        retain_table(image, 32, methods=["magic"])
    with pytest.raises(ConfigError, match="threshold"):
        retain_table(image, 32, thresholds=[2.0])
