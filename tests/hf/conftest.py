"""A kit per family, and one of Qwen3-VL."""

from __future__ import annotations

import pytest
import torch
from kit import Kit, make_kit

from pixelprune.hf import FAMILIES

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_kit(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_kit("qwen3_vl", tmp_path_factory.mktemp("qwen3"))
