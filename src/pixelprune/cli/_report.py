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

from ._rows import Columns, Failure, Reference, Row

_SOURCES_SHOWN = 3
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


def print_table(rows: list[Row], failed: list[Failure], columns: Columns) -> None:
    """A table on stdout: fitted to the terminal, as wide as it needs to be where there is none."""
    console = Console(highlight=False)
    names, terminal_width, console.width = [row.name for row in rows], console.width, 10_000
    if console.is_terminal:
        # Names take what numbers leave over. Numbers are never cut: a narrower terminal wraps the lines.
        least = console.measure(_table(rows, ["x" * _LEAST_NAME] * len(rows), columns)).maximum
        console.width = max(terminal_width, least)
        names = [_shorten(name, _LEAST_NAME + console.width - least) for name in _display_names(rows)]
    if rows:
        console.print(_table(rows, names, columns))
    if len(rows) + len(failed) > 1:
        console.print()
        console.print(Text(_closing_line(_summary(rows, failed), columns.sequence)))


def _summary(rows: list[Row], failed: list[Failure]) -> dict[str, Any]:
    blocks, alone, kept = (sum(getattr(row, name) for row in rows) for name in ("blocks", "alone", "kept"))
    return {
        "images": len(rows),
        "failed": len(failed),
        "blocks": blocks,
        "alone": alone,
        "kept": kept,
        "retained_overall": kept / blocks if rows else None,
        "retained_mean": fmean(row.retained for row in rows) if rows else None,
        "milliseconds": sum(row.milliseconds for row in rows),
    }


def _closing_line(summary: dict[str, Any], sequence: bool) -> str:
    parts = []
    if summary["images"] and sequence:
        parts.append(f"{summary['retained_overall']:.1%} of all blocks retained")
        parts.append(f"{summary['alone'] / summary['blocks']:.1%} without references")
    elif summary["images"]:
        parts.append(f"{summary['retained_overall']:.1%} of all blocks retained")
        parts.append(f"{summary['retained_mean']:.1%} on average over {_count(summary['images'], 'image')}")
    if summary["failed"]:
        parts.append(f"{summary['failed']} failed")
    return ", ".join(parts)


def _table(rows: list[Row], names: list[str], columns: Columns) -> Table:
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
    if columns.sequence:
        table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("image", footer=_count(len(rows), "image"), no_wrap=True)
    for header, footer, style in (
        ("size", "", "dim"),
        ("resized", "", "dim"),
        ("blocks", str(total["blocks"]), ""),
        *([("alone", str(total["alone"]), "")] if columns.sequence else []),
        ("kept", str(total["kept"]), ""),
        *([("lattice", str(sum(row.lattice for row in rows)), "")] if columns.lattice else []),
        ("retained", f"{total['retained_overall'] or 0:.1%}", "bold cyan"),
        *([] if columns.sequence else [("distinct", "", "")]),
        ("ms", f"{total['milliseconds']:.1f}", ""),
        *([("level", "", "")] if columns.levels else []),
    ):
        table.add_column(header, footer=footer, style=style, justify="right", no_wrap=True)
    if columns.sequence:
        table.add_column("from", no_wrap=True)
    for number, (row, name) in enumerate(zip(rows, names, strict=True), start=1):
        table.add_row(
            *([str(number)] if columns.sequence else []),
            Text(name),
            f"{row.width}x{row.height}",
            f"{row.resized_width}x{row.resized_height}",
            str(row.blocks),
            *([str(row.alone)] if columns.sequence else []),
            str(row.kept),
            *([str(row.lattice)] if columns.lattice else []),
            f"{row.retained:.1%}",
            *([] if columns.sequence else [f"{row.distinct:.1%}"]),
            f"{row.milliseconds:.1f}",
            *([_level(row)] if columns.levels else []),
            *([_sources(row.references)] if columns.sequence else []),
        )
    return table


def _sources(references: list[Reference]) -> str:
    """Where dropped blocks come from: ``704 of 2, 81 of 1``, those that most come from first."""
    order = sorted(references, key=lambda each: -each.blocks)
    shown = [f"{each.blocks} of {each.image + 1}" for each in order[:_SOURCES_SHOWN]]
    if others := order[_SOURCES_SHOWN:]:
        shown.append(f"{sum(each.blocks for each in others)} of others")
    return ", ".join(shown)


def _level(row: Row) -> str:
    """Where a budget took another metric than max, its levels mean something else."""
    return str(row.level) if row.metric == "max" else f"{row.level} {row.metric}"


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
