"""Images in ZIP and TAR archives, read in pieces, so that no member is ever unpacked beyond its limit."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.limits import Limits
from ..errors import ImageError
from .items import Item, Source, first_line
from .records import Problem

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

#: Bytes that are unpacked at a time. Of bzip2 and LZMA, Python unpacks whatever so many packed bytes hold, which for 4
#: KiB is some tens of MB at most.
_PIECE = 1 << 18
_PIECE_OF_OTHERS = 4 << 10
#: Bytes of a ZIP's list of members, for each member that is allowed: 46, and a name.
_LISTED = 128
#: Bytes that a TAR's headers between two members may take: long names and attributes, never files.
_HEADERS = 1 << 20

#: Whether a member is an image, by its name.
Wanted = Callable[[str], bool]


def zip_source(path: Path, wanted: Wanted, limits: Limits) -> Source:
    """The images of a ZIP file.

    Raises:
        ImageError: there are none, or its list of members is too long.
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    with _zip(path, limits) as archive:
        infos = archive.infolist()
    members = [info for info in infos[: limits.members] if not info.is_dir() and wanted(info.filename)]
    problems = _too_many(path, len(infos) > limits.members, limits)
    if not members and not problems:
        raise ImageError(f"{path}: no images in this archive")

    def read(indices: Sequence[int]) -> Iterator[Item]:
        with _zip(path, limits) as archive:
            for index in indices:
                info = members[index]
                key = f"{info.CRC}:{info.file_size}"
                try:
                    _check_size(info.compress_size, limits.packed_bytes, "packed")
                    _check_size(info.file_size, limits.member_bytes, "unpacked")
                    plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                    with archive.open(info) as file:
                        content = _content(file, limits, _PIECE if plain else _PIECE_OF_OTHERS)
                except Exception as error:  # a damaged, locked or oversized member, in whatever way
                    yield _refused(path, index, info.filename, key, error)
                    continue
                yield _member(path, index, info.filename, key, content)

    return Source(str(path), len(members), read, problems)


def tar_source(path: Path, wanted: Wanted, limits: Limits) -> Source:
    """The images of a TAR file; a compressed one can only be read from its beginning, which a pass over them does.

    Raises:
        ImageError: there are none, or its headers are too long.
        OSError, EOFError, tarfile.TarError: it cannot be read.
    """
    count, more = 0, False
    with _tar(path) as (archive, stream):
        for number, info in enumerate(archive):
            if more := number == limits.members:
                break
            count += info.isfile() and wanted(info.name)
            stream.left = _HEADERS
    problems = _too_many(path, more, limits)
    if not count and not problems:
        raise ImageError(f"{path}: no images in this archive")

    def read(indices: Sequence[int]) -> Iterator[Item]:
        chosen = set(indices)
        last, index = max(chosen, default=-1), -1
        with _tar(path) as (archive, stream):
            for info in archive:
                if index == last:
                    return
                stream.left = _HEADERS
                if not (info.isfile() and wanted(info.name)):
                    continue
                index += 1
                if index in chosen:
                    key = f"{info.size}:{info.mtime}:{info.offset}"
                    try:
                        _check_size(info.size, limits.member_bytes, "unpacked")
                        file = archive.extractfile(info)
                        content = b"" if file is None else _content(file, limits, _PIECE, stream)
                    except ImageError as error:
                        yield _refused(path, index, info.name, key, error)
                        continue
                    yield _member(path, index, info.name, key, content)

    return Source(str(path), count, read, problems)


def _too_many(path: Path, more: bool, limits: Limits) -> tuple[Problem, ...]:
    if not more:
        return ()
    line = f"{path}: has more than {limits.members} members; those after them are left out"
    return (Problem(str(path), line),)


class _Metered:
    """A file that gives out ``left`` bytes, however much its reader asks for, and then raises."""

    def __init__(self, file: Any, left: int, what: str) -> None:
        self._file, self.left, self._what = file, left, what
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """So many bytes; all that there are if negative.

        Raises:
            ImageError: they are more than are left.
        """
        content: bytes = b""
        if size <= self.left:
            content = self._file.read(self.left + 1 if size < 0 else size)
        if max(size, len(content)) > self.left:
            raise ImageError(f"{self._what}; unpack it, and survey the folder")
        self.left -= len(content)
        return content

    def seekable(self) -> bool:
        """As archives are."""
        return True


@contextmanager
def _zip(path: Path, limits: Limits) -> Iterator[zipfile.ZipFile]:
    with path.open("rb") as raw:
        # The list of members is read at once: it must not be longer than so many members need.
        room = (1 << 20) + _LISTED * limits.members
        file: Any = _Metered(raw, room, f"{path}: its list of members is longer than {room} bytes")
        with zipfile.ZipFile(file) as archive:
            file.left = sys.maxsize - 1  # members are read in pieces
            yield archive


@contextmanager
def _tar(path: Path) -> Iterator[tuple[tarfile.TarFile, _Metered]]:
    """An archive, and what it reads from, whose meter is set back after each member."""
    with path.open("rb") as raw:
        start = raw.read(8)
    with _unpacked(path, start) as file:
        stream: Any = _Metered(file, _HEADERS, f"{path}: between its members are more than {_HEADERS} bytes of headers")
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            yield archive, stream


def _unpacked(path: Path, start: bytes) -> Any:
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(path)
    if start.startswith(b"BZh"):
        return bz2.open(path)
    if start.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lzma.open(path)
    if start.startswith(b"(\xb5/\xfd"):
        try:
            return importlib.import_module("compression.zstd").open(path)
        except ImportError as error:
            raise ImageError(f"{path}: Zstandard needs Python 3.14; unpack it first") from error
    return path.open("rb")


def _content(file: Any, limits: Limits, piece: int, stream: _Metered | None = None) -> bytes:
    """What a member holds.

    Raises:
        ImageError: it is more than may be.
    """
    content = io.BytesIO()
    while part := file.read(piece):
        _check_size(content.write(part) and content.tell(), limits.member_bytes, "unpacked")
        if stream is not None:
            stream.left = _HEADERS
    return content.getvalue()


def _check_size(size: int, limit: int, how: str) -> None:
    if size > limit:
        raise ImageError(f"{size} bytes {how} are more than the limit of {limit}")


def _member(path: Path, index: int, member: str, key: str, content: bytes) -> Item:
    name = f"{path}#{member}"
    return Item(name, _group(path, member), str(path), index, f"{name}|{key}", content=content)


def _refused(path: Path, index: int, member: str, key: str, error: Exception) -> Item:
    name = f"{path}#{member}"
    reason = first_line(error)
    line = f"{name}: {reason}" if isinstance(error, ImageError) else f"{name}: cannot be unpacked ({reason})"
    return Item(name, _group(path, member), str(path), index, f"{name}|{key}", error=line)


def _group(path: Path, member: str) -> str:
    parent = str(PurePosixPath(member).parent)
    return str(path) if parent == "." else f"{path}#{parent}"
