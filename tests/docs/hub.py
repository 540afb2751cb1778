"""A hub cache with a tiny model under the name that the documentation uses, so that nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

MODEL = "Qwen/Qwen3-VL-2B-Instruct"


def fill_hub(home: Path, build: Callable[[Path], object]) -> None:
    """Write a model below ``HF_HOME``, as if it had been downloaded.

    Args:
        home: the value of ``HF_HOME``.
        build: writes the model's files into a folder.
    """
    folder = home / "hub" / f"models--{MODEL.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    build(snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(snapshot.name)
