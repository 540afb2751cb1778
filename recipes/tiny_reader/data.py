"""Write pages and questions as files: PNG images and JSONL rows in chat-messages form, for ``pixelprune train``.

python -m recipes.tiny_reader.data --out OUT/train --pages 4000 --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from . import conversation, fonts, pages


def rows_of(sheet: pages.Page, name: str, rng: random.Random, questions: int) -> list[dict[str, object]]:
    """A conversation for each question about one image, as the reader is asked: one at a time."""
    rows: list[dict[str, object]] = []
    for question in conversation.choose(sheet, rng, questions, conversation.SHARES):
        asked = [{"type": "image", "image": name}, {"type": "text", "text": question.text}]
        answer = [{"type": "text", "text": question.answer}]
        rows.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]})
    return rows


def write(folder: Path, count: int, seed: int, split: fonts.Split, sides: tuple[int, int], questions: int) -> None:
    """``count`` pages of any size between the sides (pixels), and ``rows.jsonl`` beside them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(count):
            rng = random.Random(seed * 1_000_003 + number)
            sheet = pages.page(rng, rng.randint(*sides), rng.randint(*sides), split)
            name = f"images/{number:05d}.png"
            sheet.image.save(folder / name)
            file.writelines(json.dumps(row) + "\n" for row in rows_of(sheet, name, rng, questions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--sides", type=int, nargs=2, default=(384, 768))
    parser.add_argument("--questions", type=int, default=1, help="of a page at most, each a row of its own")
    args = parser.parse_args()
    write(args.out, args.pages, args.seed, args.split, tuple(args.sides), args.questions)


if __name__ == "__main__":
    main()
