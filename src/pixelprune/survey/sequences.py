"""Sequences in a collection: pages of one document, numbered images in a folder; what references would save in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..core.config import PruneConfig
from ..core.frames import natural
from ..core.sequence import SequenceSelector
from .pictures import load
from .records import ImageRow, SequenceRow, Survey

#: Numbered images are a sequence from so many on: pairs such as ``front-1`` and ``front-2`` are everywhere.
LEAST_FRAMES, LEAST_PAGES = 3, 2
#: Images that are read again to measure a sequence, and in all: enough to tell, and little beside the survey itself.
MOST_MEASURED, MOST_IN_ALL = 16, 64

_NUMBERED = re.compile(r"^(.*?)([0-9]+)([^0-9]*)$", re.DOTALL)
_PAGE = "#page="


def find_sequences(rows: Sequence[ImageRow]) -> list[tuple[str, list[ImageRow]]]:
    """Images that follow each other and have grids of one size, by what they are of; the longest first.

    They are pages of one document with no page between them missing, or at least three images of one folder or archive
    whose names differ in one number that counts up. Rows of tables are no sequences.
    """
    runs: list[tuple[str, int, list[ImageRow]]] = []
    for row in sorted(rows, key=lambda row: natural(row.name)):
        place = _place(row)
        if place is None:
            continue
        name, number = place
        if runs:
            last_name, last, members = runs[-1]
            if (name, number, row.rows, row.cols) == (last_name, last + 1, members[-1].rows, members[-1].cols):
                members.append(row)
                runs[-1] = (name, number, members)
                continue
        runs.append((name, number, [row]))
    found = [
        (name, members)
        for name, _, members in runs
        if len(members) >= (LEAST_PAGES if _PAGE in members[0].name else LEAST_FRAMES)
    ]
    return sorted(found, key=lambda each: -len(each[1]))


def measure_sequences(survey: Survey) -> Survey:
    """The survey with what references would save in its sequences, the longest of them, at threshold 0.

    The first :data:`MOST_MEASURED` images of a sequence are read again, :data:`MOST_IN_ALL` in all.
    """
    measured: list[SequenceRow] = []
    left = MOST_IN_ALL
    for name, rows in find_sequences(survey.rows):
        if left < 2:
            break
        chosen = rows[: min(MOST_MEASURED, left)]
        left -= len(chosen)
        spec = survey.settings.spec
        selector = SequenceSelector(PruneConfig(references="previous"), block_size=spec.block_size)
        reports = [selector.add(spec.resize(image)).report for _, image in load(survey, chosen)]
        if len(reports) < len(chosen):  # a file is gone: what is left are no neighbours
            continue
        measured.append(
            SequenceRow(
                name=name,
                images=len(rows),
                measured=len(reports),
                blocks=sum(report.total for report in reports),
                alone=sum(report.alone for report in reports),
                referring=sum(report.kept for report in reports),
            )
        )
    return replace(survey, sequences=measured)


def _place(row: ImageRow) -> tuple[str, int] | None:
    """What an image is of, and its number there; None if nothing says so."""
    if "#row=" in row.name:
        return None
    document, found, page = row.name.rpartition(_PAGE)
    if found and page.isdigit():
        return document, int(page)
    numbered = _NUMBERED.match(row.name)
    return None if numbered is None else (f"{numbered[1]}…{numbered[3]}", int(numbered[2]))
