"""The plan of the package: its layers are those of CONTRIBUTING, and what is private or heavy stays where it is.

That no folder imports one above it is a contract of import-linter, in pyproject.toml; `make lint` checks it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from docs import layers

ROOT = Path(__file__).parents[1]
ENGINES = {"torch", "transformers", "vllm"}


def test_contributing_shows_the_picture_of_imports() -> None:
    shown = (ROOT / "CONTRIBUTING.md").read_text().split("```text\n")[-1].split("```")[0]
    assert shown.strip() == layers.picture(), "paste what python docs/layers.py prints"


def test_private_files_are_imported_from_their_own_folder_alone() -> None:
    graph = grimp.build_graph("pixelprune", cache_dir=None)
    strangers = [
        (importer, module)
        for module in graph.modules
        if module.rsplit(".", 1)[-1].startswith("_") and not module.endswith("__")
        for importer in graph.find_modules_that_directly_import(module)
        if not f"{importer}.".startswith(module.rsplit(".", 1)[0] + ".")
    ]
    assert strangers == []
    assert "pixelprune.cli._report" in graph.modules, "control: there are private files"


def loaded_by(*modules: str) -> set[str]:
    """What a fresh interpreter has loaded after importing modules."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("folder", ["core", "models", "viz"])
def test_these_folders_load_no_engine(folder: str) -> None:
    files = (ROOT / "src" / "pixelprune" / folder).glob("*.py")
    names = [f"pixelprune.{folder}.{path.stem}" for path in files if not path.stem.endswith(("__init__", "_torch"))]
    assert len(names) > 3 and not loaded_by(*names) & ENGINES
    if folder == "core":
        assert "torch" in loaded_by(*names, "pixelprune.core.select_torch"), "control"
