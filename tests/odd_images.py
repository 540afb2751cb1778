"""Odd files that people have, made from scratch: small PDFs, broken and oversized images."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def pdf(pages: int = 1, size: tuple[int, int] = (72, 144), field: bool = False, locked: bool = False) -> bytes:
    """A PDF of blank pages, the first with a black box from (18, 18) to (36, 54) points, from the bottom left.

    Args:
        pages: how many.
        size: width and height of each in points.
        field: the box is not drawn on the page but is the look of a form field.
        locked: an encryption dictionary that no password opens.
    """
    box = b"0 0 0 rg 0 0 18 36 re f"
    drawn = b"q 1 0 0 1 18 18 cm " + box + b" Q"
    kids = b" ".join(b"%d 0 R" % (10 + page) for page in range(pages))
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R" + (b"/AcroForm<</Fields[5 0 R]>>" if field else b"") + b">>",
        2: b"<</Type/Pages/Kids[" + kids + b"]/Count %d/MediaBox[0 0 %d %d]>>" % (pages, *size),
        3: b"<</Length %d>>stream\n%s\nendstream" % (len(drawn), drawn),
        4: b"<</Type/XObject/Subtype/Form/BBox[0 0 18 36]/Length %d>>stream\n%s\nendstream" % (len(box), box),
        5: b"<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/F 4/Rect[18 18 36 54]/AP<</N 4 0 R>>>>",
    }
    for page in range(pages):
        content = b"" if page else b"/Annots[5 0 R]" if field else b"/Contents 3 0 R"
        objects[10 + page] = b"<</Type/Page/Parent 2 0 R" + content + b">>"
    trailer = b"<</Root 1 0 R/Size 99"
    if locked:
        trailer += (
            b"/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<" + b"5a" * 32 + b">/U<" + b"a5" * 32 + b">>>"
        )
    # Without a table of offsets: readers rebuild it.
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % item for item in objects.items())
    return b"%PDF-1.4\n" + body + b"trailer\n" + trailer + b">>\n%%EOF\n"


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size in its header and holds hardly any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def dcx(images: list[Image.Image]) -> bytes:
    """A DCX file: a table of offsets, then a PCX file for each page."""
    parts = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "PCX")
        parts.append(file.getvalue())
    start = 4 + 4 * (len(parts) + 1)
    offsets = [start + sum(map(len, parts[:number])) for number in range(len(parts))]
    return struct.pack(f"<{len(parts) + 2}I", 0x3ADE68B1, *offsets, 0) + b"".join(parts)


class Refused(dict[str, str]):
    """Takes what a reader of pages refuses: lines by names."""

    def __call__(self, name: str, error: Exception) -> None:
        self[name] = str(error)

    @property
    def line(self) -> str:
        """The only one."""
        (line,) = self.values()
        return line
