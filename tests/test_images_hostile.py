"""Files from strangers: only the decoders that are allowed see them, and PDFium is never in two threads at once."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import numpy as np
import pypdfium2
import pytest
from odd_images import Refused, pdf
from PIL import EpsImagePlugin, Image

from pixelprune.core import pdf as pdf_module
from pixelprune.core.images import open_bytes, open_image, open_images, to_rgb
from pixelprune.core.limits import FORMATS, Limits
from pixelprune.errors import ConfigError, ImageError

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 20
%%EndComments
0 0 20 20 rectfill
%%EOF
"""


def test_postscript_never_reaches_ghostscript(tmp_path, monkeypatch):
    calls = []
    picture = Image.new("RGB", (20, 20))
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: calls.append(a) or picture.im)
    for name in ("page.png", "page.eps"):
        (tmp_path / name).write_bytes(EPS)
        with pytest.raises(ImageError, match=r"not an image, or in a format that is not read; formats are PNG, JPEG,"):
            open_image(tmp_path / name)
        with pytest.raises(ImageError, match="in a format that is not read"):
            list(open_bytes(EPS, name))
    assert not calls
    with Image.open(tmp_path / "page.png") as image:  # the control: Pillow by itself would
        image.load()
    assert calls


def test_formats_are_allowed_by_name(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif")
    (tmp_path / "a.pdf").write_bytes(pdf())
    only = Limits(formats=("PNG", "GIF"))
    assert open_image(tmp_path / "a.gif", limits=only).size == (8, 8)
    with pytest.raises(ImageError, match="not read; formats are PNG"):
        open_image(tmp_path / "a.gif", limits=Limits(formats=("PNG",)))
    with pytest.raises(ImageError, match=r"a\.pdf: a PDF, which is not read here; formats are PNG, GIF"):
        open_image(tmp_path / "a.pdf", limits=only)
    Image.init()
    assert not {"EPS", "WMF", "BUFR", "GRIB", "HDF5"} & set(FORMATS)
    assert set(Limits().pillow_formats) | {"PDF"} == set(FORMATS) and set(Limits().pillow_formats) <= set(Image.OPEN)


@pytest.mark.parametrize(
    "values, match",
    [
        ({"formats": ()}, "formats must be names of formats that Pillow reads, or PDF"),
        ({"formats": ("PNG", "NONE")}, r"got \['NONE'\]"),
        ({"pages": 0}, "pages must be a whole number of at least 1; got 0"),
        ({"member_bytes": 1.5}, "member_bytes must be a whole number of at least 1; got 1.5"),
        ({"page_pixels": True}, "page_pixels must be"),
    ],
)
def test_wrong_limits(values, match):
    with pytest.raises(ConfigError, match=match):
        Limits(**values)


def test_pixels_of_a_page(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", limits=Limits(page_pixels=1200)).size == (40, 30)
    with pytest.raises(ImageError, match=r"a\.png: .*1200 pixels.*limit of 1199 pixels; scale the image down first"):
        open_image(tmp_path / "a.png", limits=Limits(page_pixels=1199))
    (tmp_path / "a.pdf").write_bytes(pdf(pages=3))
    assert len(list(open_images(tmp_path / "a.pdf", 72, limits=Limits(page_pixels=72 * 144)))) == 3
    with pytest.raises(ImageError, match="72 x 144 pixels at 72 dpi are more than the limit of 10367; lower the dpi"):
        list(open_images(tmp_path / "a.pdf", 72, limits=Limits(page_pixels=72 * 144 - 1)))


def test_pages_of_a_pdf_within_the_limits(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(pages=5))
    for limits, count in ((Limits(pages=2), 2), (Limits(document_pixels=3 * 72 * 144), 3)):
        refused = Refused()
        read = list(open_images(path, 72, limits=limits, refuse=refused))
        assert (len(read), list(refused)) == (count, [str(path)])


# --- modes, and what is not damage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*Image.MODES, "I;16L", "I;16B", "I;16N"])
def test_every_mode_of_pillow_is_converted(mode):
    converted = to_rgb(Image.new(mode, (5, 4)))
    assert (converted.mode, converted.size) == ("RGB", (5, 4))


def test_associated_alpha_lies_on_white(tmp_path):
    gray = np.array([[0, 100, 200, 255]], np.uint8)
    alpha = np.array([[255, 128, 0, 64]], np.uint8)
    plain = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])
    with pytest.raises(ValueError, match="not supported"):
        plain.convert("La").convert("RGB")
    premultiplied = np.rint(gray * (alpha / 255)).astype(np.uint8)
    Image.merge("LA", [Image.fromarray(premultiplied), Image.fromarray(alpha)]).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    unassociated, associated = (struct.pack("<HHIHH", 338, 3, 1, kind, 0) for kind in (2, 1))
    assert content.count(unassociated) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(unassociated, associated))
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == "La"
    seen = np.asarray(open_image(tmp_path / "a.tif"), int)
    assert np.abs(seen - np.asarray(to_rgb(plain), int)).max() <= 4  # colours times alpha were rounded
    assert seen[0, :, 0].tolist() == [0, 177, 255, 255]


def test_a_missing_conversion_is_not_damage(tmp_path, monkeypatch):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.tif")

    def refuse(self, mode=None, *arguments, **keywords):
        raise ValueError(f"conversion from {self.mode} to {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(
        ImageError, match=r"a\.tif: Pillow cannot convert pixels of its mode CMYK to RGB \(conv"
    ) as caught:
        open_image(tmp_path / "a.tif")
    assert "damaged" not in str(caught.value)


def test_a_missing_decoder_is_not_damage(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def fail(message: str | Exception):
        def load(self):
            raise message if isinstance(message, Exception) else OSError(message)

        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
        with pytest.raises(ImageError) as caught:
            open_image(tmp_path / "a.png")
        return str(caught.value)

    assert "cannot decode this kind of image (decoder zip not available)" in fail("decoder zip not available")
    assert "cannot be read (Input/output error)" in fail(OSError(5, "Input/output error"))
    assert "damaged or cut off" in fail("image file is truncated (3 bytes not processed)")


def test_to_rgb_applies_exif_rotation():
    values = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    image = Image.fromarray(values)
    image.getexif()[0x0112] = 6
    turned = to_rgb(image)
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(values, -1))
    np.testing.assert_array_equal(np.asarray(to_rgb(turned)), np.asarray(turned))  # once
    assert image.size == (3, 2)


# --- PDFium --------------------------------------------------------------------------------------------------------


def overlaps(monkeypatch, content: bytes) -> int:
    """Calls into PDFium that began while another was under way, with four threads that read a PDF."""
    inside, met = [], []

    def watch(owner, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments, **keywords):
            me = threading.get_ident()
            if any(other != me for other in inside):
                met.append(name)
            inside.append(me)
            time.sleep(0.001)
            try:
                return real(*arguments, **keywords)
            finally:
                inside.remove(me)

        monkeypatch.setattr(owner, name, call)

    for owner, names in (
        (pypdfium2.PdfDocument, ("__init__", "__len__", "init_forms", "get_page", "get_page_size", "close")),
        (pypdfium2.PdfPage, ("get_size", "render", "close")),
        (pypdfium2.PdfBitmap, ("to_pil", "close")),
    ):
        for name in names:
            watch(owner, name)
    threads = [threading.Thread(target=lambda: list(open_bytes(content, "a.pdf"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(met)


def test_pdfium_is_entered_by_one_thread_at_a_time(monkeypatch):
    assert overlaps(monkeypatch, pdf(pages=3)) == 0


def test_the_watch_on_pdfium_sees_what_overlaps(monkeypatch):
    """The control: without the lock, and with nothing behind the calls that could break."""
    monkeypatch.setattr(pdf_module, "_LOCK", nullcontext())
    for owner, name, result in (
        (pypdfium2.PdfDocument, "__init__", None),
        (pypdfium2.PdfDocument, "__len__", 3),
        (pypdfium2.PdfDocument, "init_forms", None),
        (pypdfium2.PdfDocument, "get_page_size", (9, 9)),
        (pypdfium2.PdfDocument, "get_page", pypdfium2.PdfPage.__new__(pypdfium2.PdfPage)),
        (pypdfium2.PdfDocument, "close", None),
        (pypdfium2.PdfPage, "get_size", (9, 9)),
        (pypdfium2.PdfPage, "render", pypdfium2.PdfBitmap.__new__(pypdfium2.PdfBitmap)),
        (pypdfium2.PdfPage, "close", None),
        (pypdfium2.PdfBitmap, "to_pil", Image.new("RGB", (9, 9))),
        (pypdfium2.PdfBitmap, "close", None),
    ):
        monkeypatch.setattr(owner, name, lambda *a, result=result, **k: result)
    assert overlaps(monkeypatch, pdf(pages=3)) > 0


THREADS = """
import sys, threading
from pixelprune.core.images import open_images
counts = []
def read():
    for _ in range(15):
        counts.append(sum(image.size == (150, 300) for _, image in open_images(sys.argv[1])))
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(counts), set(counts))
"""


def test_threads_that_read_pdfs_do_not_end_the_process(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(pages=6, field=True))
    done = subprocess.run([sys.executable, "-c", THREADS, path], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "120 {6}"), done.stderr[-500:]
