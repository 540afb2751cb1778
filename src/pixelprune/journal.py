"""An append-only file of JSON lines that outlives a killed process: a head that says what it is of, then entries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import ConfigError


class JsonLines:
    """A journal, open for more entries.

    A last line that was cut off when the process was killed is no entry, and is overwritten.

    Args:
        path: of the file; begun if it is not there.
        head: what the entries are of, as plain JSON values.
        other_head: what to say where the file has another head.
        not_one: what to say where the file is no journal.

    Attributes:
        entries: those that were in the file when it was opened.

    Raises:
        ConfigError: the file has another head, is no journal, or cannot be written.
    """

    def __init__(self, path: Path, head: dict[str, Any], *, other_head: str, not_one: str) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        good = 0
        try:
            if path.exists() and path.stat().st_size:
                for entry, end in _lines(path):
                    self.entries.append(entry)
                    good = end
                if not self.entries:
                    raise ConfigError(f"{path}: {not_one}")
                if self.entries.pop(0) != json.loads(json.dumps(head)):
                    raise ConfigError(f"{path}: {other_head}")
            self._file = path.open("r+b" if good else "wb")
            self._file.truncate(good)
            self._file.seek(good)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
        if not good:
            self.add(head)

    def add(self, *entries: dict[str, Any]) -> None:
        """Append entries; they are in the hands of the operating system when this returns."""
        self._file.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        self._file.flush()

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All whole entries of a journal, its head first; empty where there is no file."""
    return [entry for entry, _ in _lines(path)] if path.exists() else []


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
