"""The bundled reader answers the same through vLLM as through transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_kit import HOLE, SETTINGS, engine
from PIL import Image
from server_kit import data_url

from pixelprune import PruneConfig, reader

PAGES = Path(__file__).parents[2] / "examples" / "pages"
QUESTIONS = json.loads((PAGES / "questions.json").read_text())


def prompt(row: dict[str, Any]) -> str:
    return f"<|im_start|>user\n{HOLE}{row['question']}<|im_end|>\n<|im_start|>assistant\n"


def picture(row: dict[str, Any]) -> Image.Image:
    return Image.open(PAGES / row["image"]).convert("RGB")


def by_transformers(settings: dict[str, Any] | None) -> list[tuple[int, str]]:
    """Per question the number of prompt tokens and the answer."""
    from transformers import AutoModelForImageTextToText

    from pixelprune.hf import PrunedProcessor, enable

    model = enable(AutoModelForImageTextToText.from_pretrained(reader.path(), dtype=torch.float32).eval())
    processor = PrunedProcessor.from_pretrained(reader.path())
    processor.prune = None if settings is None else PruneConfig(**settings)
    found = []
    for row in QUESTIONS:
        inputs = processor(text=[prompt(row)], images=[picture(row)], return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=40, do_sample=False)
        start = inputs["input_ids"].shape[1]
        found.append((start, processor.tokenizer.decode(output[0, start:], skip_special_tokens=True)))
    return found


@pytest.fixture(scope="module")
def served():
    with engine("qwen3_vl", reader.path(), mm_processor_kwargs={}) as started:
        yield started


def by_vllm(served: Any, settings: dict[str, Any] | None) -> list[tuple[int, str]]:
    from vllm import SamplingParams

    requests = [
        {
            "prompt": prompt(row),
            "multi_modal_data": {"image": picture(row)},
            "mm_processor_kwargs": {"pixelprune": settings},
        }
        for row in QUESTIONS
    ]
    outputs = served.llm.generate(requests, SamplingParams(temperature=0, max_tokens=40), use_tqdm=False)
    return [(len(output.prompt_token_ids), output.outputs[0].text) for output in outputs]


@pytest.mark.parametrize("setting", SETTINGS)
def test_answers_are_those_of_transformers(served, setting) -> None:
    wanted = by_transformers(SETTINGS[setting])
    assert by_vllm(served, SETTINGS[setting]) == wanted
    assert by_vllm(served, SETTINGS["0.05" if setting == "none" else "none"]) != wanted


def test_files_of_requests(tmp_path) -> None:
    """``vllm run-batch``, as docs/serving.md has it."""
    lines = []
    for number, row in enumerate(QUESTIONS):
        image = {"type": "image_url", "image_url": {"url": data_url(picture(row))}}
        message = {"role": "user", "content": [image, {"type": "text", "text": row["question"]}]}
        body = {"model": str(reader.path()), "messages": [message], "temperature": 0, "max_tokens": 40}
        lines.append({"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body})
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "run-batch", "--model", str(reader.path())]
    command += ["-i", str(tmp_path / "requests.jsonl"), "-o", str(tmp_path / "answers.jsonl")]
    command += ["--mm-processor-kwargs", '{"pixelprune": {"threshold": 0}}', "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "2048"]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    found = {}
    for line in map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines()):
        reply = line["response"]["body"]
        found[int(line["custom_id"])] = (reply["usage"]["prompt_tokens"], reply["choices"][0]["message"]["content"])
    assert [found[number] for number in range(len(QUESTIONS))] == by_transformers(SETTINGS["0"])
