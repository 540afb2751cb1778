"""What is done already, on disk, so that a survey that was stopped resumes where it was."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..journal import JsonLines
from .measure import Outcome
from .records import FORMAT, ImageRow, Problem, Settings


class Journal:
    """A file of JSON lines: the settings, then a line for each item that is done.

    Args:
        path: of the file; begun if it is not there.
        settings: what is measured. The model's name and the sample count as well as everything else.

    Raises:
        ConfigError: the file is of other settings, no journal, or cannot be written.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.done: dict[str, Outcome] = {}
        #: Seconds that earlier runs took.
        self.seconds = 0.0
        self._lines = JsonLines(
            path,
            {"format": FORMAT, "settings": asdict(settings)},
            other_head=(
                "the unfinished survey in this file was made with other settings; delete the file, or choose another "
                "--out"
            ),
            not_one="not the journal of a survey; delete the file, or choose another --out",
        )
        for entry in self._lines.entries:
            outcome = Outcome(
                entry["key"],
                [ImageRow(**row) for row in entry["rows"]],
                [Problem(**problem) for problem in entry["problems"]],
            )
            self.done[outcome.key] = outcome
            self.seconds = max(self.seconds, entry["seconds"])

    def add(self, outcomes: list[Outcome], seconds: float) -> None:
        """Note what was done, and the seconds since the run began."""
        entries = []
        for outcome in outcomes:
            self.done[outcome.key] = outcome
            rows, problems = ([asdict(entry) for entry in part] for part in (outcome.rows, outcome.problems))
            entries.append({"key": outcome.key, "rows": rows, "problems": problems, "seconds": self.seconds + seconds})
        self._lines.add(*entries)

    def close(self) -> None:
        """Close the file; it stays."""
        self._lines.close()

    def remove(self) -> None:
        """Close and delete the file: the survey is complete."""
        self.close()
        self.path.unlink(missing_ok=True)
