"""What a survey reads: sources, which are files, and the items in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .records import Problem


@dataclass(frozen=True)
class Item:
    """One thing to decode, where a worker process finds it.

    Attributes:
        name: for people.
        group: the folder or archive it is in.
        source, index: the file that holds it, and its number there, from 0.
        key: its name and what tells that its content is still the same.
        path: the file that holds it, if a worker is to read it there.
        page: of a document, from 1.
        content: its bytes otherwise.
        error: why there are none, if its archive or table could not give them.
    """

    name: str
    group: str
    source: str
    index: int
    key: str
    path: Path | None = None
    page: int | None = None
    content: bytes | None = None
    error: str | None = None


@dataclass(frozen=True)
class Source:
    """A file that holds items.

    Attributes:
        name: the file, as it was given or found.
        count: its items.
        read: yields the items of these indices, which ascend.
        problems: what of it is left out as a whole, such as pages beyond the limits.
    """

    name: str
    count: int
    read: Callable[[Sequence[int]], Iterator[Item]]
    problems: tuple[Problem, ...] = ()


def stamp(path: Path) -> str:
    """What changes when the file does."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def first_line(error: Exception) -> str:
    """Of what an error says, or its type."""
    return " ".join((str(error).splitlines() or [""])[0].split()) or type(error).__name__
