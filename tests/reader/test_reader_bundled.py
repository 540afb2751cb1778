"""What there is in place of a bundled reader, as long as there is none."""

from __future__ import annotations

import pytest

from pixelprune import reader
from pixelprune.errors import UnsupportedModelError


def test_a_missing_reader_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(reader, "files", lambda _: tmp_path)
    with pytest.raises(UnsupportedModelError, match="without a bundled reader; name a model"):
        reader.path()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    assert reader.path() == tmp_path / "model"
