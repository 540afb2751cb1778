"""Write pages and questions as files: PNG images and JSONL rows in chat-messages form, for ``pixelprune train``.

python -m reader.data --out OUT/train --pages 4000 --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from . import conversation, fonts, pages


def rows_of(sheet: pages.Page, name: str, rng: random.Random, questions: int) -> dict[str, object]:
    """One conversation about one image."""
    turns: list[dict[str, object]] = []
    for number, question in enumerate(conversation.choose(sheet, rng, questions)):
        text = {"type": "text", "text": question.text}
        content = [{"type": "image", "image": name}, text] if number == 0 else [text]
        turns.append({"role": "user", "content": content})
        turns.append({"role": "assistant", "content": [{"type": "text", "text": question.answer}]})
    return {"messages": turns}


def write(folder: Path, count: int, seed: int, split: fonts.Split, sides: tuple[int, int], questions: int) -> None:
    """``count`` pages of any size between the sides (pixels), and ``rows.jsonl`` beside them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(count):
            rng = random.Random(seed * 1_000_003 + number)
            sheet = pages.page(rng, rng.randint(*sides), rng.randint(*sides), split)
            name = f"images/{number:05d}.png"
            sheet.image.save(folder / name)
            file.write(json.dumps(rows_of(sheet, name, rng, questions)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--sides", type=int, nargs=2, default=(384, 768))
    parser.add_argument("--questions", type=int, default=1, help="of a page, one after the other")
    args = parser.parse_args()
    write(args.out, args.pages, args.seed, args.split, tuple(args.sides), args.questions)


if __name__ == "__main__":
    main()
