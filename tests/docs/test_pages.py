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


def test_command_line_page_is_current() -> None:
    spec: Any = importlib.util.spec_from_file_location("cli_page", ROOT / "docs" / "cli_page.py")
    cli_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cli_page)
    assert GENERATED.read_text() == cli_page.render(), "run: python docs/cli_page.py"
