"""Tiny models, built once, and vLLM's settings for small engines on a CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pixelprune.models.registry import FAMILIES

SERVED = [family.model_type for family in FAMILIES.values() if family.vllm is not None]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes share the tests by what they share: an engine per family, otherwise what a file starts."""
    for item in items:
        family = item.callspec.params.get("family", "") if hasattr(item, "callspec") else ""
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}{family}"))


@pytest.fixture(scope="session", autouse=True)
def small_engines():
    """In this process and those it starts: little memory for caches, no thread pinned to a core."""
    patch = pytest.MonkeyPatch()
    patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    patch.setenv("VLLM_NO_USAGE_STATS", "1")
    patch.setenv("HF_HUB_OFFLINE", "1")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with a tiny model of each family, by name. Built in another process: this one stays as vLLM likes it."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, str(Path(__file__).with_name("build.py")), str(folder), *SERVED], check=True)
    return folder
