"""A page with what can be asked about it, and the look that its parts share."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, field, replace

from PIL import Image

from . import canvas, fonts, tasks
from .canvas import Box, Canvas, Colour, Face

# Styles that only the held-out split uses.
TRAIN_FIELDS, TEST_FIELDS = ("colon", "column", "above", "boxed"), ("right", "boxed_row")
TRAIN_TABLES, TEST_TABLES = ("grid", "lines", "plain"), ("zebra",)


@dataclass
class Page(Canvas):
    """A canvas whose texts are elements: to be found by their words, or read at their place."""

    elements: list[tuple[str, Box]] = field(default_factory=list)
    targets: list[tuple[str, Box]] = field(default_factory=list)  # what can be clicked: text, box
    questions: list[tasks.Question] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # labels of this page, lower case: none comes twice

    def put(self, x: float, y: float, text: str, face: Face) -> Box:
        box = self.text(x, y, text, face)
        self.elements.append((text, box))
        return box

    def ask(self, task: tasks.Task, text: str, answer: str) -> None:
        self.questions.append(tasks.Question(task, text, answer))

    def fresh(self, text: str) -> bool:
        """Whether a label is new on this page; notes it."""
        if text.lower() in self.used:
            return False
        self.used.add(text.lower())
        return True

    def resized(self, width: int, height: int) -> None:
        """Resample the image, as a model's image processor does with sizes that are no multiple of its blocks."""
        across, down = width / self.width, height / self.height
        self.image = self.image.resize((width, height), Image.Resampling.BICUBIC)
        self.glyphs = [(x * across, y * down, label) for x, y, label in self.glyphs]

        def scaled(box: Box) -> Box:
            return (box[0] * across, box[1] * down, box[2] * across, box[3] * down)

        self.elements = [(text, scaled(box)) for text, box in self.elements]
        self.targets = [(text, scaled(box)) for text, box in self.targets]
        self.questions = [replace(q, box=q.box and scaled(q.box)) for q in self.questions]
        self.width, self.height = width, height

    def compressed(self, quality: int) -> None:
        """Lose what a JPEG file of a quality loses."""
        file = io.BytesIO()
        self.image.save(file, "JPEG", quality=quality)
        self.image = Image.open(file).convert("RGB")

    def finish(self, rng: random.Random) -> None:
        """Add the questions that every page has: texts at points, and points of texts."""
        texts = [text for text, _ in self.elements]
        for text, box in self.elements:
            if len(text) > 26:
                continue
            x = rng.uniform(box[0] + 0.1 * (box[2] - box[0]), box[2] - 0.1 * (box[2] - box[0]))
            at = tasks.point(x, (box[1] + box[3]) / 2, self.width, self.height)
            self.questions.append(tasks.Question("text", f"What text is at [{at[0]}, {at[1]}]?", text))
        clickable = {text for text, _ in self.targets}
        points = [("Click ", text, box) for text, box in self.targets]
        points += [("Point to ", text, box) for text, box in self.elements if text not in clickable]
        for verb, text, box in points:
            if texts.count(text) == 1 and len(text) > 1:
                answer = tasks.point_answer(box, self.width, self.height)
                self.questions.append(tasks.Question("point", f"{verb}{text}.", answer, box))


@dataclass(frozen=True)
class Style:
    """Fonts, colours and manners of one page."""

    split: fonts.Split
    family: str
    size: int
    background: Colour
    text: Colour
    accent: Colour
    fields: str
    table: str
    gap: float

    @classmethod
    def draw(cls, rng: random.Random, split: fonts.Split, sizes: tuple[int, int]) -> Style:
        background, text, accent = canvas.theme(rng)
        families, weights = fonts.available(split)
        train = split == "train"
        return cls(
            split,
            rng.choices(families, weights)[0],
            rng.randint(*sizes),
            background,
            text,
            accent,
            rng.choice(TRAIN_FIELDS if train else TRAIN_FIELDS + TEST_FIELDS),
            rng.choice(TRAIN_TABLES if train else TRAIN_TABLES + TEST_TABLES),
            rng.uniform(1.0, 1.8),
        )

    @property
    def dark(self) -> bool:
        return sum(self.background) < 384

    @property
    def muted(self) -> Colour:
        """Between text and background: labels, hints."""
        return self.mix(0.4)

    @property
    def rule(self) -> Colour:
        return self.mix(0.75)

    @property
    def panel(self) -> Colour:
        return self.mix(0.92)

    def mix(self, share: float) -> Colour:
        """The text's colour with a share of the background's."""
        pairs = zip(self.text, self.background, strict=True)
        return tuple(round(a * (1 - share) + b * share) for a, b in pairs)  # type: ignore[return-value]

    def face(self, scale: float = 1.0, colour: Colour | None = None, bold: bool = False) -> Face:
        size = min(34, max(16, round(self.size * scale)))
        return Face(self.family, size, colour or self.text, bold)

    def on_accent(self) -> Colour:
        return (255, 255, 255) if sum(self.accent) < 400 else (0, 0, 0)

    @property
    def step(self) -> int:
        """From one line to the next in pixels."""
        return round(self.size * 1.25 * self.gap)
