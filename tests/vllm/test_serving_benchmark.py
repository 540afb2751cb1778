"""The serving benchmark end to end, on one image that needs no resizing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from engine_kit import crop

from pixelprune import PruneConfig, select

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "serving.py"


def test_counts_are_those_of_the_selection(tmp_path) -> None:
    page = crop("docs-page.png", 300, 100, 780, 420)
    assert page.width % 32 == page.height % 32 == 0
    page.save(tmp_path / "page.png")
    out = tmp_path / "out.json"
    command = [sys.executable, str(BENCHMARK), str(tmp_path / "page.png"), "--repeats", "1", "--thresholds", "0"]
    command += ["--max-model-len", "2048", "--serve=--enforce-eager --max-num-seqs 4"]
    command += ["--log", str(tmp_path / "log"), "--json", str(out)]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:] + (tmp_path / "log").read_text()[-4000:]
    whole, pruned = json.loads(out.read_text())["results"]
    # The fourth request is the one that counts: none and 0 to warm up, none, 0. Its number stands in the first pixel.
    pixels = np.array(page)
    pixels[0, 0] = [3, 0, 0]
    selection = select(pixels, PruneConfig(), block_size=32)
    assert pruned["retained_ratio"] == selection.retain_ratio < 1 == whole["retained_ratio"]
    assert whole["prompt_tokens"] - pruned["prompt_tokens"] == selection.num_blocks - selection.num_kept
    assert whole["selection_ms"] is None
    assert pruned["selection_ms"] > 0
    assert whole["speedup"] == 1
    assert "| none |" in done.stdout
