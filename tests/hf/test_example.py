"""The script at the root, run as a reader would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "example.py"


def test_it_prunes_and_answers(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], cwd=tmp_path, capture_output=True, text=True, check=True)
    first, whole, pruned = done.stdout.splitlines()
    assert whole.startswith("whole: 'Cash' from ") and pruned.startswith("pruned: 'Cash' from ")
    total, kept = (int(line.split()[-3]) for line in (whole, pruned))
    assert first.startswith(f"kept {kept} of {total} blocks (") and kept < total
    with Image.open(tmp_path / "out" / "kept.png") as picture:
        assert min(picture.size) > 300


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40
