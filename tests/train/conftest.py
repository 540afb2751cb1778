"""A tiny model's folder, images and rows to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from train_kit import PICTURES, load_processor, save_pictures
from transformers.utils import logging

from pixelprune.check.tiny import build_tiny

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
logging.set_verbosity_error()
logging.disable_progress_bar()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-VL as ``from_pretrained`` loads it."""
    return build_tiny(tmp_path_factory.mktemp("qwen3_vl"), "qwen3_vl")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small crops of real images, ``form.png`` and others."""
    path = tmp_path_factory.mktemp("pictures")
    save_pictures(path)
    assert {file.stem for file in path.iterdir()} == set(PICTURES)
    return path


@pytest.fixture
def processor(folder: Path) -> Any:
    return load_processor(folder)
