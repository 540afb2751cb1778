"""What the tests of training share: small crops of real images, rows about them, and models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoModelForImageTextToText, TrainingArguments

from pixelprune.hf import PrunedProcessor, enable

IMAGES = Path(__file__).parents[2] / "examples" / "images"
#: Crops of a few blocks, of which some repeat.
PICTURES = {
    "form": ("tax-form.png", (40, 60, 232, 188)),
    "page": ("docs-page.png", (300, 100, 492, 196)),
    "dark": ("dashboard-dark.png", (200, 0, 392, 160)),
    "slide": ("slide.png", (0, 0, 160, 128)),
}


def save_pictures(folder: Path) -> None:
    for name, (file, box) in PICTURES.items():
        with Image.open(IMAGES / file) as image:
            image.convert("RGB").crop(box).save(folder / f"{name}.png")


def load_processor(folder: Path, **settings: Any) -> Any:
    """A processor that does not scale small images up."""
    return PrunedProcessor.from_pretrained(folder, size={"shortest_edge": 1024, "longest_edge": 1 << 20}, **settings)


def load_model(folder: Path, **settings: Any) -> Any:
    return enable(AutoModelForImageTextToText.from_pretrained(folder, **settings))


def user(*parts: str) -> dict[str, Any]:
    """A user's message: texts, and images by file name."""
    return {
        "role": "user",
        "content": [
            {"type": "image", "image": part} if part.endswith(".png") else {"type": "text", "text": part}
            for part in parts
        ],
    }


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def row(*messages: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"messages": list(messages), **rest}


def rows(count: int) -> list[dict[str, Any]]:
    """Rows of one to three images or none, with one or two answers, in a fixed order."""
    names = [f"{name}.png" for name in PICTURES]
    made = []
    for number in range(count):
        first = names[number % len(names)]
        messages = [user(first, f"Number {number}?"), answer(f"It is {number * 7 % 10}.")]
        if number % 3 == 1:
            messages += [user(names[(number + 1) % len(names)], "And this one?"), answer(f"No: {number}")]
        if number % 5 == 4:
            messages = [user("Only words."), answer("yes" * (number % 3 + 1))]
        made.append(row(*messages))
    return made


def write(path: Path, lines: Sequence[Any]) -> Path:
    """A JSONL file; strings are written as they are."""
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def gradients(model: Any, loss: Any) -> dict[str, Any]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def worst(got: dict[str, Any], expected: dict[str, Any]) -> float:
    """Largest difference over a parameter's gradients, relative to their norm."""
    assert set(got) == set(expected)
    scale = max(float(g.norm()) for g in expected.values()) * 1e-3
    return max(float((got[n] - g).norm() / (g.norm() + scale)) for n, g in expected.items())


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    """Few steps on the CPU, quietly."""
    defaults: dict[str, Any] = {
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
    }
    return TrainingArguments(str(folder), **{**defaults, **settings})


def logged(trainer: Any, name: str = "loss") -> list[float]:
    """What was logged under a name, step by step."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]
