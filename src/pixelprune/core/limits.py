"""What a file from a stranger may cost: one object, made where files enter and passed down to whatever reads them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec

from PIL import Image

from ..errors import ConfigError

#: Pillow's names of the formats that pages and screens come in, and PDF. Those that other programs decode are not among
#: them (EPS and PS: Ghostscript), nor those that hardly anybody has: each is a decoder more that a file can attack.
FORMATS = (
    # What Pillow always has loaded comes first, so that the other plugins are only loaded for other files.
    *("PNG", "JPEG", "GIF", "BMP", "PPM"),
    *("AVIF", "DCX", "DIB", "ICNS", "ICO", "JPEG2000", "PCX", "PSD", "QOI", "SGI", "TGA", "TIFF", "WEBP", "XBM"),
    "PDF",
)


@dataclass(frozen=True)
class Limits:
    """Bounds for files that may be hostile. What exceeds one is refused by name, and the rest is read.

    Args:
        formats: names of formats as Pillow has them, and ``PDF``. Only these decoders see the file.
        page_pixels: width times height of an image or a page. Pillow's own limit, twice ``Image.MAX_IMAGE_PIXELS``,
            stays in force. An RGB page takes three bytes a pixel.
        document_pixels: of all pages of a file together.
        pages: of a PDF or a TIFF file.
        packed_bytes: of an archive's member as it lies in the archive.
        member_bytes: of an archive's member after decompression, and of an image in a table.
        members: entries of an archive, images or not.

    Raises:
        ConfigError: a value is not allowed.
    """

    formats: tuple[str, ...] = FORMATS
    page_pixels: int = 178_956_970
    document_pixels: int = 25_000_000_000
    pages: int = 10_000
    packed_bytes: int = 256 << 20
    member_bytes: int = 256 << 20
    members: int = 200_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", tuple(self.formats))
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            Image.init()
            unknown = [name for name in unknown if name not in Image.OPEN]
        if unknown or not self.formats:
            raise ConfigError(f"formats must be names of formats that Pillow reads, or PDF; got {unknown or '()'}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "formats" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{field.name} must be a whole number of at least 1; got {value!r}")

    @property
    def pillow_formats(self) -> tuple[str, ...]:
        """The formats that are Pillow's, without those that this version of it does not know."""
        known = find_spec("PIL.AvifImagePlugin") is not None  # the youngest of them, from Pillow 11.3
        return tuple(name for name in self.formats if name != "PDF" and (known or name != "AVIF"))


#: For callers that have no reason to choose.
DEFAULT_LIMITS = Limits()
