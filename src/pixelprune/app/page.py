"""The page: what is where, and what happens when something is changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import gradio as gr
from PIL import Image

from ..core.budget import budget_warning
from ..core.config import METHODS, METRICS
from ..errors import ConfigError, ImageError, PixelPruneError
from ..viz import PICTURES
from .answers import Answers, answers_html
from .document import MOST_BYTES, Document, Page, SessionStore, ViewState, example_files
from .uploads import UploadReader
from .view import (
    MODELS,
    TOP_LEVEL,
    Choice,
    View,
    compare_html,
    curve_html,
    look,
    numbers_html,
    picture_html,
    snippets,
)

_INTRODUCTION = """
# PixelPrune: what does a vision-language model not need to read?

It cuts an image into blocks and reads each as one token. Blocks that repeat a neighbour say nothing new: they are
**dropped before the model sees them** (tinted below). Take an example or a page of your own, and move the threshold.
"""

#: The lattices to choose from, by what the page calls them.
LATTICES = {"none": 0} | {f"1 block in {step} x {step}": step for step in (8, 6, 4, 3, 2)}

#: The largest file that a visitor may bring if nobody says otherwise, in MB.
MOST_MEGABYTES = 25
_MEGABYTE = 1 << 20  # as Gradio counts them where it refuses a file

# Gradio types neither its components nor what their handlers take and return.
Components = list[Any]
#: What a handler returns for each of its outputs: a value, or ``gr.update()``.
Updates = list[Any]


#: Pictures that are drawn at a time: what is drawn takes memory beside what is kept.
_DRAWN_AT_ONCE = 4


@dataclass(frozen=True)
class Explorer:
    """What all visitors share: the model that answers, the examples; and apart from each other, what each looks at."""

    answers: Answers
    sessions: SessionStore
    examples: dict[str, Path]
    most_megabytes: float
    reader: UploadReader = field(default_factory=UploadReader)
    drawing: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(_DRAWN_AT_ONCE))

    def take(self, upload: str | None) -> Document:
        """Read an uploaded file and delete it.

        Raises:
            ImageError: it is too large, or cannot be read.
        """
        if upload is None:
            raise ImageError("No file came with that.")
        path = Path(upload)
        try:
            megabytes = path.stat().st_size / _MEGABYTE
            if megabytes > self.most_megabytes:
                raise ImageError(
                    f"{path.name}: {megabytes:.1f} MB are more than the {self.most_megabytes:g} MB that may be"
                )
            return self.reader.read(path, path.name)
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # of this upload alone; not empty if it is not
                path.parent.rmdir()

    def page(self, session: str) -> Page:
        """What a visitor looks at.

        Raises:
            ImageError: nothing any more.
        """
        state = self.sessions.get(session)
        if state is None:
            raise ImageError("Nothing is loaded (any more): take an example, or a file of your own.")
        return state.page


def launch(
    model: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    most_megabytes: float = MOST_MEGABYTES,
    most_memory: float = MOST_BYTES / _MEGABYTE,
    open_browser: bool = False,
    block: bool = True,
) -> gr.Blocks:
    """Serve the explorer.

    Args:
        model: answers questions: a local folder or a hub id; the bundled reader if ``None``.
        host: to listen at; ``0.0.0.0`` for all of the machine's addresses.
        port: to listen at; the first free one from 7860 on if ``None``.
        most_megabytes: the largest file that is taken.
        most_memory: MB of decoded pixels that are kept over all visitors. One visitor has 180 at most, and as much as
            the resized page takes.
        open_browser: show the page in a browser.
        block: return only when it is stopped.

    Returns:
        Gradio's application, with ``local_url``.
    """
    if not most_memory >= 1:
        raise ConfigError(f"most_memory must be at least 1 MB; got {most_memory}")
    # Compiled, or loaded as compiled before, so that no visitor waits for it.
    warm = Page("", Image.new("RGB", (256, 256), "white"))
    for level in (0, 1):
        curve_html(warm, Choice(level), look(warm, Choice(level)))
    explorer = Explorer(Answers(model), SessionStore(int(most_memory * _MEGABYTE)), example_files(), most_megabytes)
    return serve(explorer, host=host, port=port, open_browser=open_browser, block=block)


def serve(
    explorer: Explorer,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = False,
    block: bool = True,
) -> gr.Blocks:
    """Serve an explorer; see :func:`launch`."""
    blocks = build(explorer)
    blocks.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        prevent_thread_lock=not block,
        share=False,
        quiet=True,
        show_error=True,
        ssr_mode=False,
        footer_links=[],
        max_file_size=f"{int(explorer.most_megabytes * _MEGABYTE)}b",
        # Fonts of the system: the default theme would fetch its own from the network.
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(__file__).with_name("page.css"),
    )
    return blocks


def build(explorer: Explorer) -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(title="PixelPrune explorer", analytics_enabled=False, delete_cache=(60, 60)) as blocks:
        gr.Markdown(_INTRODUCTION)
        message = gr.HTML(elem_id="message")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                names = list(explorer.examples)
                example = gr.Radio(names, value=names[0] if names else None, label="Examples", elem_id="example")
                upload = gr.File(
                    label="Image or PDF",
                    file_types=["image", ".pdf"],
                    height=140,
                    elem_id="upload",
                )
                gr.HTML(
                    f'<p class="pp-quiet">Up to {explorer.most_megabytes:g} MB. It is read on the machine that this '
                    "page comes from, and not kept after you leave.</p>"
                )
                number = gr.Slider(1, 2, 1, step=1, label="Page", visible=False, elem_id="page")
            with gr.Column(scale=3, min_width=300):
                level = gr.Slider(
                    0,
                    TOP_LEVEL,
                    0,
                    step=1,
                    label="Threshold in 8-bit levels",
                    info=f"0 is exact; {TOP_LEVEL} of 255 is 0.2",
                    elem_id="level",
                )
                kind = gr.Radio(list(PICTURES), value="overlay", label="Picture", elem_id="picture-kind")
                picture = gr.HTML(elem_id="picture")
            with gr.Column(scale=1, min_width=200):  # a phone shows the columns one below the other
                numbers = gr.HTML(elem_id="numbers")
        with gr.Row():
            method = gr.Dropdown(list(METHODS), value="pred2d", label="Method", elem_id="method", min_width=170)
            metric = gr.Dropdown(list(METRICS), value="max", label="Metric", elem_id="metric", min_width=170)
            lattice = gr.Dropdown(
                list(LATTICES.items()),
                value=0,
                label="Lattice, which samples dropped regions",
                elem_id="lattice",
                min_width=170,
            )
            budget = gr.Number(
                0, label="At most this many blocks (0: any)", precision=0, minimum=0, elem_id="budget", min_width=170
            )
            model = gr.Dropdown(list(MODELS), value=MODELS[0], label="Model", elem_id="model", min_width=170)
        with gr.Row():
            with gr.Column(min_width=300):
                gr.Markdown("### Blocks kept against the threshold")
                chart = gr.HTML(elem_id="chart")
            with gr.Column(min_width=300):
                gr.Markdown("### The image, and what is left of it")
                comparison = gr.HTML(elem_id="compare")
        gr.Markdown(f"### Ask {explorer.answers.name}")
        if explorer.answers.note:
            gr.HTML(f'<p class="pp-quiet">{explorer.answers.note}</p>')
        with gr.Row():
            question = gr.Textbox(label="Question", scale=4, elem_id="question", max_lines=3)
            ask = gr.Button("Ask", variant="primary", scale=1, min_width=120, elem_id="ask")
        gr.Examples([[text] for text in explorer.answers.questions], question, label="For instance", elem_id="samples")
        answer = gr.HTML(elem_id="answer")
        gr.Markdown("### The same in code")
        plain: dict[str, Any] = {"interactive": False, "wrap_lines": True, "show_line_numbers": False}
        code = {
            name: gr.Code(language=language, label=label, elem_id=f"code-{name}", lines=1, **plain)
            for name, language, label in (
                ("python", "python", "Python"),
                ("cli", "shell", "Command line"),
                ("vllm", "shell", "vLLM"),
            )
        }
        settings = [level, method, metric, lattice, budget, model, kind]
        shown = [message, picture, numbers, *code.values()]
        below = [chart, comparison]
        _wire(blocks, explorer, settings, shown, below, (example, upload, number), (question, ask, answer))
    return blocks


def _wire(
    blocks: gr.Blocks,
    explorer: Explorer,
    settings: Components,
    shown: Components,
    below: Components,
    loading: tuple[gr.Component, gr.Component, gr.Component],
    asking: tuple[gr.Component, gr.Component, gr.Component],
) -> None:
    """What happens when. What follows a slider bypasses the queue, and only the last of its positions counts.

    Gradio hands the request over as the first argument.
    """
    example, upload, number = loading
    question, ask, answer = asking
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last"}
    hidden = {"api_visibility": "private"}

    def choice(
        level: float, method: str, metric: str, lattice: int, budget: float | None, model: str, kind: str
    ) -> Choice:
        return Choice(int(level), method, metric, int(budget or 0) or None, model, kind, int(lattice))

    def draw(request: gr.Request, *values: Any) -> Updates:
        return run(lambda: _above(explorer.page(_session(request)), choice(*values)), len(shown))

    def draw_below(request: gr.Request, *values: Any) -> Updates:
        with suppress(PixelPruneError), explorer.drawing:  # draw() says what is wrong
            page, chosen = explorer.page(_session(request)), choice(*values)
            view = look(page, chosen)
            return [curve_html(page, chosen, view), compare_html(page, chosen, view)]
        return [gr.skip()] * len(below)

    def run(work: Callable[[], Updates], count: int) -> Updates:
        with explorer.drawing:
            return _run_or_message(work, count)

    def show_document(document: Document, session: str, values: tuple[Any, ...]) -> Updates:
        explorer.sessions.put(session, ViewState(document))
        with explorer.drawing:
            drawn = _above(document.pages[0], choice(*values))
        if document.refused:
            more = f" (and {len(document.refused) - 1} more like that)" if len(document.refused) > 1 else ""
            drawn[0] = _message(f"Not all of it is shown. {document.refused[0]}{more}")
        count = len(document.pages)
        return [*drawn, gr.update(visible=count > 1, maximum=max(2, count), value=1)]

    def load_example(request: gr.Request, name: str | None, *values: Any) -> Updates:
        if name not in explorer.examples:
            return [gr.skip()] * (len(shown) + 1)
        return _run_or_message(
            lambda: show_document(Document.read(explorer.examples[name]), _session(request), values), len(shown) + 1
        )

    def load_first(request: gr.Request, *values: Any) -> Updates:
        return load_example(request, next(iter(explorer.examples), None), *values)

    def load_upload(request: gr.Request, path: str | None, *values: Any) -> Updates:
        result = _run_or_message(lambda: show_document(explorer.take(path), _session(request), values), len(shown) + 1)
        return [*result, None, None]  # the file is gone, and no example is shown

    def turn(request: gr.Request, page_number: float, *values: Any) -> Updates:
        state = explorer.sessions.get(_session(request))
        if state is not None:
            state.turn(int(page_number))
        return draw(request, *values)

    def reply(request: gr.Request, text: str, *values: Any) -> tuple[str, str]:
        try:
            page, chosen = explorer.page(_session(request)), choice(*values)
            answers = explorer.answers.ask(page.image, text, chosen.config)
            return "", answers_html(answers, explorer.answers.doubt(page.image, text))
        except (PixelPruneError, ImportError) as error:
            return _message(str(error)), ""

    def forget(request: gr.Request) -> None:
        explorer.sessions.forget(_session(request))

    for setting in settings:
        setting.change(draw, settings, shown, **at_once, **hidden)
        setting.change(draw_below, settings, below, **at_once, **hidden)
    loaded = [*shown, number]
    for event in (
        blocks.load(load_first, settings, loaded, queue=False, **hidden),
        example.input(load_example, [example, *settings], loaded, queue=False, **hidden),
        upload.upload(load_upload, [upload, *settings], [*loaded, upload, example], queue=False, **hidden),
        number.change(turn, [number, *settings], shown, **at_once, **hidden),
    ):
        event.then(draw_below, settings, below, queue=False, show_progress="hidden", **hidden)
    for trigger in (ask.click, question.submit):
        trigger(reply, [question, *settings], [shown[0], answer], concurrency_limit=1, **hidden)
    blocks.unload(forget)


def _above(page: Page, choice: Choice) -> Updates:
    """The message (of a budget that drops content), the picture, the numbers and the code."""
    view: View = look(page, choice)
    code = snippets(choice)
    warning = budget_warning(view.selection, choice.config)
    return [
        _message(warning) if warning is not None else "",
        picture_html(page, choice, view),
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
