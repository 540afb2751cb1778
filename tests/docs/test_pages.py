"""Pages that follow the source: the command line's is current, and the messages that are explained exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from typing import Any

import pytest
from pages import GENERATED, ROOT

MESSAGES = re.findall(r"^\*\*`(.+?)`\*\*", (ROOT / "docs" / "faq.md").read_text(), re.MULTILINE)


def texts() -> set[str]:
    """Every text in the source, three dots where a value is put in."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


TEXTS = texts()


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_those_of_the_source(message: str) -> None:
    assert any(message in text for text in TEXTS)


def test_a_message_that_changed_is_noticed() -> None:
    assert len(MESSAGES) > 10
    assert not any(MESSAGES[0].replace("height", "hight") in text for text in TEXTS)


SCRIPTS = [path for folder in ("docs", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def defined(module: str) -> set[str]:
    """The names at the top of a module of the package, and its submodules; nothing is imported."""
    path = ROOT / "src" / module.replace(".", "/")
    names = {file.stem for file in path.glob("*.py")} | {folder.name for folder in path.glob("*/")}
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_import_what_there_is(script) -> None:
    """Those too that no test runs, because they need a browser, a GPU or hours."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pixelprune":
            missing = {alias.name for alias in node.names} - defined(node.module)
            assert not missing, f"{node.module} has no {', '.join(sorted(missing))}"


def test_a_name_that_is_gone_is_noticed() -> None:
    assert "select" in defined("pixelprune") and "selekt" not in defined("pixelprune")


def test_command_line_page_is_current() -> None:
    spec: Any = importlib.util.spec_from_file_location("cli_page", ROOT / "docs" / "cli_page.py")
    cli_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cli_page)
    assert GENERATED.read_text() == cli_page.render(), "run: python docs/cli_page.py"
