"""The typer application. Each command is a module beside this one, with a function of its name."""

from __future__ import annotations

import importlib
from typing import Annotated

import rich  # noqa: F401  (typer can do without it; the commands cannot)
import typer
from typer import Abort

__all__ = ["Abort", "app"]

#: The commands, in the order of the help text. What they need that is heavy they import when they run.
COMMANDS = ("inspect", "survey", "explore", "ask", "train", "evaluate", "doctor")

app = typer.Typer(
    help="Drop the image blocks that carry no information before a vision-language model sees them.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from .. import __version__

        typer.echo(f"pixelprune {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for name in COMMANDS:
    app.command(name)(getattr(importlib.import_module(f".{name}", __package__), name))
