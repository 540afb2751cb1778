"""The documentation names every setting, and its examples of rows are rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from pixelprune.configfile import section_in
from pixelprune.train import parse_row
from pixelprune.train.config import TrainConfig

DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None and field.annotation is inner:
            found += keys(inner, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
            found += [f"{prefix}{name}: {key}" for key in inner.model_fields] if inner is not None else []
    return found


@pytest.mark.parametrize("key", keys(TrainConfig))
def test_every_key_is_in_the_table(key: str) -> None:
    outer, _, inner = key.partition(": ")
    lines = [line for line in DOCS.splitlines() if line.startswith("|") and f"`{outer}`" in line]
    assert len(lines) == 1
    assert not inner or re.search(rf"\b{inner}\b", lines[0])


def test_example_rows_are_rows(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    examples = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
    parsed = [parse_row(json.loads(example), folder=tmp_path) for example in examples]
    assert len(parsed) == 2
    assert all(row.messages[-1]["content"][0]["text"] == "12.50" and len(row.images) == 1 for row in parsed)
