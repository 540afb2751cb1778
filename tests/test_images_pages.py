"""Files with several pages: every page is read, in order, one at a time, and named as a PDF's are."""

from __future__ import annotations

import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from odd_images import Refused, dcx
from PIL import Image, TiffImagePlugin

from pixelprune.core.images import find_pages, open_bytes, open_image, open_images
from pixelprune.core.limits import Limits
from pixelprune.errors import ImageError

RNG = np.random.default_rng(3)


def pages(*modes: str, size: tuple[int, int] = (14, 9)) -> list[Image.Image]:
    """Different pictures, one of each mode."""
    return [Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode) for mode in modes]


def save(path: Path, images: list[Image.Image], **options) -> None:
    images[0].save(path, save_all=True, append_images=images[1:], **options)


def same(given: Image.Image, expected: Image.Image) -> bool:
    return given.mode == "RGB" and np.array_equal(np.asarray(given), np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_every_page_of_a_tiff_is_read(tmp_path, compression):
    path = tmp_path / "scan.tif"
    expected = pages("RGB", "L", "1", "RGB", "CMYK")
    save(path, expected, compression=compression)
    read = list(open_images(path))  # all at once: pages must not share memory
    assert [name for name, _ in read] == [f"{path}#page={number}" for number in range(1, 6)]
    assert all(same(image, page) for (_, image), page in zip(read, expected, strict=True))
    assert not same(read[0][1], expected[3])
    from_bytes = list(open_bytes(path.read_bytes(), "x"))
    assert [name for name, _ in from_bytes] == [f"x#page={number}" for number in range(1, 6)]
    assert all(same(image, page) for (_, image), page in zip(from_bytes, expected, strict=True))
    found = find_pages(path)
    assert (found.total, found.allowed, found.numbered, found.refused) == (5, 5, True, None)
    chosen = list(open_images(path, pages=[4, 2]))
    assert [name for name, _ in chosen] == [f"{path}#page=4", f"{path}#page=2"]
    assert same(chosen[0][1], expected[3]) and same(chosen[1][1], expected[1])
    with pytest.raises(ImageError, match="there is no page 6; the file has 5"):
        next(open_images(path, pages=[6]))
    with pytest.raises(ImageError, match=r"scan\.tif: several pages where one image is wanted"):
        open_image(path)


def test_fax_pages(tmp_path):
    expected = pages("1", "1", "1", size=(64, 40))
    save(tmp_path / "fax.tif", expected, compression="group4")
    assert [same(image, page) for (_, image), page in zip(open_images(tmp_path / "fax.tif"), expected, strict=True)]


def test_pages_of_a_dcx(tmp_path):
    expected = pages("RGB", "L")
    path = tmp_path / "fax.dcx"
    path.write_bytes(dcx(expected))
    read = list(open_images(path))
    assert [name for name, _ in read] == [f"{path}#page=1", f"{path}#page=2"]
    assert all(same(image, page) for (_, image), page in zip(read, expected, strict=True))
    assert find_pages(path).total == 2


def test_a_file_of_one_page_keeps_its_name(tmp_path):
    path = tmp_path / "one.tif"
    save(path, pages("RGB"))
    assert [name for name, _ in open_images(path)] == [str(path)]
    assert find_pages(path).numbered is False
    assert open_image(path).size == (14, 9)


@pytest.mark.parametrize("tag, value", [(254, 1), (254, 4), (255, 2)])
def test_previews_and_masks_are_no_pages(tmp_path, tag, value):
    path = tmp_path / "scan.tif"
    first, small, second = pages("RGB", "L", "RGB")
    with TiffImagePlugin.AppendingTiffWriter(str(path), new=True) as file:
        for image in (first, small, second):
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            if image is small:
                tags.tagtype[tag] = 4
                tags[tag] = value
            image.save(file, "TIFF", tiffinfo=tags)
            file.newFrame()
    read = [image for _, image in open_images(path)]
    assert len(read) == 2 and same(read[0], first) and same(read[1], second)


def test_each_page_has_its_own_rotation(tmp_path):
    path = tmp_path / "turned.tif"
    upright = pages("RGB", "RGB", "RGB")
    with TiffImagePlugin.AppendingTiffWriter(str(path), new=True) as file:
        for image, orientation in zip(upright, (1, 6, 3), strict=True):
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[0x0112] = orientation
            image.save(file, "TIFF", tiffinfo=tags)
            file.newFrame()
    turns = (lambda a: a, lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1])
    for order in ([1, 2, 3], [3, 2, 1, 2]):
        for number, (_, image) in zip(order, open_images(path, pages=order), strict=True):
            np.testing.assert_array_equal(np.asarray(image), turns[number - 1](np.asarray(upright[number - 1])))


def broken_page(path: Path) -> list[Image.Image]:
    """A TIFF whose second of three pages claims a compression that does not exist."""
    images = pages("RGB", "RGB", "RGB")
    save(path, images)
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        image.seek(1)
        start = image._frame_pos[1]
    count = struct.unpack_from("<H", content, start)[0]
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry)[0] == 259:
            struct.pack_into("<H", content, entry + 8, 60000)
    path.write_bytes(content)
    return images


def test_a_broken_page_costs_no_other(tmp_path):
    path = tmp_path / "scan.tif"
    images = broken_page(path)
    refused = Refused()
    read = list(open_images(path, refuse=refused))
    assert [name[-1] for name, _ in read] == ["1", "3"] and same(read[1][1], images[2])
    ((name, line),) = refused.items()
    assert name == f"{path}#page=2" and line.startswith(f"{name}: Pillow cannot decode this kind of image (60000)")
    with pytest.raises(ImageError, match="#page=2: Pillow cannot decode"):
        list(open_images(path))


def test_a_cut_off_tiff_names_what_is_lost(tmp_path):
    path = tmp_path / "cut.tif"
    images = pages("RGB", "RGB", "RGB")
    save(path, images)
    content = path.read_bytes()
    with Image.open(path) as image:
        image.seek(2)
        last = image._frame_pos[2]
    path.write_bytes(content[: last + 1])
    refused = Refused()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        read = list(open_images(path, refuse=refused))
    assert len(read) == 2 and same(read[1][1], images[1])
    assert len(refused) == 1 and "#page=3: the image is damaged or cut off" in refused.line


def test_pages_beyond_the_limits_are_named_and_the_others_read(tmp_path):
    path = tmp_path / "scan.tif"
    save(path, pages("RGB", "RGB", "RGB", "RGB"))
    for limits, count, match in (
        (Limits(pages=3), 3, "has more than 3 pages; those after them are left out"),
        (Limits(document_pixels=2 * 14 * 9), 2, "from page 3 on its pages have more than 252 pixels in all"),
    ):
        refused = Refused()
        read = list(open_images(path, limits=limits, refuse=refused))
        assert len(read) == count and len(refused) == 1
        assert refused.line.startswith(f"{path}: ") and match in refused.line
        found = find_pages(path, limits=limits)
        assert (found.allowed, found.refused) == (count, refused.line)
        with pytest.raises(ImageError, match=match):
            list(open_images(path, limits=limits))
    assert len(list(open_images(path, limits=Limits(pages=4, document_pixels=4 * 14 * 9)))) == 4


def test_a_page_that_is_too_large_is_skipped(tmp_path):
    path = tmp_path / "scan.tif"
    small, large = pages("RGB")[0], pages("RGB", size=(200, 10))[0]
    save(path, [small, large, small])
    refused = Refused()
    read = list(open_images(path, limits=Limits(page_pixels=1999), refuse=refused))
    assert [name[-1] for name, _ in read] == ["1", "3"]
    assert len(refused) == 1 and "#page=2: Image size (2000 pixels) exceeds limit of 1999 pixels" in refused.line


def test_a_tiff_that_never_ends_ends(tmp_path):
    """Each directory of tags points to the next, and pages are far more than anybody may ask for."""
    path = tmp_path / "endless.tif"
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 64)]
    content, step = b"II*\0" + struct.pack("<I", 72) + bytes(64), 2 + 12 * len(entries) + 4
    for number in range(2000):
        content += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        content += struct.pack("<I", 72 + step * (number + 1))
    path.write_bytes(content)
    assert len(list(open_images(path, refuse=Refused()))) == 2000
    found = find_pages(path, limits=Limits(pages=50))
    assert found.allowed == 50 < found.total <= 100 and "more than 50 pages" in (found.refused or "")


PEAK = """
import re, sys
from pathlib import Path
from pixelprune.core.images import open_images
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
held, page, keep = [], 3 * 3000 * 2000, sys.argv[2] == "keep"
first = next(open_images(sys.argv[1]))
before = peak()
del first
for name, image in open_images(sys.argv[1]):
    if keep:
        held.append(image)
print((peak() - before) * 1024 // page)
"""


def test_one_page_is_in_memory_at_a_time(tmp_path):
    path = tmp_path / "long.tif"
    save(path, [Image.new("RGB", (3000, 2000), (number, 0, 0)) for number in range(12)], compression="tiff_lzw")

    def more_than_one_page_takes(mode: str) -> int:
        """In pages, memory beyond that of reading the first."""
        command = [sys.executable, "-c", PEAK, str(path), mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert more_than_one_page_takes("drop") <= 2 < 9 <= more_than_one_page_takes("keep")
