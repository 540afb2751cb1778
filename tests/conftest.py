"""The real images that tests run on, resized as a model's image processor would resize them."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import EXAMPLES, UPSTREAM, example_files, load

from pixelprune.models.registry import FAMILIES


def pytest_addoption(parser):
    parser.addoption(
        "--corpus",
        metavar="DIR",
        type=Path,
        help="also compare every image of this folder that tests/data/upstream.json knows by its file name",
    )
    parser.addoption(
        "--family",
        choices=sorted(FAMILIES),
        help="of the tests that run on every family of models, run this one's alone",
    )


def pytest_collection_modifyitems(config, items):
    """With ``--family``, leave out what is parametrised with the name of another family."""
    family = config.getoption("--family")
    if family is None:
        return
    others = set(FAMILIES) - {family}
    kept, left_out = [], []
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        (left_out if any(isinstance(value, str) and value in others for value in values) else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def corpus_files(config):
    """The paths of the images under ``--corpus``, by file name; none without the option."""
    folder = config.getoption("--corpus")
    if folder is None:
        return {}
    files = {name: folder / name for name in UPSTREAM if (folder / name).is_file()}
    if not files:
        raise pytest.UsageError(f"--corpus: {folder} has no image that tests/data/upstream.json names")
    return files


def pytest_generate_tests(metafunc):
    """Run a test of ``real_path`` or ``real_pixels`` once per example image, and once per image of the corpus."""
    if "real_path" in metafunc.fixturenames:
        files = [*example_files().items(), *corpus_files(metafunc.config).items()]
        ids = [path.name if path.parent == EXAMPLES else f"corpus/{name}" for name, path in files]
        metafunc.parametrize("real_name, real_path", files, ids=ids)


@pytest.fixture
def real_pixels(real_name, real_path):
    """uint8 (H, W, 3), H and W multiples of 32: the image that the test runs on."""
    return load(real_path, tuple(UPSTREAM[real_name]["resized"]))


@pytest.fixture(scope="session")
def examples():
    """The example images by file name, each uint8 (H, W, 3), H and W multiples of 32."""
    return {path.name: load(path, tuple(UPSTREAM[original]["resized"])) for original, path in example_files().items()}
