"""``pixelprune train``: fine-tune a model with pruned images, as a config file says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, install_hint


def train(
    config: Annotated[Path, typer.Argument(help="A YAML file; docs/training.md lists its keys.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change: trainer.max_steps=10")
    ] = None,
) -> None:
    """Fine-tune a model with pruned images: full, frozen in part, or LoRA; on answers, or self-distilled.

    Run again after an interruption, it resumes from its last checkpoint. Several processes: accelerate launch
    -m pixelprune train CONFIG.
    """
    try:
        from ..train.config import load_config
    except ImportError as error:
        raise ConfigError(_missing(error)) from error
    settings = load_config(config, overrides or ())
    try:
        from rich.console import Console
        from rich.logging import RichHandler

        from ..hf.chat import quiet_libraries
        from ..train import run
        from ..train.progress import numbers
    except ImportError as error:
        raise ConfigError(_missing(error)) from error
    quiet_libraries()
    console = Console(stderr=True)
    # Bad rows are reported above the progress bar.
    handler = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    logging.getLogger("pixelprune").addHandler(handler)
    result = run.train(settings, console)
    run.leave_process_group()
    if not run.is_first_process():
        return
    if result.skipped:
        count = "1 bad row was" if result.skipped == 1 else f"{result.skipped} bad rows were"
        console.print(f"{count} left out", style="yellow", highlight=False)
    if result.metrics:
        print(f"evaluation: {numbers(result.metrics)}")
    print(f"{result.steps} steps; the model is in {result.output}")


def _missing(error: ImportError) -> str:
    if error.name is None or error.name.startswith("pixelprune"):
        return str(error)
    return f"training needs {error.name.partition('.')[0]}: {install_hint('train')}"
