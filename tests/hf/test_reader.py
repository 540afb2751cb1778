"""The bundled reader: what is shipped, and that it reads pages it has never seen, whole and pruned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer, Qwen3VLForConditionalGeneration

from pixelprune import PruneConfig, reader
from pixelprune.hf import PrunedProcessor, enable

PAGES = Path(__file__).parents[2] / "examples" / "pages"
QUESTIONS = json.loads((PAGES / "questions.json").read_text())
PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(reader.path(), dtype=torch.float32).eval()
    return enable(model), PrunedProcessor.from_pretrained(reader.path())


def answers(loaded: tuple[Any, Any], prune: PruneConfig | None, blank: bool = False) -> list[str]:
    model, processor = loaded
    processor.prune = prune
    found = []
    for row in QUESTIONS:
        image = Image.open(PAGES / row["image"]).convert("RGB")
        if blank:
            image = Image.new("RGB", image.size, "white")
        inputs = processor(text=[PROMPT.format(row["question"])], images=[image], return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=40, do_sample=False)
        found.append(processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return found


def read_right(found: list[str]) -> float:
    """The share of questions for reading that are answered in the very words."""
    return sum(a == q["answer"] for a, q in zip(found, QUESTIONS, strict=True) if "box" not in q) / sum(
        "box" not in q for q in QUESTIONS
    )


def test_what_is_shipped() -> None:
    """A stock Qwen3-VL in bfloat16, small, with a tokenizer and a card."""
    folder = reader.path()
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert type(model) is Qwen3VLForConditionalGeneration
    assert model.dtype == torch.bfloat16
    vision, rope = model.config.vision_config, model.config.text_config.rope_parameters
    assert (vision.patch_size, vision.spatial_merge_size) == (16, 2)
    assert vision.deepstack_visual_indexes and rope["mrope_interleaved"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25e6
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids("<|image_pad|>") == model.config.image_token_id
    assert tokenizer.decode(tokenizer("What is the total?").input_ids) == "What is the total?"
    assert "license: apache-2.0" in (folder / "README.md").read_text()


def test_it_reads_pages_that_it_has_never_seen(loaded: tuple[Any, Any]) -> None:
    whole, pruned = answers(loaded, None), answers(loaded, PruneConfig())
    assert read_right(whole) >= 0.85
    assert read_right(pruned) >= 0.85
    assert read_right(answers(loaded, None, blank=True)) == 0, "answers come from the page"


def test_ask_uses_it() -> None:
    row = next(row for row in QUESTIONS if "box" not in row)
    result = subprocess.run(
        [sys.executable, "-m", "pixelprune", "ask", str(PAGES / row["image"]), row["question"], "--threshold", "0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == row["answer"]
    assert "image tokens" in result.stdout
