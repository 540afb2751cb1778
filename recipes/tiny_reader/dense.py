"""Small crops full of text, with every character labelled: what the tower learns to read from."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from . import canvas, fonts, words


def _run(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.3:
        return words.cased(words.phrase(rng, rng.randint(1, 4)), rng)
    if kind < 0.75:
        return words.value(rng)
    if kind < 0.93:
        return words.sentence(rng, rng.randint(2, 7))
    return "".join(rng.choices(canvas.ALPHABET, k=rng.randint(3, 16)))


def crop(rng: random.Random, width: int, height: int, split: fonts.Split) -> canvas.Canvas:
    """A page of ``width`` x ``height`` pixels covered with lines of text at any offset."""
    background, colour, accent = canvas.theme(rng)
    page = canvas.Canvas(width, height, background)
    y = rng.uniform(-6, 12)
    while y < height:
        face = canvas.face(rng, split, colour if rng.random() < 0.8 else accent)
        x = rng.uniform(-10, 40)
        if rng.random() < 0.12:  # a filled bar, as headers and buttons have
            bar = tuple(rng.randint(0, 130) for _ in range(3)) if rng.random() < 0.5 else accent
            page.draw.rectangle((x - 4, y - 3, width * rng.uniform(0.4, 1.1), y + face.height + 2), fill=bar)
            face = canvas.Face(face.family, face.size, (255, 255, 255) if sum(bar) < 400 else (0, 0, 0), face.bold)
        while x < width:
            box = page.text(x, y, _run(rng), face)
            if rng.random() < 0.12:
                page.draw.rectangle((box[0] - 5, y - 3, box[2] + 5, y + face.height + 1), outline=accent)
            x = box[2] + rng.choice((face.size * 0.3, face.size, rng.uniform(10, 90)))
        y += face.height * rng.choice((1.0, 1.1, 1.3, 1.7)) + rng.uniform(0, 4)
        if rng.random() < 0.08:
            page.draw.line((0, y - 2, width, y - 2), fill=accent)
    return page


def batch(
    seed: int, count: int, width: int, height: int, split: fonts.Split = "train"
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Crops and labels: uint8 (count, height, width, 3) and int64 (count, rows, columns, SLOTS)."""
    rng = random.Random(seed)
    pages = [crop(rng, width, height, split) for _ in range(count)]
    return np.stack([np.asarray(page.image) for page in pages]), np.stack([page.labels() for page in pages])
