"""The report: one HTML file with the table, the differences as a chart, and how everything was asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..viz import charts, page
from .run import Job
from .table import HEADINGS, Line, cells_of

_LEVEL = "95 %"


def write_html(jobs: Sequence[Job], table: Sequence[Line], baseline: str, path: Path) -> None:
    """Write the report.

    Args:
        jobs: all cells, finished or not.
        table: a line for each finished one, at least one.
        baseline: the arm that the others are compared with.
        path: of the file.

    Raises:
        ConfigError: packages of ``pixelprune[evaluate]`` are missing, or the file cannot be written.
    """
    models = list(dict.fromkeys(line.model for line in table))
    html = page.render(
        "pixelprune.evaluate",
        "evaluation.html",
        models=[_model(model, [line for line in table if line.model == model], baseline) for model in models],
        headings=HEADINGS[1:],
        baseline=baseline,
        level=_LEVEL,
        finished=len(table),
        cells=len(jobs),
        rows=sum(line.rows for line in table),
        asked=_asked(jobs),
        limits=sorted({job.cell.limit for job in jobs if job.cell.limit is not None}),
        version=__version__,
    )
    page.write(path, html)


def _model(name: str, table: list[Line], baseline: str) -> dict[str, Any]:
    gaps = [
        (f"{line.set}: {line.arm}", line.against.mean * 100, line.against.low * 100, line.against.high * 100)
        for line in table
        if line.against is not None and line.against.low is not None and line.against.high is not None
    ]
    title = f"percentage points against {baseline}"
    return {
        "name": name,
        "rows": [cells_of(line)[1:] for line in table],
        "chart": charts.differences(gaps, title) if gaps else "",
    }


def _asked(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """How each model was asked each set, without what the arms differ in."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for job in jobs:
        cell = job.cell
        found.setdefault(
            (cell.model_name, cell.set.name),
            {
                "model": cell.loading["model"],
                "set": cell.set.name,
                "harness": cell.set.harness,
                "engine": f"{cell.engine}, {cell.loading['dtype']}",
                "prompt": cell.prompt or "the harness's",
                "tokens": cell.max_new_tokens or "the harness's",
                "points": cell.points if cell.set.kind == "point" else "",
            },
        )
    return list(found.values())
