"""Fill all cells, each in a process of its own: finished ones are skipped, killed ones resume."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from .arms import slug
from .cell import Cell, Result, read_result, write_json
from .local import read_rows

_WAIT = 0.2  # seconds between two looks at the processes


@dataclass
class Job:
    """A cell and its folder.

    Attributes:
        cell: what is asked by what.
        folder: of the cell.
        rows: how many are to be answered.
    """

    cell: Cell
    folder: Path
    rows: int

    @property
    def result(self) -> Result | None:
        """The cell's result, once it is finished for these rows."""
        found = read_result(self.folder)
        return found if found is not None and found.limit == self.cell.limit else None

    @property
    def answered(self) -> int:
        """Rows in the journal, which may hold more than this run wants."""
        try:
            with (self.folder / "journal.jsonl").open("rb") as file:
                lines = sum(line.endswith(b"\n") for line in file)
        except FileNotFoundError:
            return 0
        return min(self.rows, max(0, lines - 1))


@dataclass
class Progress:
    """Where a run is; handed to whoever shows it.

    Attributes:
        done, cells: cells that are finished, and all.
        answered, rows: rows of all cells.
        running: what is at work, in words.
    """

    done: int
    cells: int
    answered: int
    rows: int
    running: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Failure:
    """A cell that ended without a result, and why: the last line that it wrote."""

    job: Job
    reason: str


def jobs(cells: Sequence[Cell], output: Path) -> list[Job]:
    """Cells with their folders, ``output/model/set/arm``.

    Raises:
        ConfigError: a folder holds a cell of other settings.
    """
    found = []
    for cell in cells:
        folder = output / slug(cell.model_name) / slug(cell.set.name) / cell.arm.folder
        count = cell.set.count if cell.questions is None else len(read_rows(Path(cell.questions)))
        _check_settings(cell, folder)
        found.append(Job(cell, folder, count if cell.limit is None else min(count, cell.limit)))
    return found


def run(
    all_jobs: Sequence[Job],
    *,
    processes: int = 1,
    progress: Callable[[Progress], None] | None = None,
    python: str = sys.executable,
) -> list[Failure]:
    """Fill the cells that are not finished.

    Args:
        all_jobs: in the order in which they are filled.
        processes: cells at a time.
        progress: called a few times a second.
        python: that has the harnesses; this one.

    Returns:
        The cells that failed; the others are finished.
    """
    waiting = [job for job in all_jobs if job.result is None]
    done = len(all_jobs) - len(waiting)
    running: list[tuple[Job, subprocess.Popen[bytes]]] = []
    failures: list[Failure] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.pop(0)
                running.append((job, _start(job, python)))
            for job, process in list(running):
                if process.poll() is not None:
                    running.remove((job, process))
                    done += 1
                    if process.returncode or job.result is None:
                        failures.append(Failure(job, _reason(job, process.returncode)))
            if progress:
                names = [f"{job.cell.model_name}, {job.cell.set.name}, {job.cell.arm.name}" for job, _ in running]
                answered, rows = sum(job.answered for job in all_jobs), sum(job.rows for job in all_jobs)
                progress(Progress(done, len(all_jobs), answered, rows, names))
            time.sleep(_WAIT)
    finally:
        for _, process in running:
            process.kill()
            process.wait()
    return failures


def _start(job: Job, python: str) -> subprocess.Popen[bytes]:
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "result.json").unlink(missing_ok=True)
    write_json(job.folder / "cell.json", job.cell.to_dict())
    command = [python, "-m", "pixelprune.evaluate.fill", str(job.folder)]
    with (job.folder / "log.txt").open("ab") as log:
        # The pipe is never written to: that it ends tells the cell that this process has.
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)


def _reason(job: Job, code: int | None) -> str:
    lines = (job.folder / "log.txt").read_text(errors="replace").strip().splitlines()
    last = lines[-1].removeprefix("pixelprune: ") if lines else "it wrote nothing"
    return f"{last} (exit code {code}; {job.folder / 'log.txt'})"


def _check_settings(cell: Cell, folder: Path) -> None:
    try:
        before = json.loads((folder / "cell.json").read_text())
    except FileNotFoundError:
        return
    except ValueError as error:
        raise ConfigError(f"{folder / 'cell.json'}: not JSON ({error}); delete the folder") from error
    now, was = cell.head, Cell.from_dict(before).head
    for name, value in now.items():
        if json.loads(json.dumps(value)) != was.get(name):
            raise ConfigError(
                f"{folder}: answered with other settings ({name} was {was.get(name)!r}, is {value!r}); delete the "
                f"folder, or choose another output"
            )
    # What is asked is part of no head: other questions are other rows of the journal, and the score is another.
    if {k: v for k, v in before.items() if k in _ASKED} != {k: v for k, v in cell.to_dict().items() if k in _ASKED}:
        (folder / "result.json").unlink(missing_ok=True)


_ASKED = ("prompt", "max_new_tokens", "points", "questions")
