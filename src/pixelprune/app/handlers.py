"""What happens when something on the page is changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr

from ..core.budget import budget_warning
from ..errors import PixelPruneError
from .answers import answers_html
from .document import Document, ViewState
from .explorer import Explorer
from .filmstrip import strip_html
from .view import Choice, View, compare_html, curve_html, look, numbers_html, picture_html, snippets

# Gradio types neither its components nor what their handlers take and return.
Components = list[Any]
#: What a handler returns for each of its outputs: a value, or ``gr.update()``.
Updates = list[Any]


@dataclass(frozen=True)
class Parts:
    """The components of the page.

    Attributes:
        settings: whose values :func:`_choice` takes.
        references: the one of them for references.
        shown: the message, the picture, the numbers and the code.
        below: the chart, and the image beside its reconstruction.
        strip: the filmstrip.
        example, upload, number: what is looked at, and which page of it.
        question, ask, answer: for the model.
    """

    settings: Components
    references: gr.Component
    shown: Components
    below: Components
    strip: gr.Component
    example: gr.Component
    upload: gr.Component
    number: gr.Component
    question: gr.Component
    ask: gr.Component
    answer: gr.Component


def wire(blocks: gr.Blocks, explorer: Explorer, parts: Parts) -> None:
    """Connect the components. What follows a slider bypasses the queue, and only the last of its positions counts."""
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last"}
    hidden = {"api_visibility": "private"}
    handlers = _Handlers(explorer, len(parts.shown), len(parts.below))
    settings, shown, below, number = parts.settings, parts.shown, parts.below, parts.number
    for setting in settings:
        setting.change(handlers.draw, settings, shown, **at_once, **hidden)
        setting.change(handlers.draw_below, settings, below, **at_once, **hidden)
        setting.change(handlers.draw_strip, settings, parts.strip, **at_once, **hidden)
    loaded = [*shown, number, parts.references]
    for event in (
        blocks.load(handlers.load_first, settings, loaded, queue=False, **hidden),
        parts.example.input(handlers.load_example, [parts.example, *settings], loaded, queue=False, **hidden),
        parts.upload.upload(
            handlers.load_upload,
            [parts.upload, *settings],
            [*loaded, parts.upload, parts.example],
            queue=False,
            **hidden,
        ),
        number.change(handlers.turn, [number, *settings], shown, **at_once, **hidden),
    ):
        event.then(handlers.draw_strip, settings, parts.strip, queue=False, show_progress="hidden", **hidden)
        event.then(handlers.draw_below, settings, below, queue=False, show_progress="hidden", **hidden)
    for trigger in (parts.ask.click, parts.question.submit):
        trigger(handlers.reply, [parts.question, *settings], [shown[0], parts.answer], concurrency_limit=1, **hidden)
    blocks.unload(handlers.forget)


class _Handlers:
    """Gradio hands the request over as the first argument, then the values of the components."""

    def __init__(self, explorer: Explorer, shown: int, below: int) -> None:
        self._explorer, self._shown, self._below = explorer, shown, below

    def draw(self, request: gr.Request, *values: Any) -> Updates:
        return self._run(lambda: _above(self._explorer.state(_session(request)), _choice(*values)), self._shown)

    def draw_below(self, request: gr.Request, *values: Any) -> Updates:
        with suppress(PixelPruneError), self._explorer.drawing:  # draw() says what is wrong
            state, chosen = self._explorer.state(_session(request)), _choice(*values)
            view = _view(state, chosen)
            return [curve_html(state.page, chosen, view), compare_html(state.page, chosen, view)]
        return [gr.skip()] * self._below

    def draw_strip(self, request: gr.Request, *values: Any) -> Any:
        with suppress(PixelPruneError), self._explorer.drawing:
            return strip_html(self._explorer.state(_session(request)), _choice(*values))
        return gr.skip()

    def load_first(self, request: gr.Request, *values: Any) -> Updates:
        return self.load_example(request, next(iter(self._explorer.examples), None), *values)

    def load_example(self, request: gr.Request, name: str | None, *values: Any) -> Updates:
        path = self._explorer.examples.get(name) if name is not None else None
        count = self._shown + 2
        if path is None:
            return [gr.skip()] * count
        return _run_or_message(lambda: self._show(Document.read(path), request, values), count)

    def load_upload(self, request: gr.Request, paths: list[str] | None, *values: Any) -> Updates:
        result = _run_or_message(lambda: self._show(self._explorer.take(paths), request, values), self._shown + 2)
        return [*result, None, None]  # the files are gone, and no example is shown

    def turn(self, request: gr.Request, page_number: float, *values: Any) -> Updates:
        state = self._explorer.sessions.get(_session(request))
        if state is not None:
            state.turn(int(page_number))
        return self.draw(request, *values)

    def reply(self, request: gr.Request, text: str, *values: Any) -> tuple[str, str]:
        answers = self._explorer.answers
        try:
            page, chosen = self._explorer.state(_session(request)).page, _choice(*values)
            return "", answers_html(answers.ask(page.image, text, chosen.config), answers.doubt(page.image, text))
        except (PixelPruneError, ImportError) as error:
            return _message(str(error)), ""

    def forget(self, request: gr.Request) -> None:
        self._explorer.sessions.forget(_session(request))

    def _show(self, document: Document, request: gr.Request, values: tuple[Any, ...]) -> Updates:
        """A history begins with references, so that it is seen what they do; the settings follow."""
        state, chosen = ViewState(document), _choice(*values)
        self._explorer.sessions.put(_session(request), state)
        if document.history and chosen.references == "none":
            chosen = replace(chosen, references="previous")
        with self._explorer.drawing:
            drawn = _above(state, chosen)
        if document.refused:
            more = f" (and {len(document.refused) - 1} more like that)" if len(document.refused) > 1 else ""
            drawn[0] = _message(f"Not all of it is shown. {document.refused[0]}{more}")
        count = len(document.pages)
        turned = gr.update(visible=count > 1, maximum=max(2, count), value=1)
        return [*drawn, turned, chosen.references]

    def _run(self, work: Callable[[], Updates], count: int) -> Updates:
        with self._explorer.drawing:
            return _run_or_message(work, count)


def _choice(
    level: float,
    method: str,
    metric: str,
    lattice: int,
    references: str,
    budget: float | None,
    model: str,
    kind: str,
) -> Choice:
    """The settings, from the values of their components."""
    return Choice(int(level), method, metric, int(budget or 0) or None, model, kind, int(lattice), references)


def _view(state: ViewState, choice: Choice) -> View:
    return look(state.page, choice, state.earlier(choice.references))


def _above(state: ViewState, choice: Choice) -> Updates:
    """The message (of a budget that drops content), the picture, the numbers and the code."""
    view = _view(state, choice)
    code = snippets(choice)
    warning = budget_warning(view.selection, choice.config)
    return [
        _message(warning) if warning is not None else "",
        picture_html(state.page, choice, view),
        numbers_html(choice, view),
        *code.values(),
    ]


def _run_or_message(work: Callable[[], Updates], count: int) -> Updates:
    """What work returns; or what was wrong as a message, and everything else left as it is."""
    try:
        return work()
    except PixelPruneError as error:
        return [_message(str(error)), *[gr.skip()] * (count - 1)]


def _message(text: str) -> str:
    return f'<div class="pp-message" role="alert">{escape(text)}</div>'


def _session(request: gr.Request) -> str:
    return str(request.session_hash)
