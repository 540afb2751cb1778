"""The survey's report, opened from disk with the network off."""

from __future__ import annotations

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from pixelprune.survey import run
from pixelprune.survey.report import write_comparison, write_html


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "images").mkdir()
    for number in range(60):
        pixels = np.full((320, 320, 3), 255, np.uint8)
        pixels[: 5 * number] = np.random.default_rng(number).integers(0, 256, (5 * number, 320, 3))
        Image.fromarray(pixels).save(folder / "images" / f"page {number}.png")
    (folder / "images" / "broken.png").write_bytes(b"broken")
    survey = run([str(folder / "images")], workers=1)
    write_html(survey, folder / "report.html")
    write_comparison([survey, survey], ["first", "second"], folder / "compare.html")
    return survey, folder


def column(page, index: int) -> list[str]:
    return page.locator(f"#images tbody tr td:nth-child({index + 1})").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everything_is_drawn(tabs, report, scheme, width):
    for name in ("report.html", "compare.html"):
        size = {"width": width, "height": 900}
        page = tabs.open((report[1] / name).as_uri(), offline=True, color_scheme=scheme, viewport=size)
        charts = page.locator("figure svg")
        assert charts.count() == 2
        for index in range(2):
            assert charts.nth(index).bounding_box()["height"] > 100
            marks = charts.nth(index).locator("[role=graphics-symbol], [role=graphics-object] path[fill]")
            colours = {mark.evaluate("e => getComputedStyle(e).fill") for mark in marks.all()}
            assert {"light": "rgb(47, 111, 183)", "dark": "rgb(111, 176, 242)"}[scheme] in colours
            assert marks.count() > 5
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_table_sorts_filters_and_turns_pages(tabs, report):
    survey, folder = report
    page = tabs.open((folder / "report.html").as_uri(), offline=True)
    assert len(column(page, 0)) == 50 and "1 – 50 of 60" in page.inner_text("#range")
    kept = [float(value) for value in column(page, 4)]
    assert kept == sorted(kept, reverse=True) and len(set(kept)) > 5
    page.click("#images th:nth-child(5) button")
    kept = [float(value) for value in column(page, 4)]
    assert kept == sorted(kept) and page.get_attribute("#images th:nth-child(5)", "aria-sort") == "ascending"
    page.click("#images th:nth-child(1) button")
    assert column(page, 0)[:3] == ["page 0.png", "page 1.png", "page 2.png"]
    page.click("#on")
    assert column(page, 0) == [f"page {number}.png" for number in range(50, 60)]
    page.fill("#filter", "page 4")
    assert column(page, 0) == ["page 4.png", *(f"page {number}.png" for number in range(40, 50))]
    row = next(row for row in survey.rows if row.name.endswith("page 41.png"))
    cells = page.locator("#images tbody tr", has_text="page 41.png").locator("td").all_inner_texts()
    assert cells[2:4] == [str(row.blocks), str(row.kept["pred2d@0"])]
    assert "broken.png: not an image" in page.inner_text("#problems")


def test_the_table_of_lattices_says_which_to_try_first(tabs, report):
    _, folder = report
    page = tabs.open((folder / "report.html").as_uri(), offline=True)
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#lattices tbody tr").all()]
    assert [row[0] for row in rows] == ["none", "6", "4", "3", "2"]
    shares = [float(row[1].removesuffix("%")) for row in rows]
    assert shares == sorted(shares) and len(set(shares)) == 5
    assert [bool(row[4]) for row in rows] == [True, False, True, False, True]
    aligned = "cells => cells.map(cell => getComputedStyle(cell).textAlign)"
    for row in ("thead", "tbody"):
        cells = page.locator(f"#lattices {row} tr:first-child").locator("th, td").evaluate_all(aligned)
        assert cells == ["left", "right", "right", "right", "left"]


def test_it_prints(tabs, report, tmp_path):
    page = tabs.open((report[1] / "report.html").as_uri(), offline=True, color_scheme="dark")
    page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
    document = pypdfium2.PdfDocument(tmp_path / "report.pdf")
    text = "".join(document[index].get_textpage().get_text_range() for index in range(len(document)))
    assert 1 < len(document) < 20
    for said in ("Recommended setting", "blocks kept", "broken.png", *(f"page {number}.png" for number in range(60))):
        assert said in text, said
    page.wait_for_function("document.querySelectorAll('#images tbody tr').length === 50")  # as before
    corner = document[0].render(scale=1).to_pil().getpixel((3, 3))
    assert min(corner) > 240  # paper is white, whatever the screen is
