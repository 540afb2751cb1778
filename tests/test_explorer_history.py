"""Several screenshots or pages in the explorer, without a browser: numbers and pictures of the core, step by step."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from odd_images import pdf
from PIL import Image
from test_explorer import images_in, shown

from pixelprune import PruneConfig, select, select_sequence
from pixelprune.app.answers import Answers
from pixelprune.app.document import Document, Page, SessionStore, ViewState, example_files
from pixelprune.app.explorer import Explorer
from pixelprune.app.filmstrip import kept_of_each, strip_html
from pixelprune.app.view import Choice, look, numbers_html, picture_html
from pixelprune.core.config import References
from pixelprune.core.limits import Limits
from pixelprune.errors import ImageError
from pixelprune.viz import PICTURES, overlay, token_grid


@pytest.fixture(scope="module")
def history() -> Document:
    return Document.read(example_files()["screens"])


def test_the_example_is_a_history_in_order(history):
    assert [page.name for page in history.pages] == [f"search-{number}.png" for number in (1, 2, 3)]
    assert history.history and not Document.read(example_files()["form"]).history


def test_what_a_page_may_refer_to():
    pages = [Page(str(number), Image.new("RGB", (9, 9))) for number in range(4)]
    for number, previous, first in ((1, "", ""), (2, "0", "0"), (3, "1", "01"), (4, "2", "02")):
        state = ViewState(Document(pages), number)
        names = {each: "".join(page.name for page in state.earlier(each)) for each in ("previous", "first+previous")}
        assert names == {"previous": previous, "first+previous": first} and state.earlier("none") == []


@pytest.mark.parametrize("references", ["previous", "first+previous"])
@pytest.mark.parametrize("level", [0, 5])
def test_numbers_and_pictures_are_those_of_the_core(history, references: References, level):
    choice = Choice(level, references=references)
    pixels = [choice.spec.resize(page.image) for page in history.pages]
    expected = select_sequence(pixels, choice.config)
    assert choice.config.references == references
    for number, image in enumerate(expected.images, start=1):
        state = ViewState(history, number)
        view = look(state.page, choice, state.earlier(references))
        numbers = shown(numbers_html(choice, view))
        assert numbers["kept"] == f"{image.report.kept:,} of {image.report.total:,}"
        assert numbers["alone"] == f"{image.report.alone:,}"
        assert numbers["before"] == f"{image.report.alone - image.report.kept:,}"
        assert numbers["patches"].startswith(f"{4 * image.report.kept:,} of ")
        assert np.array_equal(view.shown_before, image.shown_before)
    for kind, draw in (("overlay", overlay), ("grid", token_grid)):
        drawn = Choice(level, picture=kind, references=references)
        (picture,) = images_in(html := picture_html(state.page, drawn, view))
        wanted = draw(pixels[2], image.alone, choice.config, shown_before=image.shown_before)
        plain = draw(pixels[2], image.alone, choice.config)
        if kind == "overlay":
            wanted, plain = (each.crop((0, 0, pixels[2].shape[1], pixels[2].shape[0])) for each in (wanted, plain))
        difference = [
            np.abs(np.asarray(picture, float) - np.asarray(each.crop((0, 0, *picture.size)), float)).mean()
            for each in (wanted, plain)
        ]
        assert difference[0] < 3 < difference[1]
        assert f"{int(image.shown_before.sum())} more shown by an earlier image, in orange" in html
    for kind in set(PICTURES) - {"overlay", "grid"}:
        html = picture_html(state.page, Choice(level, picture=kind, references=references), view)
        assert f"of the image by itself, {image.alone.retain_ratio:.1%} kept" in html


def test_without_references_nothing_is_said_of_them(history):
    state = ViewState(history, 2)
    view = look(state.page, Choice(), state.earlier("none"))
    assert view.shown_before is None and view.num_kept == select(state.page.pixels(Choice().spec)).num_kept
    assert {"alone", "before"}.isdisjoint(shown(numbers_html(Choice(), view)))
    assert "earlier" not in picture_html(state.page, Choice(), view)


@pytest.mark.parametrize("references", ["none", "previous", "first+previous"])
def test_the_filmstrip_counts_what_is_kept_of_each(history, references: References):
    choice = Choice(references=references)
    html = strip_html(ViewState(history, 2), choice)
    pixels = [choice.spec.resize(page.image) for page in history.pages]
    counts = [len(kept) for kept in select_sequence(pixels, PruneConfig(references=references)).kept_indices]
    assert [int(count) for count in re.findall(r"<b>([\d,]+)</b>", html)] == counts
    assert re.findall(r'data-page="(\d)"[^>]*aria-current', html) == ["2"]
    assert f"{sum(counts):,} in all" in html and len(images_in(html)) == 3
    assert kept_of_each(history, choice) is kept_of_each(history, choice) and len(history.kept) == 1
    assert strip_html(ViewState(Document(history.pages[:1])), choice) == ""


def test_names_in_the_filmstrip_are_escaped():
    pages = [Page('"><script>', Image.new("RGB", (64, 64))) for _ in range(2)]
    html = strip_html(ViewState(Document(pages)), Choice())
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_pages_that_are_not_shown_keep_only_their_pixels(history):
    state = ViewState(history)
    decoded = sum(3 * page.image.width * page.image.height for page in history.pages)
    for number in (2, 3):
        state.turn(number)
        look(state.page, Choice(references="first+previous"), state.earlier("first+previous"))
        strip_html(state, Choice(references="first+previous"))
        assert history.nbytes == decoded + number * 3 * 1920 * 1088  # the page and those that it refers to
    state.turn(1)
    assert history.nbytes == decoded + 3 * 1920 * 1088


@pytest.fixture
def explorer() -> Explorer:
    return Explorer(Answers(), SessionStore(), {}, most_megabytes=1)


def uploaded(folder: Path, **content: bytes | Image.Image) -> list[str]:
    """Files as Gradio hands them over, each in a folder of its own."""
    paths = []
    for name, each in content.items():
        path = folder / name / f"{name.replace('_', '-')}.png"
        path.parent.mkdir()
        if isinstance(each, Image.Image):
            each.save(path)
        else:
            path.write_bytes(each)
        paths.append(str(path))
    return paths


def test_several_uploads_are_a_history_in_the_order_of_their_numbers(explorer, tmp_path):
    images = {f"s_{number}": Image.new("RGB", (64, 64), (number, 0, 0)) for number in (10, 9, 1)}
    document = explorer.take(uploaded(tmp_path, **images))
    assert [page.name for page in document.pages] == ["s-1.png", "s-9.png", "s-10.png"]
    assert document.history and document.refused == () and not list(tmp_path.iterdir())
    (path,) = uploaded(tmp_path, one=pdf(pages=2))
    document = explorer.take([path])
    assert len(document.pages) == 2 and not document.history


def test_what_cannot_be_read_costs_itself_alone(explorer, tmp_path):
    good = Image.new("RGB", (64, 64))
    document = explorer.take(uploaded(tmp_path, a=good, b=b"text", c=good, d=bytes(2_000_000)))
    assert [page.name for page in document.pages] == ["a.png", "c.png"]
    assert [line.split(":")[0] for line in document.refused] == ["b.png", "d.png"]
    with pytest.raises(ImageError, match=r"^x\.png: not an image"):
        explorer.take(uploaded(tmp_path, x=b"text", y=b"text"))
    with pytest.raises(ImageError, match="No file came"):
        explorer.take(None)
    assert not list(tmp_path.iterdir()), "deleted, whatever was in them"


def test_images_beyond_the_limits_are_left_out():
    documents = [Document([Page(f"{number}.png", Image.new("RGB", (10, 10)))]) for number in range(4)]
    joined = Document.joined(documents, Limits(pages=3))
    assert len(joined.pages) == 3 and joined.refused[0].startswith("3.png: more than 3 images")
    joined = Document.joined(documents, Limits(document_pixels=250))
    assert len(joined.pages) == 2 and joined.refused[0].startswith("2.png: more than ")
    assert Document.joined(documents).refused == (), "control"
