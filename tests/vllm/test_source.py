"""Signatures read from source are those of what is imported, for all that the plugin needs of vLLM."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from pixelprune.vllm import compat
from pixelprune.vllm.source import Source


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(Path(find_spec("vllm").origin).parent, "vllm")


def needed() -> list[tuple[str, str]]:
    places = []
    for place, needs in compat.NEEDED.items():
        module, _, name = place.partition(":")
        if module.startswith("vllm."):
            names = [name] if isinstance(needs, tuple) else [f"{name}.{method}" for method in needs]
            places += [(module, each) for each in names]
    return places


@pytest.mark.parametrize(("module", "name"), needed())
def test_the_same_parameters(source: Source, module: str, name: str) -> None:
    bound = {"self", "cls"}  # inspect leaves out what is bound already
    assert set(source(module, name)) - bound == set(compat.installed(module, name)) - bound


def test_nothing_is_missing_and_a_part_that_is_gone_is_named_alike(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compat.find_missing(source, "vllm") == []
    for place, needs in {
        "vllm.no_such_module:Class": {},
        "vllm.multimodal.inputs:NoSuchClass": ("a",),
        "vllm.multimodal.hasher:MultiModalHasher": {"no_method": (), "hash_kwargs": ("nonsense",)},
        "vllm.multimodal.inputs:PlaceholderRange": ("offset", "nonsense"),
        "transformers:NoSuchClass": {},
    }.items():
        monkeypatch.setitem(compat.NEEDED, place, needs)
    found = compat.find_missing(source, "vllm")
    assert found == [each for each in compat.find_missing() if each != "transformers.NoSuchClass"]
    assert len(found) == 5


def test_the_version(source: Source) -> None:
    assert compat.TESTED in source.version
