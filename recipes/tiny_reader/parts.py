"""The parts that pages are made of. Each draws itself at (x, y), at most ``width`` wide, and gives where it ends.

A part that does not fit above ``bottom`` draws less or nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from . import words
from .canvas import Face
from .page import Page, Style

LABELS = (
    "Invoice no|Order no|Customer|Customer no|Date|Due date|Total|Subtotal|Tax|Tax rate|Discount|"
    "Amount due|Balance|Reference|Account|Phone|Email|Address|City|Contact|Project|Status|Quantity|"
    "Unit price|Shipping|Payment|Terms|Department|Manager|Employee|Name|First name|Last name|"
    "Birthday|Company|Website|Country|Postcode|Policy no|Claim no|Patient|Doctor|Room|Seat|Gate|"
    "Flight|Departure|Arrival|Ticket no|Serial no|Model|Version|Weight|Width|Height|Speed|Battery|"
    "Storage|Memory|Users|Visits|Orders|Revenue|Profit|Sales|Returns|Open tasks|Uptime|Latency|"
    "Budget|Rent|Deposit|Cash|Change|Card no|Cashier|Store|Server|Table no"
).split("|")
ACTIONS = (
    "Save|Cancel|OK|Apply|Delete|Close|Open|Edit|Submit|Send|Next|Back|Finish|Retry|Skip|Search|"
    "Sign in|Sign up|Log out|Export|Import|Print|Share|Copy|Paste|Upload|Download|Add|Remove|"
    "Update|Install|Restart|Continue|Confirm|Reject|Accept|Help|Details|Settings|Refresh|Undo|Redo|"
    "Reset|Preview|Publish|Archive|Reply|Forward|Book now|Pay now|Learn more|View all"
).split("|")
Part = Callable[[Page, random.Random, Style, float, float, float, float], float]


def _label(page: Page, rng: random.Random, known: list[str], share: float = 0.6) -> str:
    """A label that is not yet on the page."""
    while True:
        text = rng.choice(known) if rng.random() < share else words.cased(words.phrase(rng, rng.choice((1, 1, 2))), rng)
        if page.fresh(text):
            return text


def _spoken(text: str, rng: random.Random) -> str:
    """A label as somebody asks for it."""
    style = rng.random()
    return text.lower() if style < 0.5 else text if style < 0.85 else text.capitalize()


def _value(page: Page, rng: random.Random, face: Face, width: float) -> str:
    while True:
        text = words.value(rng)
        if face.width(text) <= width and page.fresh(text):
            return text
        if face.width("0000") > width:
            return "7"


def _ask_value(page: Page, rng: random.Random, label: str, value: str) -> None:
    verb = rng.choice(("What is the ", "What is the ", "What is ", "Read the value of "))
    page.ask("value", f"{verb}{_spoken(label, rng)}{'.' if verb.startswith('Read') else '?'}", value)


def title(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, bottom: float) -> float:
    face = style.face(rng.uniform(1.1, 1.7), style.text if rng.random() < 0.7 else style.accent, rng.random() < 0.6)
    text = words.company(rng) if rng.random() < 0.5 else words.phrase(rng, 2).title()
    if y + face.height > bottom or face.width(text) + 40 > width:
        return y
    if rng.random() < 0.4:
        side = face.height
        shape = page.draw.ellipse if rng.random() < 0.5 else page.draw.rectangle
        shape((x, y, x + side, y + side), fill=style.accent)
        x += side + 8
    if page.fresh(text):
        page.put(x, y, text, face)
    return y + face.height + style.step * 0.5


def fields(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, bottom: float) -> float:
    """Labels with their values, one below the other or in two columns."""
    columns = 2 if width > 22 * style.size and rng.random() < 0.5 else 1
    across = width / columns
    indent = min(across * rng.uniform(0.4, 0.55), style.size * 9)
    for _ in range(rng.randint(2, 7)):
        tall = {"above": 2.1, "boxed": 2.7, "boxed_row": 1.6}.get(style.fields, 1.0) * style.step
        if y + tall > bottom:
            break
        for column in range(columns):
            _field(page, rng, style, x + column * across, y, across - style.size, indent)
        y += tall
    return y + style.step * 0.5


def _field(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, indent: float) -> None:
    name, body = style.face(1, style.muted if rng.random() < 0.4 else None, rng.random() < 0.3), style.face()
    stacked = style.fields in ("above", "boxed")
    label = _label(page, rng, LABELS)
    room = width - 10 if stacked else width - max(indent, name.width(label + ": ") + 6) - 6
    if name.width(label) > width or room < body.width("00000"):
        return
    value = _value(page, rng, body, room)
    page.put(x, y, label + (":" if style.fields == "colon" or rng.random() < 0.2 else ""), name)
    below = y + name.height + (8 if style.fields == "boxed" else 2)
    if stacked:
        at = (x + (6 if style.fields == "boxed" else 0), below)
    elif style.fields == "right":
        at = (x + width - body.width(value), y)
    elif style.fields == "colon" and rng.random() < 0.5:
        at = (x + name.width(label + ": ") + 4, y)
    else:
        at = (x + max(indent, name.width(label + ": ") + 6), y)
    if style.fields.startswith("boxed"):
        edge = (at[0] - 6, at[1] - 4, x + width, at[1] + body.height + 3)
        page.draw.rectangle(edge, outline=style.rule, fill=style.mix(0.97))
    page.put(*at, value, body)
    _ask_value(page, rng, label, value)


def table(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, bottom: float) -> float:
    """Row names at the left, columns with heads; cells are asked for by both."""
    face, head = style.face(0.95), style.face(0.95, bold=rng.random() < 0.6)
    step = max(face.height + 4, round(style.step * 0.95))
    rows = min(rng.randint(2, 7), int((bottom - y) / step) - 1)
    columns = min(rng.randint(1, 4), int(width / (face.size * 6)) - 1)
    if rows < 2 or columns < 1:
        return y
    first = width * rng.uniform(1.1, 1.6) / (columns + 1.4)
    across = (width - first) / columns
    makers = [
        rng.choice((words.amount, words.number, words.date, words.code, words.percent, words.clock))
        for _ in range(columns)
    ]
    heads = [_label(page, rng, LABELS, 0.3) for _ in range(columns)]
    names = [_label(page, rng, [words.person(rng), words.phrase(rng, 1).title()], 0.5) for _ in range(rows)]
    if style.table == "grid" or rng.random() < 0.2:
        page.draw.rectangle((x, y, x + width, y + step), fill=style.panel)
    for column, text in enumerate(heads):
        if head.width(text) < across - 8:
            page.put(x + first + column * across + 5, y + 2, text, head)
    for row, name in enumerate(names):
        top = y + (row + 1) * step
        if style.table == "zebra" and row % 2:
            page.draw.rectangle((x, top, x + width, top + step), fill=style.panel)
        if face.width(name) > first - 8:
            continue
        page.put(x + 5, top + 2, name, face)
        for column, maker in enumerate(makers):
            cell = maker(rng)
            if face.width(cell) > across - 8 or head.width(heads[column]) >= across - 8:
                continue
            page.put(x + first + column * across + 5, top + 2, cell, face)
            question = f"In the table, what is the {_spoken(heads[column], rng)} of {_spoken(name, rng)}?"
            page.ask("cell", question, cell)
    end = y + (rows + 1) * step
    if style.table in ("grid", "lines"):
        for row in range(rows + 2):
            page.draw.line((x, y + row * step, x + width, y + row * step), fill=style.rule)
    if style.table == "grid":
        for edge in [x, *(x + first + column * across for column in range(columns + 1))]:
            page.draw.line((edge, y, edge, end), fill=style.rule)
    return end + style.step * 0.7


def paragraph(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, bottom: float) -> float:
    """Lines of text, asked for by their first word."""
    face = style.face()
    for _ in range(rng.randint(1, 5)):
        if y + face.height > bottom:
            break
        text = words.sentence(rng, rng.randint(2, 4))
        while face.width(text) > width and " " in text:
            text = text.rsplit(" ", 1)[0]
        start = text.split(" ")[0]
        if face.width(text) > width or " " not in text or not page.fresh(start):
            continue
        page.put(x, y, text, face)
        if len(text) <= 28:
            page.ask("line", f"Transcribe the line that starts with {start}.", text)
        y += max(face.height, style.step * 0.9)
    return y + style.step * 0.5


def buttons(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, bottom: float) -> float:
    """A row of buttons."""
    face = style.face(bold=rng.random() < 0.3)
    pad = rng.randint(4, 10)
    tall = face.height + 2 * pad
    if y + tall > bottom:
        return y
    end, radius, filled = x + width, rng.choice((0, 4, 8, tall // 2)), rng.random()
    for index in range(rng.randint(1, 4)):
        text = _label(page, rng, ACTIONS, 0.7)
        wide = face.width(text) + 2 * pad + rng.randint(6, 40)
        if x + wide > end:
            break
        strong = filled < 0.3 or (index == 0 and filled < 0.7)
        box = (x, y, x + wide, y + tall)
        page.draw.rounded_rectangle(
            box,
            radius,
            fill=style.accent if strong else style.panel if filled > 0.85 else None,
            outline=style.accent if strong or rng.random() < 0.3 else style.rule,
        )
        colour = style.on_accent() if strong else style.text
        page.put(x + (wide - face.width(text)) / 2, y + pad, text, Face(face.family, face.size, colour, face.bold))
        page.targets.append((text, box))
        x += wide + rng.randint(6, 24)
    return y + tall + style.step * 0.6


def options(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, bottom: float) -> float:
    """A titled list of check boxes, radio buttons or rows; one is selected, one may be disabled."""
    face, head = style.face(), style.face(bold=rng.random() < 0.5)
    step = max(style.step, face.height + 6)
    count = min(rng.randint(3, 6), int((bottom - y) / step) - 1)
    if count < 2:
        return y
    name = _label(page, rng, LABELS, 0.4)
    page.put(x, y, name, head)
    kind = rng.choice(("radio", "check", "row", "switch"))
    chosen, off = rng.sample(range(count), 2)
    off = off if rng.random() < 0.6 else -1
    for index in range(count):
        top = y + (index + 1) * step
        text = _label(page, rng, ACTIONS, 0.2)
        if face.width(text) > width - 60:
            continue
        _option(
            page,
            style,
            kind,
            x,
            top,
            width,
            index == chosen,
            Face(face.family, face.size, style.mix(0.55) if index == off else style.text),
            text,
        )
        if index in (chosen, off):
            state = "selected" if index == chosen else "disabled"
            page.ask("state", f"Under {_spoken(name, rng)}, which option is {state}?", text)
    return y + (count + 1) * step + style.step * 0.4


def _option(
    page: Page, style: Style, kind: str, x: float, y: float, width: float, chosen: bool, face: Face, text: str
) -> None:
    side = face.size
    mark = (x, y + 2, x + side, y + 2 + side)
    if kind == "row":
        if chosen:
            page.draw.rectangle((x, y - 2, x + min(width, 240), y + face.height + 1), fill=style.accent)
            face = Face(face.family, face.size, style.on_accent())
    elif kind == "radio":
        page.draw.ellipse(mark, outline=style.text)
        if chosen:
            page.draw.ellipse((mark[0] + 3, mark[1] + 3, mark[2] - 3, mark[3] - 3), fill=style.accent)
    elif kind == "check":
        page.draw.rectangle(mark, outline=style.text, fill=style.accent if chosen else None)
        if chosen:
            low = (mark[0] + side * 0.4, mark[3] - 4)
            page.draw.line(
                ((mark[0] + 3, y + 2 + side * 0.5), low, (mark[2] - 3, mark[1] + 4)), fill=style.on_accent(), width=2
            )
    else:
        wide = (x, y + 2, x + side * 1.8, y + 2 + side)
        page.draw.rounded_rectangle(wide, side // 2, fill=style.accent if chosen else style.rule)
        knob = wide[2] - side + 2 if chosen else x + 2
        page.draw.ellipse((knob, y + 4, knob + side - 4, y + side), fill=style.background)
    left = x + (side * 1.8 if kind == "switch" else side) + 8
    box = page.put(left, y, text, face)
    page.targets.append((text, (x, min(box[1], y), box[2], box[3])))


def cards(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, bottom: float) -> float:
    """Boxes with a small label and a large value."""
    small, large = style.face(0.9, style.muted), style.face(rng.uniform(1.1, 1.6), bold=rng.random() < 0.5)
    columns = max(1, min(4, int(width / (style.size * 9))))
    across, tall = width / columns, small.height + large.height + 18
    while y + tall < bottom:
        for column in range(columns):
            left = x + column * across
            label = _label(page, rng, LABELS)
            if small.width(label) > across - 24 or large.width("0000") > across - 24:
                continue
            value = _value(page, rng, large, across - 24)
            page.draw.rounded_rectangle((left, y, left + across - 8, y + tall), 6, outline=style.rule, fill=style.panel)
            page.put(left + 8, y + 6, label, small)
            page.put(left + 8, y + 8 + small.height, value, large)
            _ask_value(page, rng, label, value)
        y += tall + 8
        if rng.random() < 0.5:
            break
    return y + style.step * 0.4


def rows(page: Page, rng: random.Random, style: Style, x: float, y: float, width: float, bottom: float) -> float:
    """List rows of a phone: a label at the left, a value at the right edge, rules between."""
    face, step = style.face(), round(style.step * 1.3)
    for _ in range(rng.randint(3, 8)):
        if y + step > bottom:
            break
        label = _label(page, rng, LABELS)
        room = width - face.width(label) - 24
        if room > face.width("000000"):
            value = _value(page, rng, face, room)
            page.put(x, y + 4, label, face)
            page.put(x + width - face.width(value) - 2, y + 4, value, Face(face.family, face.size, style.muted))
            page.draw.line((x, y + step - 1, x + width, y + step - 1), fill=style.rule)
            _ask_value(page, rng, label, value)
        y += step
    return y + style.step * 0.4
