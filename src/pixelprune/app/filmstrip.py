"""The filmstrip: the pages of a document or a history, small, with what is kept of each; a click shows one."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO

from PIL import Image

from ..core.sequence import SequenceSelector
from .document import Document, Page, ViewState
from .view import Choice

_WIDTH, _HEIGHT = 176, 120  # shown at half of that where the screen has two points a pixel

#: Turns to a page as if its number had been typed.
_SHOW = (
    "const field = document.querySelector('#page input[type=number]'); field.value = this.dataset.page; "
    "field.dispatchEvent(new Event('input', {bubbles: true}))"
)


def strip_html(state: ViewState, choice: Choice) -> str:
    """The filmstrip; nothing where there is one page only."""
    pages = state.document.pages
    if len(pages) < 2:
        return ""
    kept = kept_of_each(state.document, choice)
    frames = []
    for number, (page, count) in enumerate(zip(pages, kept, strict=True), start=1):
        current = ' aria-current="true"' if page is state.page else ""
        said = f"{number}: {count:,} blocks kept"
        frames.append(
            f'<button type="button" class="pp-frame" data-page="{number}" title="{escape(page.name)}"'
            f' aria-label="{escape(f"Show {page.name}, {said}")}"{current} onclick="{escape(_SHOW)}">'
            f'<img src="{_thumbnail(page)}" alt=""><span>{number} · <b>{count:,}</b></span></button>'
        )
    return (
        f'<div class="pp-strip">{"".join(frames)}</div>'
        f'<p class="pp-quiet">Number and blocks kept of each, {sum(kept):,} in all. Click one to see it.</p>'
    )


def kept_of_each(document: Document, choice: Choice) -> list[int]:
    """Blocks kept of each page, with references as chosen; those of the latest settings are remembered."""
    key = choice.config.cache_key, choice.spec
    if key not in document.kept:
        selector = SequenceSelector(choice.config, block_size=choice.spec.block_size)
        # Resized anew, not kept: a page that is not shown takes no memory beside its own.
        counts = [len(selector.add(choice.spec.resize(page.image)).kept_indices) for page in document.pages]
        document.kept.clear()
        document.kept[key] = counts
    return document.kept[key]


def _thumbnail(page: Page) -> str:
    if not page.thumbnail:
        image = page.image.copy()
        image.thumbnail((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC, reducing_gap=2.0)
        file = BytesIO()
        image.save(file, "JPEG", quality=72)
        page.thumbnail = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return page.thumbnail
