"""``pixelprune ask``: a question about images, answered from their kept blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.config import PruneConfig
from ..errors import ConfigError
from ._options import Dpi, with_settings

if TYPE_CHECKING:
    from ..hf.chat import Answer


@with_settings
def ask(
    arguments: Annotated[
        list[str], typer.Argument(metavar="IMAGE... QUESTION", help="Images or PDFs, then the question.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A Qwen-style vision-language model: a local folder, or a hub id to download.",
            show_default="the bundled reader of printed pages and screens",
        ),
    ] = None,
    *,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Also ask about the whole images, and about them resized to as many tokens."),
    ] = False,
    config: PruneConfig,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 256,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...", show_default="cuda if there is one")] = "",
    dpi: Dpi = 150,
) -> None:
    """Ask a model a question about images.

    The time to first token includes resizing, selecting, encoding and prefill, but not reading the files or loading
    the model; the model is warmed up first.
    """
    if len(arguments) < 2:
        raise ConfigError(f"give at least one image, then the question; got only {arguments[0]!r}")
    *paths, question = arguments

    from .. import reader
    from ..core.images import open_images
    from ..core.limits import DEFAULT_LIMITS

    images = [image for path in paths for _, image in open_images(path, dpi, limits=DEFAULT_LIMITS)]
    try:
        from ..hf.chat import Chat, quiet_libraries
    except ImportError as error:
        raise ConfigError(str(error)) from error
    quiet_libraries()
    with _waiting(f"loading {model or 'the bundled reader'}") as wait_for:
        chat = Chat(model, config, dtype=dtype, device=device)
        wait_for("answering from the pruned images")
        answers = [chat.answer(images, question, "pruned", max_new_tokens)]
        if compare:
            kept = [report.kept for report in chat.processor.last_report]
            wait_for("answering from the whole images")
            answers.append(chat.answer(images, question, "whole", max_new_tokens))
            wait_for("answering from the resized images")
            answers.append(chat.answer(chat.shrink(images, kept), question, "resized", max_new_tokens))
    _show(answers)
    doubt = reader.outside_training(images, question) if model is None else None
    if doubt is not None:
        typer.secho(doubt, fg="yellow")


@contextmanager
def _waiting(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr while it is a terminal, and what is waited for.

    Yields:
        ``wait_for(what)``: what it is now.
    """
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(what)) as status:
        yield lambda now: status.update(escape(now))


def _show(answers: list[Answer]) -> None:
    """The answer, and what it cost; or a table of several."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if len(answers) == 1:
        (only,) = answers
        console.print(Text(only.text))
        console.print(
            f"{only.image_tokens} of {only.whole_tokens} image tokens "
            f"({only.image_tokens / only.whole_tokens:.1%}), first token after {only.first_token:.2f} s",
            style="dim",
        )
        return
    whole = next(answer for answer in answers if answer.mode == "whole")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=True)
    table.add_column("", style="dim")
    for answer in answers:
        table.add_column(answer.mode, overflow="fold", ratio=1)
    rows: dict[str, Callable[[Answer], str]] = {
        "image tokens": lambda a: f"{a.image_tokens} ({a.image_tokens / whole.image_tokens:.1%})",
        "prompt tokens": lambda a: str(a.prompt_tokens),
        "first token": lambda a: f"{a.first_token:.2f} s",
        "speed-up": lambda a: f"{whole.first_token / a.first_token:.2f}x",
        "whole answer": lambda a: f"{a.seconds:.2f} s",
        "answer": lambda a: a.text,
    }
    for name, value in rows.items():
        table.add_row(name, *(Text(value(answer)) for answer in answers))
    console.print(table)
