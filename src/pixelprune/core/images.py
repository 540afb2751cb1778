"""Read any image people have, as the 8-bit RGB picture that a person would see.

Transparent pixels lie on white, EXIF rotation is applied, 16-bit gray is scaled, of an animation the first frame
counts. Everything else is Pillow's own decoding, so a JPEG keeps exactly the pixels that it decodes to.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ConfigError, ImageError

#: Points, the unit of a PDF page's size, per inch.
POINTS_PER_INCH = 72


def open_images(
    path: str | PathLike[str], dpi: float = 150, *, page: int | None = None
) -> Iterator[tuple[str, Image.Image]]:
    """Read an image file, or render the pages of a PDF one after the other.

    Args:
        path: an image in any format that Pillow reads, or a PDF (which needs ``pixelprune[cli]``).
        dpi: pixels per inch at which PDF pages are rendered. Images ignore it.
        page: of a PDF, this page alone, from 1. Images ignore it.

    Yields:
        The name, ``path`` or ``path#page=N`` (from 1) for a PDF, and the 8-bit RGB image.

    Raises:
        ImageError: the file cannot be read; one line that begins with its name.
        ConfigError: ``dpi`` is not a positive number.
    """
    _check_dpi(dpi)
    path = Path(path)
    if _is_pdf(path):
        yield from _pdf_pages(path, str(path), dpi, page)
    else:
        yield str(path), _read(path, str(path))


def open_bytes(content: bytes, name: str, dpi: float = 150) -> Iterator[tuple[str, Image.Image]]:
    """The same from a file's content, as archives hold it.

    Args:
        content: of an image file or a PDF.
        name: what to call it, in what is yielded and in errors.
        dpi: as for :func:`open_images`, as is what is yielded and raised.
    """
    _check_dpi(dpi)
    if not content:
        raise ImageError(f"{name}: the file is empty")
    if _looks_like_pdf(content[:_START]):
        yield from _pdf_pages(content, name, dpi)
    else:
        yield name, _read(BytesIO(content), name)


def count_pages(path: str | PathLike[str]) -> int:
    """Pages of a PDF; 1 for any other file.

    Raises:
        ImageError: as for :func:`open_images`.
    """
    path = Path(path)
    if not _is_pdf(path):
        return 1
    document = _open_pdf(path, str(path))
    try:
        return len(document)
    finally:
        document.close()


def open_image(path: str | PathLike[str], dpi: float = 150) -> Image.Image:
    """Read the one image in a file: like :func:`open_images`, and an error for a PDF of several pages.

    Returns:
        The 8-bit RGB image.

    Raises:
        ImageError, ConfigError: as for :func:`open_images`.
    """
    pages = open_images(path, dpi)
    _, image = next(pages)
    if next(pages, None) is not None:
        raise ImageError(f"{path}: a PDF of several pages where one image is wanted; take its pages with open_images")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as a person sees it: 8-bit RGB, transparent parts on white.

    Raises:
        ImageError: 32-bit values outside the ranges that have a meaning without further knowledge, 0..65535 for
            whole numbers and 0..1 for fractions.
    """
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_dpi(dpi: float) -> None:
    if isinstance(dpi, bool) or not isinstance(dpi, (int, float)) or not 0 < dpi < float("inf"):
        raise ConfigError(f"dpi must be a positive number; got {dpi!r}")


#: Bytes at the start of a file in which the mark of a PDF must be.
_START = 1024


def _looks_like_pdf(start: bytes) -> bool:
    return b"%PDF-" in start


def _is_pdf(path: Path) -> bool:
    """Look at the start of the file. Says in one line what keeps it from being read, before any decoder does."""
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
    return _looks_like_pdf(start)


def _read(file: Path | BytesIO, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns from half of its hard limit on. The limit itself stays: decoding raises above it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                image.load()
                return to_rgb(_upright(image))
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {str(error).split(',')[0]}; scale the image down first") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image, or in a format that Pillow cannot read") from error
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode the image; scale it down first") from error
    except Exception as error:  # on broken files decoders raise whatever they stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: the image is damaged or cut off ({reason})") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing about rotation, and the pixels are sound
        return image


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


def _open_pdf(file: Path | bytes, name: str) -> Any:
    try:
        import pypdfium2
    except ImportError as error:
        raise ImageError(f'{name}: reading a PDF needs pypdfium2: pip install "pixelprune[cli]"') from error
    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise ImageError(f"{name}: the PDF is locked with a password; save it without one") from error
        raise ImageError(f"{name}: the PDF is damaged or cut off ({error})") from error
    if len(document) == 0:
        document.close()
        raise ImageError(f"{name}: the PDF has no pages")
    return document


def _pdf_pages(file: Path | bytes, name: str, dpi: float, page: int | None = None) -> Iterator[tuple[str, Image.Image]]:
    document = _open_pdf(file, name)
    try:
        document.init_forms()  # without it the values filled into a form stay invisible
        if page is not None and not 1 <= page <= len(document):
            raise ImageError(f"{name}: there is no page {page}; the PDF has {len(document)}")
        for number in range(1, len(document) + 1) if page is None else (page,):
            label = f"{name}#page={number}"
            yield label, _render(document, number - 1, dpi, label)
    finally:
        document.close()


def _render(document: Any, index: int, dpi: float, name: str) -> Image.Image:
    scale = dpi / POINTS_PER_INCH
    limit = 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else float("inf")
    try:
        page = document[index]
        width, height = (side * scale for side in page.get_size())
        if width * height > limit:
            raise ImageError(
                f"{name}: {width:.0f} x {height:.0f} pixels at {dpi:g} dpi are more than Pillow's limit of {limit}; "
                f"lower the dpi"
            )
        image: Image.Image = page.render(scale=scale).to_pil()
        return to_rgb(image)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name}: the page cannot be rendered ({error})") from error
