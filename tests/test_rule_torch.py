"""The torch implementation gives the compiled walk's result, for every rule."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from pixelprune import PruneConfig, select  # noqa: E402
from pixelprune.core import select_torch  # noqa: E402
from pixelprune.core.config import METHODS, METRICS  # noqa: E402

SETTINGS = [
    PruneConfig(method, metric, threshold, anchored)  # type: ignore[arg-type]
    for method, metric, threshold, anchored in itertools.product(METHODS, METRICS, (0.0, 0.02, 0.15), (True, False))
]


def structured(seed: int, rows: int, cols: int, size: int, channels: int) -> np.ndarray:
    """Blocks drawn from a few prototypes, some of them off by a little, so that every branch of the rules is taken."""
    rng = np.random.default_rng(seed)
    prototypes = rng.integers(0, 256, (4, size, size, channels))
    prototypes[1] = prototypes[0] + rng.integers(-3, 4, prototypes[0].shape)
    prototypes[2] = prototypes[1] + rng.integers(-3, 4, prototypes[0].shape)
    grid = rng.choice(4, (rows, cols), p=(0.4, 0.25, 0.2, 0.15))
    blocks = prototypes[grid] + rng.integers(-4, 5, (rows, cols, 1, 1, 1)) * (rng.random((rows, cols, 1, 1, 1)) < 0.4)
    return blocks.clip(0, 255).astype(np.uint8).swapaxes(1, 2).reshape(rows * size, cols * size, channels)


def assert_equal(image: np.ndarray, config: PruneConfig, size: int) -> None:
    expected = select(image, config, block_size=size)
    got = select(torch.from_numpy(image), config, block_size=size)
    np.testing.assert_array_equal(got.source, expected.source, err_msg=repr(config))
    np.testing.assert_array_equal(got.lattice_indices, expected.lattice_indices, err_msg=repr(config))
    assert got.level == expected.level
    if config.method == "adaptive":
        np.testing.assert_array_equal(got.row_predictors, expected.row_predictors, err_msg=repr(config))


@pytest.mark.parametrize("config", SETTINGS, ids=lambda c: f"{c.method}-{c.metric}-{c.threshold}-{c.anchored}")
def test_equals_the_compiled_walk(config: PruneConfig) -> None:
    for seed, (rows, cols, channels) in enumerate([(1, 1, 3), (1, 9, 3), (9, 1, 1), (7, 11, 3), (12, 6, 1)]):
        assert_equal(structured(seed, rows, cols, 4, channels), config, 4)


@pytest.mark.parametrize("method", METHODS)
def test_equals_with_a_lattice(method: str) -> None:
    image = structured(6, 9, 11, 4, 3)
    for metric, budget in itertools.product(METRICS, (None, 40)):
        config = PruneConfig(method, metric, 0.02, max_tokens=budget, lattice=3)  # type: ignore[arg-type]
        assert_equal(image, config, 4)
        # Control: the comparison sees another lattice.
        with pytest.raises(AssertionError):
            np.testing.assert_array_equal(
                select(torch.from_numpy(image), config.replace(lattice=2, max_tokens=None), block_size=4).source,
                select(image, config, block_size=4).source,
            )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_equals_on_a_real_page(method: str, threshold: float) -> None:
    with Image.open("examples/images/chart.png") as page:
        image = np.array(page.convert("RGB").crop((200, 200, 840, 712)))
    assert_equal(image, PruneConfig(method, threshold=threshold), 32)  # type: ignore[arg-type]


def test_long_gradients_settle() -> None:
    """A slow gradient makes anchored chains whose every link depends on the one before."""
    ramp = np.arange(64 * 64).reshape(64, 64, 1) // 20
    image = np.repeat(ramp, 3, axis=2).astype(np.uint8)
    for method in METHODS:
        assert_equal(image, PruneConfig(method, threshold=3 / 255), 2)  # type: ignore[arg-type]


def test_chains_that_are_too_long_are_finished_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.repeat((np.arange(3000) // 20).astype(np.uint8).reshape(1, -1, 1), 2, axis=0)[:, :3000]
    calls = []
    walk = select_torch.numpy_walk
    monkeypatch.setattr(select_torch, "numpy_walk", lambda *a: calls.append(a) or walk(*a))
    for method in ("pred2d", "adaptive", "raster", "serpentine"):
        config = PruneConfig(method, threshold=3 / 255)  # type: ignore[arg-type]
        expected = select(ramp, config, block_size=2)
        before = len(calls)
        got = select(torch.from_numpy(ramp), config, block_size=2)
        assert len(calls) > before and 20 < got.num_kept < 60
        np.testing.assert_array_equal(got.source, expected.source)


def test_budget() -> None:
    assert_equal(structured(5, 10, 10, 4, 3), PruneConfig(max_tokens=20), 4)


def test_control_one_changed_pixel_is_seen() -> None:
    image = structured(3, 7, 11, 4, 3)
    other = image.copy()
    other[1, 17] ^= 1  # in block 4, which equals block 3
    expected = select(image, block_size=4)
    assert not np.array_equal(select(torch.from_numpy(other), block_size=4).source, expected.source)


def test_strided_tensor() -> None:
    image = structured(4, 6, 6, 4, 3)
    planar = torch.from_numpy(image).permute(2, 0, 1).contiguous().permute(1, 2, 0)
    np.testing.assert_array_equal(select(planar, block_size=4).source, select(image, block_size=4).source)


def test_wrong_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8.*float32"):
        select(torch.zeros(32, 32, 3), block_size=32)
