"""The images that a report shows: those with most and with least to drop, found again and drawn as overlays."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from ..core.select import select
from ..viz import overlay
from .measure import config_for, decode
from .records import ImageRow, Survey
from .sources import open_source, surveyed_folder

_SHOWN = 4
#: Of a picture in the report, in pixels; drawn for twice as many as the page gives it.
_WIDTH, _HEIGHT = 640, 900


@dataclass(frozen=True)
class Picture:
    """An overlay for the report.

    Attributes:
        row: the image.
        uri: a ``data:`` URI.
        width, height: of the picture in pixels.
    """

    row: ImageRow
    uri: str
    width: int
    height: int


def extremes(survey: Survey, key: str) -> tuple[list[ImageRow], list[ImageRow]]:
    """The rows with the least kept, and those with the most; no row in both."""
    ordered = sorted(survey.rows, key=lambda row: (row.retained(key), row.name))
    half = min(_SHOWN, (len(ordered) + 1) // 2)
    return ordered[:half], ordered[half:][::-1][:_SHOWN]


def draw(survey: Survey, rows: Sequence[ImageRow], method: str, level: int) -> list[Picture]:
    """Overlays of these rows, in their order; without those whose file is not there any more."""
    config = config_for(method, level, survey.settings.metric)
    spec = survey.settings.spec
    found: dict[str, Picture] = {}
    for row, image in load(survey, rows):
        pixels = spec.resize(image)
        picture = overlay(pixels, select(pixels, config, block_size=spec.block_size), config)
        picture.thumbnail((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
        file = BytesIO()
        picture.save(file, "WEBP", quality=82, method=4)
        uri = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
        found[row.name] = Picture(row, uri, *picture.size)
    return [found[row.name] for row in rows if row.name in found]


def load(survey: Survey, rows: Sequence[ImageRow]) -> Iterator[tuple[ImageRow, Image.Image]]:
    """Each image again, from the file that the survey found it in; without those whose file is not there any more."""
    for source in dict.fromkeys(row.source for row in rows):
        wanted = {row.name: row for row in rows if row.source == source}
        try:
            path = Path(source)
            held = open_source(path, surveyed_folder(path, survey.inputs), survey.settings)
            for item in held.read(sorted({row.index for row in wanted.values()})):
                for name, image in decode([item], survey.settings, lambda *_: None):
                    if name in wanted:
                        yield wanted[name], image
        except Exception:  # moved or changed since, in whatever way; the report does without it
            continue
