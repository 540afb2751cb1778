"""A page under construction: an image that text is drawn on, with the place of every character kept."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from . import fonts

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

# The characters that the reader knows; label 0 means "no character here".
ALPHABET = "".join(chr(code) for code in range(33, 127))
LABEL = {character: index + 1 for index, character in enumerate(ALPHABET)}
SLOTS = 4  # characters per patch, from left to right


@dataclass(frozen=True)
class Face:
    """A font at a size, in a weight and a colour."""

    family: str
    size: int
    colour: Colour = (0, 0, 0)
    bold: bool = False

    def width(self, text: str) -> float:
        return sum(fonts.advance(self.family, self.size, self.bold, character) for character in text)

    @property
    def height(self) -> int:
        """Of a line in pixels: room for ascenders and descenders."""
        return round(self.size * 1.25)


@dataclass
class Canvas:
    """An RGB image of ``width`` x ``height`` pixels and the centres of the characters on it."""

    width: int
    height: int
    background: Colour
    image: Image.Image = field(init=False)
    draw: ImageDraw.ImageDraw = field(init=False)
    glyphs: list[tuple[float, float, int]] = field(default_factory=list)  # x, y, label

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width, self.height), self.background)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, face: Face) -> Box:
        """Draw one line with its top left corner at (x, y); gives its box."""
        x, y = round(x), round(y)
        font = fonts.load(face.family, face.size, face.bold)
        ascent = round(face.size * 0.95)
        self.draw.text((x, y + ascent), text, font=font, fill=face.colour, anchor="ls")
        middle, cursor = y + ascent - face.size * 0.32, float(x)
        for character in text:
            step = fonts.advance(face.family, face.size, face.bold, character)
            if character != " ":
                self.glyphs.append((cursor + step / 2, middle, LABEL[character]))
            cursor += step
        return (x, y, cursor, y + face.height)

    def labels(self, patch: int = 16) -> NDArray[np.int64]:
        """Characters by patch, shape (rows, columns, SLOTS), 0 where there is none, in reading order."""
        rows, columns = self.height // patch, self.width // patch
        slots = np.zeros((rows, columns, SLOTS), dtype=np.int64)
        filled = np.zeros((rows, columns), dtype=np.int64)
        for x, y, label in sorted(self.glyphs):
            row, column = int(y // patch), int(x // patch)
            if 0 <= row < rows and 0 <= column < columns and filled[row, column] < SLOTS:
                slots[row, column, filled[row, column]] = label
                filled[row, column] += 1
        return slots


def theme(rng: random.Random) -> tuple[Colour, Colour, Colour]:
    """Background, text and accent colours, light or dark, legible."""
    accent = tuple(rng.randint(20, 200) for _ in range(3))
    if rng.random() < 0.7:
        background = (255, 255, 255) if rng.random() < 0.6 else tuple(rng.randint(225, 255) for _ in range(3))
        shade = rng.choice((0, 0, rng.randint(0, 90)))
        text = (shade, shade, shade) if rng.random() < 0.8 else tuple(rng.randint(0, 110) for _ in range(3))
    else:
        background = tuple(rng.randint(10, 55) for _ in range(3))
        shade = rng.choice((255, rng.randint(200, 255)))
        text = (shade, shade, shade)
        accent = tuple(rng.randint(80, 230) for _ in range(3))
    return background, text, accent  # type: ignore[return-value]


def face(rng: random.Random, split: fonts.Split, colour: Colour, size: int | None = None) -> Face:
    """A random face of a split."""
    families, weights = fonts.available(split)
    family = rng.choices(families, weights)[0]
    return Face(family, size or rng.randint(16, 30), colour, rng.random() < 0.2)
