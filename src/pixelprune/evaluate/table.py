"""The table: each model and set, whole against every other arm, with what is kept and how sure the difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .run import Job
from .statistics import Estimate, difference, score

#: A harness's own score may be rounded to this.
_ROUNDED = 0.0005


@dataclass(frozen=True)
class Line:
    """An arm of a model on a set.

    Attributes:
        model, set, arm: their names.
        score: the harness's, 0 to 1.
        interval: of the mean over rows; ``None`` where the harness gives no scores of rows.
        against: the difference to the baseline over the same rows; ``None`` for the same reason, for the baseline
            itself, and where the baseline is not finished.
        kept: blocks that the model saw of all blocks, 0 to 1.
        seconds: of a row.
        rows: that were answered.
        note: what is odd about the cell, or nothing.
    """

    model: str
    set: str
    arm: str
    score: float
    interval: Estimate | None
    against: Estimate | None
    kept: float | None
    seconds: float
    rows: int
    note: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @property
    def verdict(self) -> str:
        """The difference in a word or two."""
        if self.against is None:
            return ""
        if self.against.within_noise:
            return "within noise"
        return "better" if self.against.mean > 0 else "worse"


def lines(jobs: Sequence[Job], baseline: str) -> list[Line]:
    """A line for each finished cell, in the order of the jobs."""
    found = {(job.cell.model_name, job.cell.set.name, job.cell.arm.name): (job, job.result) for job in jobs}
    table = []
    for (model, known, arm), (_, result) in found.items():
        if result is None:
            continue
        _, base = found.get((model, known, baseline), (None, None))
        against = note = None
        interval = score(result.rows) if result.rows else None
        if arm != baseline and base is not None and base.rows and result.rows:
            against = difference(result.rows, base.rows)
        if interval is None:
            note = "the harness gives no scores of rows"
        elif abs(interval.mean - result.score) > _ROUNDED:
            note = f"the mean over rows is {interval.mean:.1%}"
        table.append(
            Line(
                model,
                known,
                arm,
                result.score,
                interval,
                against,
                result.kept,
                result.seconds,
                len(result.replies),
                note or "",
            )
        )
    return table


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent; a dash where there is none."""
    return "–" if value is None else f"{value * 100:.{digits}f}"


def interval(estimate: Estimate | None, signed: bool = False) -> str:
    """An interval as percent; a dash where there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "–"
    form = "{:+.1f}" if signed else "{:.1f}"
    # "to", since a dash between signed numbers reads as one more sign
    return f"{form.format(estimate.low * 100)} to {form.format(estimate.high * 100)}"


HEADINGS = ("model", "set", "arm", "score", "95 %", "kept", "difference", "95 %", "", "s/row", "rows")


def cells_of(line: Line) -> tuple[str, ...]:
    """A line as texts, one for each of :data:`HEADINGS`."""
    gap = "" if line.against is None else f"{line.against.mean * 100:+.1f}"
    return (
        line.model,
        line.set,
        line.arm,
        percent(line.score),
        interval(line.interval),
        percent(line.kept),
        gap,
        "" if line.against is None else interval(line.against, signed=True),
        line.verdict or line.note,
        f"{line.seconds:.2f}",
        str(line.rows),
    )


def markdown(table: Sequence[Line]) -> str:
    """The table for a page."""
    rows = [HEADINGS, tuple("---" for _ in HEADINGS), *(cells_of(line) for line in table)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
