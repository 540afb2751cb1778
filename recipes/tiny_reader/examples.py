"""Write a few held-out pages with questions: for the demonstration, the doctor and the tests.

python -m recipes.tiny_reader.examples --out examples/pages --sides 384 640
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from . import conversation, pages

SEED = 55_000_000
COUNT = 8
QUESTIONS = 3  # of a page, each of another task where the page has as many


def write(folder: Path, sides: tuple[int, int], seed: int) -> None:
    """``page-N.png`` and ``questions.json``: image, question, answer, and the box of what is pointed at (pixels)."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = []
    for number in range(COUNT):
        rng = random.Random(seed + number)
        sheet = pages.page(rng, rng.randint(*sides), rng.randint(*sides), "test")
        name = f"page-{number + 1}.png"
        sheet.image.save(folder / name, optimize=True)
        tasks: set[str] = set()
        for question in conversation.choose(sheet, rng, len(sheet.questions)):
            if question.task not in tasks and len(tasks) < QUESTIONS:
                tasks.add(question.task)
                box = {"box": [round(v, 1) for v in question.box]} if question.box else {}
                asked.append({"image": name, "question": question.text, "answer": question.answer, **box})
    (folder / "questions.json").write_text(json.dumps(asked, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs=2, required=True, help="smallest and largest side in pixels")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    write(args.out, tuple(args.sides), args.seed)


if __name__ == "__main__":
    main()
