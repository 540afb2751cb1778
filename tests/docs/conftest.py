"""A hub without a network, and a folder with files under the names that the documentation uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub import fill_hub
from pages import ROOT
from samples import write_samples

from pixelprune.check.tiny import build_tiny


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a process that finds a tiny model under its hub name, and our ``python`` and ``pixelprune``."""
    home, programs = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("bin")
    fill_hub(home, build_tiny)
    for name, arguments in (("python", ""), ("pixelprune", "-m pixelprune ")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        program.chmod(0o755)
    return {
        **os.environ,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The files, and the repository's ``examples`` beside them."""
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    for month in ("january", "june"):
        subprocess.run(
            [sys.executable, "-m", "pixelprune", "survey", "scans", "--out", f"{month}.html"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture
def run(samples: Path, environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a copy of the samples; it must end well."""
    folder = tmp_path / "here"
    shutil.copytree(samples, folder)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    return run
