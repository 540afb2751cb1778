"""``pixelprune ask``: a question about images, answered from their kept blocks."""

from __future__ import annotations

from typing import Annotated

import typer

from ..core.config import PruneConfig
from ..errors import ConfigError
from . import quiet_libraries
from ._options import Anchored, Dpi, MaxTokens, Method, Metric, Seed, Threshold


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
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Also ask about the whole images, and about them resized to as many tokens."),
    ] = False,
    method: Method = "pred2d",
    metric: Metric = "max",
    threshold: Threshold = 0.0,
    anchored: Anchored = True,
    max_tokens: MaxTokens = None,
    seed: Seed = 0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 256,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...", show_default="cuda if there is one")] = "",
    dpi: Dpi = 150,
) -> None:
    """Ask a model a question about images.

    The time to first token includes resizing, selecting, encoding and prefill, but not reading the files or loading
    the model; the model is warmed up first.
    """
    config = PruneConfig(method, metric, threshold, anchored, max_tokens, seed)  # type: ignore[arg-type]
    if len(arguments) < 2:
        raise ConfigError(f"give at least one image, then the question; got only {arguments[0]!r}")
    *paths, question = arguments

    from ..core.images import open_images

    images = [image for path in paths for _, image in open_images(path, dpi)]
    try:
        from .. import hf  # noqa: F401  (says in one line what is missing)
        from . import _answer
    except ImportError as error:
        raise ConfigError(str(error)) from error
    quiet_libraries()
    reader = _answer.Reader(model, config, dtype, device)
    answers = [reader.answer(images, question, "pruned", max_new_tokens)]
    if compare:
        kept = [report.kept for report in reader.processor.last_report]
        answers.append(reader.answer(images, question, "whole", max_new_tokens))
        answers.append(reader.answer(reader.shrink(images, kept), question, "resized", max_new_tokens))
    _answer.show(answers)
