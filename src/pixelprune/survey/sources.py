"""Find the images in what people have: folders, globs, PDFs, ZIP and TAR archives, Parquet and Arrow tables.

Everything is a :class:`Source` that first tells how many items it has, cheaply, and then reads the wanted ones in
order, so that a sample costs a sample and nothing is ever in memory as a whole.
"""

from __future__ import annotations

import glob
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from PIL import Image

from ..core.images import find_pages
from ..errors import ConfigError, ImageError, PixelPruneError
from .records import Problem

TABLES = (".parquet", ".arrow")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class Item:
    """One thing to decode, where a worker process finds it.

    Attributes:
        name: for people.
        group: the folder or archive it is in.
        source, index: the file that holds it, and its number there, from 0.
        key: its name and what tells that its content is still the same.
        path: the file that holds it, if a worker is to read it there.
        page: of a PDF, from 1.
        content: its bytes otherwise.
        error: why there are none, if its archive could not give them.
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
    """

    name: str
    count: int
    read: Callable[[Sequence[int]], Iterator[Item]]


@dataclass(frozen=True)
class Found:
    """All sources, what could not be opened, and how many files were passed over."""

    sources: list[Source]
    problems: list[Problem]
    skipped: int


def find(inputs: Sequence[str]) -> Found:
    """Everything in the inputs.

    Args:
        inputs: files, folders (with all folders in them), or globs (``**`` for any folders). In folders and globs,
            files that are no images by their names are passed over; hidden ones, too.

    Raises:
        ConfigError: an input does not exist, or nothing that could be an image is in any of them.
    """
    sources: list[Source] = []
    problems: list[Problem] = []
    skipped = 0
    seen: set[str] = set()
    for path, named in _files(inputs):
        if str(path) in seen:
            continue
        seen.add(str(path))
        if not named and not _may_hold_images(path):
            skipped += 1
            continue
        try:
            sources.append(open_source(path))
        except PixelPruneError as error:
            problems.append(Problem(str(path), _line(path, error)))
    if not sources and not problems:
        raise ConfigError(f"no images in {', '.join(inputs)} ({skipped} other files)")
    return Found(sources, problems, skipped)


def _files(inputs: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """Every file, and whether it was named itself rather than found."""
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            yield from ((file, False) for file in _walk(path))
        elif path.exists():
            yield path, True
        elif glob.has_magic(text):
            found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (a pattern may be absolute)
            if not found:
                raise ConfigError(f"{text}: nothing matches")
            for match in map(Path, found):
                if match.is_file():
                    yield match, False
        else:
            raise ConfigError(f"{text}: no such file or folder")


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            path = Path(root, name)
            if not name.startswith(".") and (path.is_file() or path.is_symlink()):  # a link to nothing is a problem
                yield path


@cache
def _extensions() -> frozenset[str]:
    Image.init()
    readable = {extension for extension, kind in Image.EXTENSION.items() if kind in Image.OPEN}
    return frozenset(readable - {".mpg", ".mpeg"} | {".pdf"})


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _extensions() and not any(
        part.startswith(".") or part == "__MACOSX" for part in path.parts
    )


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".zip", *_TARS))


def _may_hold_images(path: Path) -> bool:
    return _is_picture(path.name) or _is_archive(path) or path.suffix.lower() in TABLES


def open_source(path: Path) -> Source:
    """A file that holds images, by its name; any that is neither an archive nor a table is an image or a PDF.

    Raises:
        ImageError: it cannot be opened, or holds no images.
    """
    lower = path.name.lower()
    try:
        if lower.endswith(".zip"):
            return _zip(path)
        if lower.endswith(_TARS):
            return _tar(path)
        if path.suffix.lower() in TABLES:
            from .tables import table_source

            return table_source(path)
        return _file(path, find_pages(path).total)
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ImageError(f"{path}: cannot be read ({error})") from error


def stamp(path: Path) -> str:
    """What changes when the file does."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def _file(path: Path, pages: int) -> Source:
    """An image, or a PDF; workers open it themselves."""
    single = path.suffix.lower() != ".pdf" and pages == 1
    mark = stamp(path)

    def read(wanted: Sequence[int]) -> Iterator[Item]:
        for index in wanted:
            name = str(path) if single else f"{path}#page={index + 1}"
            page = None if single else index + 1
            yield Item(name, str(path.parent), str(path), index, f"{name}|{mark}", path, page)

    return Source(str(path), pages, read)


def _zip(path: Path) -> Source:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir() and _is_picture(info.filename)]
    if not members:
        raise ImageError(f"{path}: no images in this archive")

    def read(wanted: Sequence[int]) -> Iterator[Item]:
        with zipfile.ZipFile(path) as archive:
            for index in wanted:
                info = members[index]
                key = f"{info.CRC}:{info.file_size}"
                try:
                    content = archive.read(info)
                except Exception as error:  # a damaged or locked member, in whatever way
                    yield _unreadable(path, index, info.filename, key, error)
                    continue
                yield _member(path, index, info.filename, key, content)

    return Source(str(path), len(members), read)


def _tar(path: Path) -> Source:
    """A TAR file; a compressed one can only be read from its beginning, which a pass over the wanted ones does."""
    with tarfile.open(path) as archive:
        count = sum(info.isfile() and _is_picture(info.name) for info in archive)
    if not count:
        raise ImageError(f"{path}: no images in this archive")

    def read(wanted: Sequence[int]) -> Iterator[Item]:
        chosen = set(wanted)
        with tarfile.open(path) as archive:
            index = -1
            for info in archive:
                if not (info.isfile() and _is_picture(info.name)):
                    continue
                index += 1
                if index in chosen:
                    key = f"{info.size}:{info.mtime}:{info.offset}"
                    file = archive.extractfile(info)
                    yield _member(path, index, info.name, key, b"" if file is None else file.read())

    return Source(str(path), count, read)


def _member(path: Path, index: int, member: str, key: str, content: bytes) -> Item:
    name = f"{path}#{member}"
    return Item(name, _group(path, member), str(path), index, f"{name}|{key}", content=content)


def _unreadable(path: Path, index: int, member: str, key: str, error: Exception) -> Item:
    name = f"{path}#{member}"
    reason = " ".join(str(error).split()) or type(error).__name__
    line = f"{name}: cannot be taken out of it ({reason})"
    return Item(name, _group(path, member), str(path), index, f"{name}|{key}", error=line)


def _group(path: Path, member: str) -> str:
    parent = str(PurePosixPath(member).parent)
    return str(path) if parent == "." else f"{path}#{parent}"


def _line(path: Path, error: PixelPruneError) -> str:
    message = " ".join(str(error).split())
    return message if message.startswith(str(path)) else f"{path}: {message}"
