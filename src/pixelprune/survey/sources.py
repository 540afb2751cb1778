"""Find the images in what people have: folders, globs, documents, ZIP and TAR archives, Parquet and Arrow tables.

Everything is a :class:`~pixelprune.survey.items.Source` that first says how many items it has, cheaply, and then reads
the wanted ones in order, so that a sample costs a sample and nothing is ever in memory as a whole.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.frames import is_picture
from ..core.images import find_pages
from ..errors import ConfigError, ImageError, PixelPruneError
from .archives import TARS, tar_source, zip_source
from .items import Item, Source, first_line, stamp
from .records import Problem, Settings
from .tables import TABLES, table_source


@dataclass(frozen=True)
class Found:
    """All sources, what could not be opened, and how many files were passed over."""

    sources: list[Source]
    problems: list[Problem]
    skipped: int


def find(inputs: Sequence[str], settings: Settings) -> Found:
    """Everything in the inputs.

    Args:
        inputs: files, folders (with all folders in them), or globs (``**`` for any folders). In folders and globs,
            files that are no images by their names are passed over; hidden ones, too.
        settings: the resolution of PDFs, and what a file may cost.

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
            source = open_source(path, surveyed_folder(path, inputs), settings)
            problems += source.problems
            sources.append(source)
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


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".zip", *TARS))


def _may_hold_images(path: Path) -> bool:
    return is_picture(path.name) or _is_archive(path) or path.suffix.lower() in TABLES


def surveyed_folder(path: Path, inputs: Sequence[str]) -> Path:
    """The folder that was named, of those that hold a file, or its own where the file itself was named."""
    folders = (Path(text).expanduser() for text in inputs)
    return next((folder for folder in folders if folder in path.parents and folder.is_dir()), path.parent)


def open_source(path: Path, folder: Path, settings: Settings) -> Source:
    """A file that holds images, by its name; any that is neither an archive nor a table is an image or a document.

    Args:
        path: of the file.
        folder: the images that a table names must be in it.
        settings: the resolution of PDFs, and what a file may cost.

    Raises:
        ImageError: it cannot be opened, or holds no images.
    """
    lower = path.name.lower()
    try:
        if lower.endswith(".zip"):
            return zip_source(path, is_picture, settings.limits)
        if lower.endswith(TARS):
            return tar_source(path, is_picture, settings.limits)
        if path.suffix.lower() in TABLES:
            return table_source(path, folder, settings.limits)
        return _file(path, settings)
    except PixelPruneError:
        raise
    except Exception as error:  # a broken archive, however its library says so
        raise ImageError(f"{path}: cannot be read ({first_line(error)})") from error


def _file(path: Path, settings: Settings) -> Source:
    """An image, or a document; workers open it themselves."""
    pages = find_pages(path, settings.dpi, limits=settings.limits)
    mark = stamp(path)

    def read(wanted: Sequence[int]) -> Iterator[Item]:
        for index in wanted:
            name = f"{path}#page={index + 1}" if pages.numbered else str(path)
            page = index + 1 if pages.numbered else None
            yield Item(name, str(path.parent), str(path), index, f"{name}|{mark}", path, page)

    problems = () if pages.refused is None else (Problem(str(path), pages.refused),)
    return Source(str(path), pages.allowed, read, problems)


def _line(path: Path, error: PixelPruneError) -> str:
    message = " ".join(str(error).split())
    return message if message.startswith(str(path)) else f"{path}: {message}"
