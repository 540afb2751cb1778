"""Whole pages and screens: invoices, receipts, forms, tables, letters, dialogs, settings, dashboards, phone screens."""

from __future__ import annotations

import random

from . import fonts, parts
from .page import Page, Style

KINDS: dict[str, tuple[parts.Part, ...]] = {
    "invoice": (parts.title, parts.fields, parts.table, parts.fields),
    "receipt": (parts.title, parts.rows, parts.fields),
    "form": (parts.title, parts.fields, parts.fields, parts.buttons),
    "table": (parts.title, parts.table, parts.paragraph),
    "letter": (parts.title, parts.fields, parts.paragraph, parts.paragraph),
    "settings": (parts.title, parts.options, parts.options, parts.buttons),
    "dashboard": (parts.title, parts.cards, parts.table),
    "phone": (parts.title, parts.rows, parts.options, parts.buttons),
}


def _stack(page: Page, rng: random.Random, style: Style, kind: str, box: tuple[float, float, float, float]) -> None:
    """Parts of a kind from top to bottom of a box, again from the first while there is room."""
    x, y, right, bottom = box
    order = list(KINDS[kind])
    while y < bottom - 2 * style.step and order:
        y = order.pop(0)(page, rng, style, x, y, right - x, bottom)
        if not order and rng.random() < 0.5:
            order = [rng.choice(KINDS[kind][1:])]


def page(
    rng: random.Random, width: int, height: int, split: fonts.Split = "train", sizes: tuple[int, int] = (18, 26)
) -> Page:
    """One page of ``width`` x ``height`` pixels with its questions.

    Args:
        split: whose fonts and styles.
        sizes: of the running text in pixels, smallest and largest.
    """
    while True:
        style = Style.draw(rng, split, sizes)
        sheet = Page(width, height, style.background)
        kind = rng.choice(tuple(KINDS))
        margin = rng.uniform(6, 0.06 * width + 8)
        box = (margin, rng.uniform(6, 0.06 * height + 8), width - margin, height - 8)
        if rng.random() < 0.2 and height > 200:
            box = _bar(sheet, rng, style, box)
        dialog = rng.random() < 0.12 and min(width, height) >= 256
        if dialog:
            box = _dialog(sheet, rng, style)
        if width >= 560 and not dialog and rng.random() < 0.5:
            split_at = box[0] + (box[2] - box[0]) * rng.uniform(0.4, 0.6)
            _stack(sheet, rng, style, kind, (box[0], box[1], split_at - 12, box[3]))
            _stack(sheet, rng, style, rng.choice(tuple(KINDS)), (split_at + 12, box[1], box[2], box[3]))
        else:
            _stack(sheet, rng, style, "letter" if dialog else kind, box)
            if dialog:
                parts.buttons(sheet, rng, style, box[0], box[3] - 8, box[2] - box[0], height)
        if sheet.questions:
            sheet.finish(rng)
            return sheet


def as_seen(rng: random.Random, width: int, height: int, split: fonts.Split, sizes: tuple[int, int]) -> Page:
    """A page as a model sees it after resizing to ``width`` x ``height``: some resampled, some from JPEG files."""
    if rng.random() < 0.35:
        sheet = page(rng, width + rng.randint(-15, 15), height + rng.randint(-15, 15), split, sizes)
    else:
        sheet = page(rng, width, height, split, sizes)
    if rng.random() < 0.1:
        sheet.compressed(rng.randint(75, 95))
    if (sheet.width, sheet.height) != (width, height):
        sheet.resized(width, height)
    return sheet


def _bar(
    sheet: Page, rng: random.Random, style: Style, box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """A coloured bar along the top with a name in it; gives what is left of the box."""
    face = style.face(1.1, style.on_accent(), rng.random() < 0.5)
    tall = face.height + 12
    sheet.draw.rectangle((0, 0, sheet.width, tall), fill=style.accent)
    text = rng.choice(parts.ACTIONS)
    if sheet.fresh(text):
        sheet.put(box[0], 6, text, face)
    return (box[0], tall + 8, box[2], box[3])


def _dialog(sheet: Page, rng: random.Random, style: Style) -> tuple[float, float, float, float]:
    """A card in the middle of a dimmed screen; gives the room inside."""
    sheet.draw.rectangle((0, 0, sheet.width, sheet.height), fill=style.mix(0.55 if not style.dark else 0.9))
    across, tall = sheet.width * rng.uniform(0.7, 0.95), sheet.height * rng.uniform(0.5, 0.8)
    x, y = (sheet.width - across) / 2, (sheet.height - tall) * rng.uniform(0.3, 0.6)
    sheet.draw.rounded_rectangle((x, y, x + across, y + tall), 8, fill=style.background, outline=style.rule)
    return (x + 14, y + 12, x + across - 14, y + tall - 54)
