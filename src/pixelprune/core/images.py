"""Read any image people have, as the 8-bit RGB picture that a person would see.

Transparent pixels lie on white, EXIF rotation is applied, 16-bit gray is scaled. PDF, TIFF and DCX files have pages; of
an animation the first frame counts. Everything else is Pillow's own decoding, so a JPEG keeps exactly the pixels that
it decodes to.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ConfigError, ImageError
from .limits import DEFAULT_LIMITS, Limits
from .pdf import PdfFile
from .raster import PAGED_STARTS, ImageFile, upright

#: Takes the name of a page that cannot be read, and why.
Refuse = Callable[[str, ImageError], None]


def open_images(
    path: str | PathLike[str],
    dpi: float = 150,
    *,
    pages: Sequence[int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    refuse: Refuse | None = None,
) -> Iterator[tuple[str, Image.Image]]:
    """Read an image file, or the pages of a document one after the other: a PDF (which needs ``pixelprune[cli]``), a
    TIFF or DCX file. One page at a time is in memory. Previews and masks in a TIFF file are no pages.

    Args:
        path: of the file, in any of the formats of ``limits``.
        dpi: pixels per inch at which PDF pages are rendered. Images ignore it.
        pages: these pages alone, from 1.
        limits: what the file may cost.
        refuse: called for a page that cannot be read, or is more than the limits allow; the others follow. Without it
            such a page raises, and is the last.

    Yields:
        The name, ``path``, or ``path#page=N`` (from 1) for a PDF and where there are several pages; and the 8-bit RGB
        image.

    Raises:
        ImageError: the file cannot be read; one line that begins with its name.
        ConfigError: ``dpi`` is not a positive number.
    """
    _check_dpi(dpi)
    path = Path(path)
    yield from _read_pages(path, _start_of(path), str(path), dpi, pages, limits, refuse)


def open_bytes(
    content: bytes, name: str, dpi: float = 150, *, limits: Limits = DEFAULT_LIMITS, refuse: Refuse | None = None
) -> Iterator[tuple[str, Image.Image]]:
    """The same from a file's content, as archives hold it.

    Args:
        content: of an image file or a PDF.
        name: what to call it, in what is yielded and in errors.
        dpi, limits, refuse: as for :func:`open_images`, as is what is yielded and raised.
    """
    _check_dpi(dpi)
    if not content:
        raise ImageError(f"{name}: the file is empty")
    yield from _read_pages(content, content[:_START], name, dpi, None, limits, refuse)


@dataclass(frozen=True)
class Pages:
    """What :func:`find_pages` found.

    Attributes:
        total: pages of the file; where there are more than may be read, at least one more than that.
        allowed: the first ones, which may be read.
        numbered: whether their names end in ``#page=N``.
        refused: why the rest is left out, in one line that begins with the file's name; ``None`` if nothing is.
    """

    total: int
    allowed: int
    numbered: bool
    refused: str | None = None


def find_pages(path: str | PathLike[str], dpi: float = 150, *, limits: Limits = DEFAULT_LIMITS) -> Pages:
    """Count a file's pages, and those that :func:`open_images` would read of it, without decoding any.

    Raises:
        ImageError, ConfigError: as for :func:`open_images`.
    """
    _check_dpi(dpi)
    path = Path(path)
    start = _start_of(path)
    if not _is_pdf(start) and not start.startswith(PAGED_STARTS):
        return Pages(1, 1, numbered=False)
    document = _open(path, start, str(path), dpi, limits)
    try:
        budget = _Budget(str(path), limits)
        for index in range(document.count):
            if refused := budget.take(document, index):
                return Pages(document.count, index, document.numbered, refused)
        return Pages(document.count, document.count, document.numbered)
    finally:
        document.close()


def open_image(path: str | PathLike[str], dpi: float = 150, *, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Read the one image in a file: like :func:`open_images`, and an error for a file of several pages.

    Returns:
        The 8-bit RGB image.

    Raises:
        ImageError, ConfigError: as for :func:`open_images`.
    """
    _check_dpi(dpi)
    path = Path(path)
    document = _open(path, _start_of(path), str(path), dpi, limits)
    try:
        if document.count > 1:
            raise ImageError(f"{path}: several pages where one image is wanted; take its pages with open_images")
        return _read(document, 0, f"{path}#page=1" if document.numbered else str(path))
    finally:
        document.close()


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as a person sees it: 8-bit RGB, EXIF rotation applied, transparent parts on white.

    Raises:
        ImageError: 32-bit values outside the ranges that have a meaning without further knowledge, 0..65535 for
            whole numbers and 0..1 for fractions; or a mode that Pillow cannot convert.
        OSError: it was not decoded yet, and cannot be.
    """
    image.load()
    return _convert(upright(image))


def _convert(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    try:
        if image.mode == "La":  # for which Pillow has this conversion alone
            image = image.convert("LA")
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            image = Image.new("RGB", rgba.size, "white")
            image.paste(rgba, mask=rgba.getchannel("A"))
        return image if image.mode == "RGB" else image.convert("RGB")
    except (ValueError, OSError, ImportError) as error:
        raise ImageError(
            f"Pillow cannot convert pixels of its mode {mode} to RGB ({error}); save the image as RGB first"
        ) from error


def _read_pages(
    file: Path | bytes,
    start: bytes,
    name: str,
    dpi: float,
    pages: Sequence[int] | None,
    limits: Limits,
    refuse: Refuse | None,
) -> Iterator[tuple[str, Image.Image]]:
    document = _open(file, start, name, dpi, limits)
    try:
        budget = _Budget(name, limits)
        for number in range(1, document.count + 1) if pages is None else pages:
            label = f"{name}#page={number}" if document.numbered else name
            try:
                if not 1 <= number <= document.count:
                    raise ImageError(f"{name}: there is no page {number}; the file has {document.count}")
                # A page that is asked for was counted before, by find_pages.
                if pages is None and (refused := budget.take(document, number - 1)):
                    raise _OverBudget(refused)
                image = _read(document, number - 1, label)
            except ImageError as error:
                if refuse is None:
                    raise
                over = isinstance(error, _OverBudget)
                refuse(name if over else label, error)
                if over:
                    return
                continue
            yield label, image
            del image
    finally:
        document.close()


class _OverBudget(ImageError):
    """The rest of a document's pages are more than may be read."""


class _Budget:
    """What is left of a document's limits."""

    def __init__(self, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._pixels = 0

    def take(self, document: PdfFile | ImageFile, index: int) -> str | None:
        """Take a page, from 0; or why it and those after it may not be read."""
        limits = self._limits
        pixels = document.pixels(index)
        if pixels <= limits.page_pixels:  # otherwise it is refused by itself, and costs nothing
            self._pixels += pixels
        if index >= limits.pages:
            return f"{self._name}: has more than {limits.pages} pages; those after them are left out"
        if self._pixels > limits.document_pixels and document.count > 1:
            return (
                f"{self._name}: from page {index + 1} on its pages have more than {limits.document_pixels} pixels in "
                f"all; they are left out"
            )
        return None


def _open(file: Path | bytes, start: bytes, name: str, dpi: float, limits: Limits) -> PdfFile | ImageFile:
    if not _is_pdf(start):
        return ImageFile(file, name, limits)
    if "PDF" not in limits.formats:
        raise ImageError(f"{name}: a PDF, which is not read here; formats are {', '.join(limits.formats)}")
    return PdfFile(file, name, dpi, limits)


def _read(document: PdfFile | ImageFile, index: int, label: str) -> Image.Image:
    image = document.read(index, label)
    try:
        return _convert(image)
    except ImageError as error:
        raise ImageError(f"{label}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{label}: not enough memory to decode the image; scale it down first") from error


def _check_dpi(dpi: float) -> None:
    if isinstance(dpi, bool) or not isinstance(dpi, (int, float)) or not 0 < dpi < float("inf"):
        raise ConfigError(f"dpi must be a positive number; got {dpi!r}")


#: Bytes at the start of a file in which the mark of a PDF must be.
_START = 1024


def _is_pdf(start: bytes) -> bool:
    return b"%PDF-" in start


def _start_of(path: Path) -> bytes:
    """The first bytes of a file. Says in one line what keeps it from being read, before any decoder does."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                start = file.read(_START)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise ImageError(f"{path}: {reason}") from error
    except ValueError as error:  # a zero byte in the name
        raise ImageError(f"{str(path)!r}: {error}") from error
    if stat.S_ISDIR(mode):
        raise ImageError(f"{path}: a directory, not an image; name the files in it")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path}: not a regular file")
    if not start:
        raise ImageError(f"{path}: the file is empty")
    return start


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Gray with more than 8 bits, scaled to L (or LA, where one level is declared transparent)."""
    values: NDArray[Any] = np.asarray(image)
    fractions = image.mode.startswith("F")
    top = 1.0 if fractions else 65535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):  # written so that NaN fails too
        raise ImageError(
            f"32-bit gray with values from {low} to {high}, and only 0 to {top:g} can be scaled to 8 bit without "
            f"guessing; convert it to 8 or 16 bit first"
        )
    scaled = np.multiply(values, 255 / top, dtype=np.float32)
    gray = Image.fromarray(np.rint(scaled, out=scaled).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return gray
