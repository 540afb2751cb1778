"""The pages of a PDF, rendered by PDFium, which must never run in two threads at once."""

from __future__ import annotations

import traceback
from pathlib import Path
from threading import RLock
from typing import Any

from PIL import Image

from ..errors import ImageError, install_hint
from .limits import Limits

#: Points, the unit of a PDF page's size, per inch.
POINTS_PER_INCH = 72

#: Held around every call into PDFium, which keeps state for the whole process. What PDFium made is closed under it too,
#: and never left to the garbage collector, which may run in any thread.
_LOCK = RLock()


class PdfFile:
    """An open PDF. Safe to use from several threads; close it.

    Args:
        file: its path, or its content.
        name: what errors call it.
        dpi: pixels per inch at which pages are rendered.
        limits: for the pixels of a page.

    Attributes:
        count: pages, at least one.

    Raises:
        ImageError: it cannot be opened, or pypdfium2 is missing.
    """

    #: Pages are named by their number even where there is only one.
    numbered = True

    def __init__(self, file: Path | bytes, name: str, dpi: float, limits: Limits) -> None:
        self._name, self._dpi, self._limits = name, dpi, limits
        with _LOCK:
            self._document = _open(file, name)
            try:
                self._document.init_forms()  # without it the values filled into a form stay invisible
                self.count = len(self._document)
                if self.count == 0:
                    raise ImageError(f"{name}: the PDF has no pages")
            except BaseException:
                self._document.close()
                raise

    def pixels(self, index: int) -> int:
        """Pixels of a page, from 0, at the chosen resolution; 0 if PDFium cannot say."""
        with _LOCK:
            try:
                width, height = self._document.get_page_size(index)
            except Exception:  # the page is damaged, which reading it tells
                return 0
        return int(width * height * (self._dpi / POINTS_PER_INCH) ** 2)

    def read(self, index: int, label: str) -> Image.Image:
        """Render a page, from 0.

        Raises:
            ImageError: it has too many pixels, or cannot be rendered; one line that begins with ``label``.
        """
        with _LOCK:
            page = bitmap = None
            try:
                page = self._document[index]
                self._check(page.get_size(), label)
                bitmap = page.render(scale=self._dpi / POINTS_PER_INCH)
                image: Image.Image = bitmap.to_pil()  # a copy, or a view of memory that is Python's own
                return image
            except ImageError:
                raise
            except Exception as error:
                traceback.clear_frames(error.__traceback__)  # which may hold a bitmap: it ends here, under the lock
                raise ImageError(f"{label}: the page cannot be rendered ({error})") from error
            finally:
                for made in (bitmap, page):
                    if made is not None:
                        made.close()

    def close(self) -> None:
        """Release it."""
        with _LOCK:
            self._document.close()

    def _check(self, size: tuple[float, float], label: str) -> None:
        width, height = (side * self._dpi / POINTS_PER_INCH for side in size)
        limit = _pixel_limit(self._limits)
        if not width * height <= limit:
            raise ImageError(
                f"{label}: {width:.0f} x {height:.0f} pixels at {self._dpi:g} dpi are more than the limit of {limit}; "
                f"lower the dpi"
            )


def _pixel_limit(limits: Limits) -> int:
    """Most pixels of a page: Pillow's own limit holds too."""
    return min(limits.page_pixels, 2 * Image.MAX_IMAGE_PIXELS) if Image.MAX_IMAGE_PIXELS else limits.page_pixels


def _open(file: Path | bytes, name: str) -> Any:
    try:
        import pypdfium2
    except ImportError as error:
        raise ImageError(f"{name}: reading a PDF needs pypdfium2: {install_hint('cli')}") from error
    try:
        return pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        reason = str(error)
        if "password" in reason.lower():
            raise ImageError(f"{name}: the PDF is locked with a password; save it without one") from error
        if "security" in reason.lower():
            raise ImageError(
                f"{name}: the PDF is protected in a way that PDFium does not know; save it without"
            ) from error
        raise ImageError(f"{name}: the PDF is damaged or cut off ({reason})") from error
