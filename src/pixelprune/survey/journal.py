"""What is done already, on disk, so that a survey that was stopped resumes where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import ConfigError
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
        head = {"format": FORMAT, "settings": asdict(settings)}
        try:
            good = self._read(head)
            self._file = path.open("r+b" if good else "wb")
            # A last line that was cut off when the process was killed is no line.
            self._file.truncate(good)
            self._file.seek(good)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
        if not good:
            self._write(head)

    def add(self, outcomes: list[Outcome], seconds: float) -> None:
        """Note what was done, and the seconds since the run began."""
        for outcome in outcomes:
            self.done[outcome.key] = outcome
            rows, problems = ([asdict(entry) for entry in part] for part in (outcome.rows, outcome.problems))
            self._write({"key": outcome.key, "rows": rows, "problems": problems, "seconds": self.seconds + seconds})
        self._file.flush()

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete the file: the survey is complete."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _write(self, entry: dict[str, object]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")

    def _read(self, head: dict[str, object]) -> int:
        """Take over what is done. Returns the bytes up to the end of the last whole line."""
        if not self.path.exists() or not self.path.stat().st_size:
            return 0
        good = 0
        for number, (entry, end) in enumerate(_lines(self.path)):
            if number == 0:
                if entry != json.loads(json.dumps(head)):
                    raise ConfigError(
                        f"{self.path}: the unfinished survey in this file was made with other settings; delete the "
                        f"file, or choose another --out"
                    )
            else:
                outcome = Outcome(
                    entry["key"],
                    [ImageRow(**row) for row in entry["rows"]],
                    [Problem(**problem) for problem in entry["problems"]],
                )
                self.done[outcome.key] = outcome
                self.seconds = max(self.seconds, entry["seconds"])
            good = end
        if not good:
            raise ConfigError(f"{self.path}: not the journal of a survey; delete the file, or choose another --out")
        return good


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Every whole line and the offset of its end, up to the first that is none."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n") or not isinstance(entry, dict):
                return
            end += len(line)
            yield entry, end
