"""What ``inspect`` shows: a progress bar, a table for people, a JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ._rows import Failure, Row

_LEAST_NAME = 10  # as long as "999 images", the foot of the names' column


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar on stderr while it is a terminal and there is more than one file; gone when done.

    Yields:
        ``show(name, done)``: what is worked on, and how many more files are done.
    """
    console = Console(stderr=True)
    if not console.is_terminal or total < 2:
        yield lambda name, done: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[name]}", markup=False))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, name="")

        def show(name: str, done: int) -> None:
            bar.update(task, advance=done, name=_shorten(Path(name).name, max(_LEAST_NAME, console.width - 60)))

        yield show


def print_json(rows: list[Row], failed: list[Failure], settings: dict[str, object]) -> None:
    """One JSON document on stdout."""
    from .. import __version__

    document = {
        "version": __version__,
        "settings": settings,
        "images": [asdict(row) for row in rows],
        "failed": [asdict(failure) for failure in failed],
        "summary": _summary(rows, failed),
    }
    json.dump(document, sys.stdout, indent=2)
    print()


def print_table(rows: list[Row], failed: list[Failure], *, levels: bool, lattice: bool) -> None:
    """A table on stdout: fitted to the terminal, as wide as it needs to be where there is none.

    Args:
        levels: show the threshold levels, which a search for ``max_tokens`` finds for each image.
        lattice: show how many blocks only the lattice keeps.
    """
    console = Console(highlight=False)
    names, terminal_width, console.width = [row.name for row in rows], console.width, 10_000
    if console.is_terminal:
        # Names take what numbers leave over. Numbers are never cut: a narrower terminal wraps the lines.
        least = console.measure(_table(rows, ["x" * _LEAST_NAME] * len(rows), levels, lattice)).maximum
        console.width = max(terminal_width, least)
        names = [_shorten(name, _LEAST_NAME + console.width - least) for name in _display_names(rows)]
    if rows:
        console.print(_table(rows, names, levels, lattice))
    if len(rows) + len(failed) > 1:
        console.print()
        console.print(Text(_closing_line(_summary(rows, failed))))


def _summary(rows: list[Row], failed: list[Failure]) -> dict[str, Any]:
    blocks, kept = sum(row.blocks for row in rows), sum(row.kept for row in rows)
    return {
        "images": len(rows),
        "failed": len(failed),
        "blocks": blocks,
        "kept": kept,
        "retained_overall": kept / blocks if rows else None,
        "retained_mean": fmean(row.retained for row in rows) if rows else None,
        "milliseconds": sum(row.milliseconds for row in rows),
    }


def _closing_line(summary: dict[str, Any]) -> str:
    parts = []
    if summary["images"]:
        parts.append(f"{summary['retained_overall']:.1%} of all blocks retained")
        parts.append(f"{summary['retained_mean']:.1%} on average over {_count(summary['images'], 'image')}")
    if summary["failed"]:
        parts.append(f"{summary['failed']} failed")
    return ", ".join(parts)


def _table(rows: list[Row], names: list[str], levels: bool, lattice: bool) -> Table:
    several = len(rows) > 1
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        pad_edge=False,
        show_footer=several,
        header_style="bold",
        footer_style="bold",
    )
    total = _summary(rows, [])
    table.add_column("image", footer=_count(len(rows), "image"), no_wrap=True)
    for header, footer, style in (
        ("size", "", "dim"),
        ("resized", "", "dim"),
        ("blocks", str(total["blocks"]), ""),
        ("kept", str(total["kept"]), ""),
        *([("lattice", str(sum(row.lattice for row in rows)), "")] if lattice else []),
        ("retained", f"{total['retained_overall'] or 0:.1%}", "bold cyan"),
        ("distinct", "", ""),
        ("ms", f"{total['milliseconds']:.1f}", ""),
        *([("level", "", "")] if levels else []),
    ):
        table.add_column(header, footer=footer, style=style, justify="right", no_wrap=True)
    for row, name in zip(rows, names, strict=True):
        table.add_row(
            Text(name),
            f"{row.width}x{row.height}",
            f"{row.resized_width}x{row.resized_height}",
            str(row.blocks),
            str(row.kept),
            *([str(row.lattice)] if lattice else []),
            f"{row.retained:.1%}",
            f"{row.distinct:.1%}",
            f"{row.milliseconds:.1f}",
            *([str(row.level)] if levels else []),
        )
    return table


def _display_names(rows: list[Row]) -> list[str]:
    """File names alone where they tell the images apart, whole paths otherwise."""
    short = [Path(row.name).name for row in rows]
    return short if len(set(short)) == len(short) else [row.name for row in rows]


def _shorten(name: str, width: int) -> str:
    """Cut out the middle: the ends are what tells names apart."""
    if len(name) <= width:
        return name
    tail = (width - 1) * 2 // 3
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
