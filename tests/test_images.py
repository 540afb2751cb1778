"""Whatever file people have: the picture they would see, or one line that says what is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from odd_images import pdf, png_header
from PIL import Image

from pixelprune.core.images import open_image, open_images, to_rgb
from pixelprune.errors import ConfigError, ImageError

RNG = np.random.default_rng(7)
COLOURS = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    image = open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def on_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colour over white, in fractions."""
    share = alpha[..., None] / 255
    return values * share + 255 * (1 - share)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp"])
def test_colour_comes_back_unchanged(tmp_path, name):
    Image.fromarray(COLOURS).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    np.testing.assert_array_equal(pixels(tmp_path / name), COLOURS)
    assert (pixels(tmp_path / name) != COLOURS[::-1]).any()


def test_jpeg_is_as_pillow_decodes_it(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", quality=60)
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(pixels(tmp_path / "a.jpg"), np.asarray(image))


def test_transparent_parts_lie_on_white(tmp_path):
    alpha = RNG.integers(0, 256, COLOURS.shape[:2], dtype=np.uint8)
    alpha[0], alpha[1] = 0, 255
    Image.fromarray(np.dstack([COLOURS, alpha])).save(tmp_path / "rgba.png")
    seen = pixels(tmp_path / "rgba.png")
    assert np.abs(seen - on_white(COLOURS.astype(float), alpha)).max() <= 1
    assert (seen[0] == 255).all()
    np.testing.assert_array_equal(seen[1], COLOURS[1])
    dropped_alpha = np.asarray(Image.open(tmp_path / "rgba.png").convert("RGB"))
    assert np.abs(dropped_alpha - on_white(COLOURS.astype(float), alpha)).max() > 50

    gray = COLOURS[..., 0]
    Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    assert np.abs(pixels(tmp_path / "la.png") - on_white(np.dstack([gray] * 3).astype(float), alpha)).max() <= 1


def test_palette_with_a_transparent_entry(tmp_path):
    indices = RNG.integers(0, 4, (6, 8), dtype=np.uint8)
    palette = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(palette.tobytes())
    image.putdata(indices.ravel().tolist())
    expected = palette[indices]
    for name in ("p.png", "p.gif"):
        image.save(tmp_path / f"opaque-{name}")
        np.testing.assert_array_equal(pixels(tmp_path / f"opaque-{name}"), expected)
        image.save(tmp_path / name, transparency=2)
        np.testing.assert_array_equal(pixels(tmp_path / name), np.where(indices[..., None] == 2, 255, expected))


@pytest.mark.parametrize("name", ["g.png", "g.tif"])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, name):
    values = np.linspace(0, 65535, 300).round().astype(np.uint16).reshape(15, 20)
    Image.fromarray(values).save(tmp_path / name)
    expected = np.rint(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(pixels(tmp_path / name), np.dstack([expected] * 3))
    assert (np.minimum(values, 255) != expected).any()  # what clipping would give


def test_16_bit_gray_with_a_transparent_level(tmp_path):
    values = np.array([[0, 1000, 30000], [1000, 65535, 2]], np.uint16)
    Image.fromarray(values).save(tmp_path / "g.png", transparency=1000)
    assert pixels(tmp_path / "g.png")[..., 0].tolist() == [[0, 255, 117], [255, 255, 0]]


def test_32_bit_gray_where_its_range_is_clear(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], np.int32)).save(tmp_path / "i.tif")
    assert pixels(tmp_path / "i.tif")[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "f.tif")
    assert pixels(tmp_path / "f.tif")[0, :, 1].tolist() == [0, 128, 255]
    for values in ([[0.0, 2.0]], [[-0.1, 0.0]], [[0.0, np.nan]]):
        Image.fromarray(np.array(values, np.float32)).save(tmp_path / "bad.tif")
        with pytest.raises(ImageError, match=r"bad\.tif: 32-bit gray with values from"):
            open_image(tmp_path / "bad.tif")


def test_gray_one_bit_and_cmyk(tmp_path):
    gray = COLOURS[..., 1]
    Image.fromarray(gray).save(tmp_path / "l.png")
    np.testing.assert_array_equal(pixels(tmp_path / "l.png"), np.dstack([gray] * 3))
    Image.fromarray(gray > 128).save(tmp_path / "one.png")
    np.testing.assert_array_equal(pixels(tmp_path / "one.png"), np.dstack([(gray > 128) * 255] * 3))
    inks = np.dstack([255 - COLOURS, np.zeros(gray.shape, np.uint8)])
    Image.frombytes("CMYK", (14, 9), inks.tobytes()).save(tmp_path / "c.tif")
    np.testing.assert_array_equal(pixels(tmp_path / "c.tif"), COLOURS)


@pytest.mark.parametrize(
    "orientation, turn",
    [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90), (2, np.fliplr)],
)
def test_exif_rotation_is_applied(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOURS).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "turned.png"), turn(COLOURS))
    assert orientation == 1 or turn(COLOURS).shape != COLOURS.shape or (turn(COLOURS) != COLOURS).any()


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_an_animation_the_first_frame_counts(tmp_path, name):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert (pixels(tmp_path / name) == [200, 0, 0]).all()
    assert [name for name, _ in open_images(tmp_path / name)] == [str(tmp_path / name)]


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert pixels(tmp_path / "dot.png").tolist() == [[[1, 2, 3]]]


def broken(folder: Path) -> dict[str, str]:
    """Files that cannot be read, and what the message must say of each."""
    Image.fromarray(RNG.integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(folder / "whole.png")
    Image.open(folder / "whole.png").save(folder / "whole.jpg")
    for kind in ("png", "jpg"):
        whole = (folder / f"whole.{kind}").read_bytes()
        (folder / f"cut.{kind}").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray((folder / "whole.png").read_bytes())
    damaged[200:260] = bytes(60)
    (folder / "damaged.png").write_bytes(damaged)
    (folder / "text.png").write_text("not an image\n")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "huge.png").write_bytes(png_header(20000, 20000))
    (folder / "cut.pdf").write_bytes(pdf()[:40])
    (folder / "none.pdf").write_bytes(pdf(pages=0))
    (folder / "locked.pdf").write_bytes(pdf(locked=True))
    return {
        "cut.png": "damaged or cut off",
        "cut.jpg": "damaged or cut off",
        "damaged.png": "damaged or cut off",
        "text.png": "not an image",
        "empty.png": "empty",
        "folder.png": "directory",
        "pipe.png": "not a regular file",
        "missing.png": "no such file",
        "huge.png": "400000000 pixels",
        "cut.pdf": "PDF is damaged or cut off",
        "none.pdf": "the PDF",
        "locked.pdf": "password",
    }


def test_unusable_files_get_one_line_that_names_them(tmp_path):
    for name, reason in broken(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            open_image(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: "), message
        assert reason in message
        assert "\n" not in message
    open_image(tmp_path / "whole.png")
    open_image(tmp_path / "whole.jpg")


def test_no_permission(tmp_path, monkeypatch):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")

    def refuse(self, *arguments, **keywords):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png: Permission denied$"):
        open_image(tmp_path / "a.png")


def test_large_images_are_read_in_silence_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (40, 40)).save(tmp_path / "large.png")
    Image.new("RGB", (60, 60)).save(tmp_path / "too-large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(tmp_path / "large.png").size == (40, 40)
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"3600 pixels.*limit of 2000 pixels; scale the image down"):
        open_image(tmp_path / "too-large.png")


def test_pdf_pages_are_rendered_at_the_resolution_asked_for(tmp_path):
    (tmp_path / "two.pdf").write_bytes(pdf(pages=2))
    first, second = open_images(tmp_path / "two.pdf", dpi=72)
    assert [first[0], second[0]] == [f"{tmp_path / 'two.pdf'}#page=1", f"{tmp_path / 'two.pdf'}#page=2"]
    expected = np.full((144, 72, 3), 255)
    expected[90:126, 18:36] = 0
    np.testing.assert_array_equal(np.asarray(first[1]), expected)
    assert (np.asarray(second[1]) == 255).all()
    assert [image.size for _, image in open_images(tmp_path / "two.pdf")] == [(150, 300)] * 2
    with pytest.raises(ImageError, match="several pages"):
        open_image(tmp_path / "two.pdf")
    (tmp_path / "one.pdf").write_bytes(pdf())
    assert open_image(tmp_path / "one.pdf", dpi=36).size == (36, 72)


def test_what_is_filled_into_a_pdf_form_is_seen(tmp_path):
    (tmp_path / "form.pdf").write_bytes(pdf(field=True))
    (tmp_path / "drawn.pdf").write_bytes(pdf())
    np.testing.assert_array_equal(
        np.asarray(open_image(tmp_path / "form.pdf", dpi=72)), np.asarray(open_image(tmp_path / "drawn.pdf", dpi=72))
    )


@pytest.mark.parametrize("dpi", [0, -1, float("nan"), float("inf"), "150", True])
def test_bad_dpi(tmp_path, dpi):
    (tmp_path / "a.pdf").write_bytes(pdf())
    with pytest.raises(ConfigError, match="dpi must be a positive number"):
        open_image(tmp_path / "a.pdf", dpi=dpi)


def test_pdf_page_with_too_many_pixels(tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf())
    with pytest.raises(ImageError, match=r"a\.pdf#page=1: 100000 x 200000 pixels at 100000 dpi .*lower the dpi"):
        open_image(tmp_path / "a.pdf", dpi=100000)


def test_pdfs_need_a_package_and_images_do_not(tmp_path, monkeypatch):
    (tmp_path / "a.pdf").write_bytes(pdf())
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    script = (
        "import sys; from pixelprune.core.images import open_image; "
        "open_image(sys.argv[1]); print('pypdfium2' in sys.modules)"
    )
    for name, imported in (("a.png", "False"), ("a.pdf", "True")):
        run = subprocess.run(
            [sys.executable, "-c", script, tmp_path / name], capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == imported
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(ImageError, match=r'a\.pdf: .*pip install "pixelprune\[cli\] @ git\+https://'):
        open_image(tmp_path / "a.pdf")


def test_to_rgb_leaves_its_argument_alone():
    image = Image.fromarray(np.dstack([COLOURS, COLOURS[..., :1]]))
    before = image.tobytes()
    assert to_rgb(image).mode == "RGB"
    assert (image.mode, image.tobytes()) == ("RGBA", before)
