"""The pictures in an image file, decoded by Pillow: one, or the pages of formats that have pages."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError
from .limits import Limits

#: Formats whose frames are pages of one document. Elsewhere they are moments of an animation, layers, or sizes.
PAGED = ("TIFF", "DCX")
#: What files of these begin with: TIFF (as Pillow accepts it), and DCX.
PAGED_STARTS = (b"II*\0", b"II\0*", b"MM\0*", b"MM*\0", b"II+\0", b"MM\0+", b"\xb1\x68\xde\x3a")

# Tags of TIFF, and their values: NewSubfileType has bits for previews and masks, SubfileType a number for previews.
_NEW_SUBFILE, _SUBFILE = 254, 255
_PREVIEW_OR_MASK, _PREVIEW = 0b101, 2

#: What decoders say of a file that is as its writer wanted it, and that they cannot decode.
_NOT_SUPPORTED = re.compile(
    r"not (?:yet )?(?:supported|available|implemented)|unsupported|unknown (?:pixel|raw|data|compression)",
    re.IGNORECASE,
)


class ImageFile:
    """An open image file; close it.

    Args:
        file: its path, or its content.
        name: what errors call it.
        limits: for formats, pixels of a page, and pages.

    Attributes:
        count: pages, at least one; of more than ``limits.pages``, some number above that.

    Raises:
        ImageError: it cannot be opened.
    """

    def __init__(self, file: Path | bytes, name: str, limits: Limits) -> None:
        self._limits = limits
        with _reading(name, limits):
            self._image = Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=limits.pillow_formats)
        try:
            with _reading(name, limits):
                self._frames = _page_frames(self._image, 2 * limits.pages)
        except BaseException:
            self.close()
            raise
        self.count = len(self._frames)

    @property
    def numbered(self) -> bool:
        """Pages are named by their number where there are several."""
        return self.count > 1

    def pixels(self, index: int) -> int:
        """Pixels of a page, from 0; 0 if its header cannot be read."""
        return self._frames[index][1]

    def read(self, index: int, label: str) -> Image.Image:
        """Decode a page, from 0, with EXIF rotation applied, in any mode of Pillow's.

        Raises:
            ImageError: it has too many pixels, or cannot be decoded; one line that begins with ``label``.
        """
        image = self._image
        with _reading(label, self._limits):
            if image.format in PAGED:
                image.seek(self._frames[index][0])
            self._check(image, label)
            image.load()
            self._check(image, label)  # formats that hold other formats learn the size late
            return upright(image)

    def close(self) -> None:
        """Release it."""
        self._image.close()

    def _check(self, image: Image.Image, label: str) -> None:
        pixels, limit = image.width * image.height, self._limits.page_pixels
        if pixels > limit:
            raise ImageError(
                f"{label}: Image size ({pixels} pixels) exceeds limit of {limit} pixels; scale the image down first"
            )


def upright(image: Image.Image) -> Image.Image:
    """A copy with EXIF rotation applied."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing about rotation, and the pixels are sound
        return image.copy()


def _page_frames(image: Image.Image, most: int) -> list[tuple[int, int]]:
    """Numbers and pixels of the frames that are pages, without previews and masks; at most ``most`` frames are seen."""
    if image.format not in PAGED:
        return [(0, image.width * image.height)]
    pages: list[tuple[int, int]] = []
    for frame in range(most):
        pixels = 0
        try:
            image.seek(frame)
            pixels = image.width * image.height
        except EOFError:
            break
        except Exception:  # a page that cannot be decoded is a page: reading it says why
            if image.tell() != frame:
                pages.append((frame, 0))
                break  # nor can those behind it be found
        if _is_page(image):
            pages.append((frame, pixels))
    return pages or [(0, image.width * image.height)]


def _is_page(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    new, old = tags.get(_NEW_SUBFILE, 0), tags.get(_SUBFILE, 0)
    return not (isinstance(new, int) and new & _PREVIEW_OR_MASK) and old != _PREVIEW


@contextmanager
def _reading(name: str, limits: Limits) -> Iterator[None]:
    """Whatever goes wrong becomes one line that begins with the name, and tells damage from what is only unknown."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, and from half of its hard limit on; above the limit it raises.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {str(error).split(',')[0]}; scale the image down first") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not an image, or in a format that is not read; formats are {', '.join(limits.formats)}"
        ) from error
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode the image; scale it down first") from error
    except Exception as error:  # on broken files decoders raise whatever they stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"{name}: cannot be read ({error.strerror or reason})") from error
        if isinstance(error, (KeyError, NotImplementedError)) or _NOT_SUPPORTED.search(reason):
            raise ImageError(
                f"{name}: Pillow cannot decode this kind of image ({reason}); save it as PNG or 8-bit TIFF"
            ) from error
        raise ImageError(f"{name}: the image is damaged or cut off ({reason})") from error
