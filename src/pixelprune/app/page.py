"""The page: what is where. What happens when something is changed is in ``handlers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ..core.config import METHODS, METRICS
from ..errors import ConfigError
from ..viz import PICTURES
from .answers import Answers
from .document import MOST_BYTES, Page, SessionStore, example_files
from .explorer import MEGABYTE, MOST_MEGABYTES, Explorer
from .handlers import Parts, wire
from .view import MODELS, TOP_LEVEL, Choice, curve_html, look

_INTRODUCTION = """
# PixelPrune: what does a vision-language model not need to read?

It cuts an image into blocks and reads each as one token. Blocks that repeat a neighbour say nothing new: they are
**dropped before the model sees them** (tinted below). Take an example or a page of your own, and move the threshold.
"""

#: The lattices to choose from, by what the page calls them.
LATTICES = {"none": 0} | {f"1 block in {step} x {step}": step for step in (8, 6, 4, 3, 2)}
#: Which earlier images a page may refer to, by what the page calls them.
REFERENCES = {"none": "none", "the one before": "previous", "the first and the one before": "first+previous"}


def launch(
    model: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    most_megabytes: float = MOST_MEGABYTES,
    most_memory: float = MOST_BYTES / MEGABYTE,
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
            the resized page and two earlier ones take.
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
        chosen = Choice(level, references="previous")
        curve_html(warm, chosen, look(warm, chosen, [warm]))
    explorer = Explorer(Answers(model), SessionStore(int(most_memory * MEGABYTE)), example_files(), most_megabytes)
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
        max_file_size=f"{int(explorer.most_megabytes * MEGABYTE)}b",
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
                    label="Images, or a PDF",
                    file_types=["image", ".pdf"],
                    file_count="multiple",
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
                strip = gr.HTML(elem_id="strip")
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
            references = gr.Dropdown(
                list(REFERENCES.items()),
                value="none",
                label="Earlier images to refer to",
                elem_id="references",
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
        wire(
            blocks,
            explorer,
            Parts(
                settings=[level, method, metric, lattice, references, budget, model, kind],
                references=references,
                shown=[message, picture, numbers, *code.values()],
                below=[chart, comparison],
                strip=strip,
                example=example,
                upload=upload,
                number=number,
                question=question,
                ask=ask,
                answer=answer,
            ),
        )
    return blocks
