"""lmms-eval's own command finds the model ``pixelprune`` by its entry point, and it prunes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import datasets

from pixelprune import reader
from pixelprune.evaluate.answering import read_replies

TASK = """\
task: local_pages
dataset_path: parquet
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_visual: !function functions.images
doc_to_text: "{{question}}"
doc_to_target: answers
generation_kwargs: {max_new_tokens: 48}
metric_list: [{metric: anls, aggregation: mean, higher_is_better: true}]
"""
ROWS = 4


def test_the_command_of_lmms_eval_alone(asked, tmp_path) -> None:
    folder, _, expected = asked
    lines = [json.loads(line) for line in (folder / "reading.jsonl").read_text().splitlines()[:ROWS]]
    records = [{**line, "image": {"bytes": (folder / line["image"]).read_bytes(), "path": None}} for line in lines]
    table = datasets.Dataset.from_list(records).cast_column("image", datasets.Image())
    table.to_parquet(str(tmp_path / "rows.parquet"))
    (tmp_path / "local_pages.yaml").write_text(TASK.replace("FILE", str(tmp_path / "rows.parquet")))
    (tmp_path / "functions.py").write_text('def images(row):\n    return [row["image"].convert("RGB")]\n')
    model = f"model={reader.path()},arm=exact,dtype=float32,journal={tmp_path / 'journal'}"
    command = [sys.executable, "-m", "lmms_eval", "--model", "pixelprune", "--model_args", model, "--device", "cpu"]
    command += ["--tasks", "local_pages", "--include_path", str(tmp_path), "--batch_size", "2"]
    command += ["--output_path", str(tmp_path / "out"), "--log_samples"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "anls" in done.stdout
    replies = read_replies(tmp_path / "journal" / "journal.jsonl")
    wanted = expected["reading", "exact"][:ROWS]
    assert [reply.text for reply in replies.values()] == [answer.text for answer in wanted]
    assert [reply.images[0].kept for reply in replies.values()] == [answer.kept for answer in wanted]
    (samples,) = (tmp_path / "out").rglob("*samples_local_pages.jsonl")
    logged = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [sample["filtered_resps"] for sample in logged] == [answer.text for answer in wanted]
