"""Two processes over gloo train as one does: the same losses, weights and evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from train_kit import rows, write

from pixelprune.train import run
from pixelprune.train.config import parse_config

# The command, and what threads there are when the interpreter ends: one of gloo's could abort the process then.
COMMAND = """
import atexit, pathlib
threads = lambda: {name.read_text().strip() for name in pathlib.Path("/proc/self/task").glob("*/comm")}
atexit.register(lambda: print("threads:", *threads()))
from pixelprune.cli import main
main()
"""


def losses(output: Path) -> list[float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.parametrize("tune", [{}, {"lora": {"rank": 4}}], ids=["full", "lora, distilled"])
def test_two_processes_are_one(tune: dict[str, Any], folder: Path, pictures: Path, tmp_path: Path) -> None:
    """Answers of several lengths, rows without images on one process alone, five rows to evaluate on two."""
    content: dict[str, Any] = {
        "model": str(folder),
        "data": {
            "train": [str(write(pictures / "two.jsonl", rows(10)))],
            "eval": [str(write(pictures / "five.jsonl", rows(5)))],
        },
        "images": {"min_pixels": 1024},
        "tune": tune,
        "distill": {"alpha": 0.5} if tune else None,
        "trainer": {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "seed": 1,
            "logging_steps": 1,
            "save_steps": 100,
        },
        "device": "cpu",
    }
    one, two = tmp_path / "one", tmp_path / "two"
    alone = run.train(parse_config({**content, "output": str(one)}))
    content["trainer"]["per_device_train_batch_size"] = 1
    config = tmp_path / "two.yaml"
    config.write_text(yaml.safe_dump({**content, "output": str(two)}))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = tmp_path / "command.py"
    command.write_text(COMMAND)
    result = subprocess.run(
        [*launch, str(command), "train", str(config)],
        capture_output=True, text=True, timeout=900, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("the model is in") == 1, "only the first process reports"
    ends = [line for line in result.stdout.splitlines() if line.startswith("threads:")]
    assert len(ends) == 2 and "python" in ends[0]
    assert not any("gloo" in line for line in ends)
    assert len(losses(one)) == 10
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    metrics = json.loads((two / "metrics.json").read_text())
    for name in ("eval_loss", "eval_token_accuracy", "eval_exact_match", "eval_rows", "eval_retain_ratio"):
        assert metrics[name] == pytest.approx(alone.metrics[name], rel=1e-4), name
    # Control: a step of one row is another curve.
    run.train(parse_config({**content, "output": str(tmp_path / "half")}))
    assert losses(tmp_path / "half")[:10] != pytest.approx(losses(one), rel=1e-2)
