"""The API reference has every public name: what the modules that list their names in ``__all__`` list there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "pixelprune"
SHOWN = set(re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.M))


def public_names() -> dict[str, list[str]]:
    """The names in ``__all__`` by module, read without importing it.

    Private files are left out, and the plugin, whose classes are for vLLM to find.
    """
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "__all__"
                and not re.search(r"\._|\.vllm\.", module)
            ):
                found[module] = ast.literal_eval(node.value)
    return found


NAMES = public_names()


def test_the_public_modules_are_found() -> None:
    assert {"pixelprune", "pixelprune.hf", "pixelprune.train", "pixelprune.survey", "pixelprune.viz"} <= set(NAMES)
    assert "pixelprune.cli._app" not in NAMES


@pytest.mark.parametrize("module", NAMES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    names = [f"{module}.{name}" for name in NAMES[module] if not name.startswith("__")]
    assert names and [name for name in names if name not in SHOWN] == []


def test_the_reference_names_nothing_twice() -> None:
    assert len(SHOWN) == (ROOT / "docs" / "api.md").read_text().count("\n::: ")
