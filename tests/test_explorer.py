"""What the explorer shows, without a browser: numbers of ``select``, pictures of ``viz``, code that runs."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
import shlex

import numpy as np
import pytest
from corpus import EXAMPLES
from odd_images import pdf, png_header
from PIL import Image

from pixelprune import PruneConfig, select
from pixelprune.app.document import Document, Place, Sheet, Visitors, example_files
from pixelprune.app.view import (
    MODELS,
    TEXT_TOKENS,
    Choice,
    compare_html,
    curve_html,
    look,
    numbers_html,
    picture_html,
    snippets,
)
from pixelprune.core.analysis import distinct_ratio
from pixelprune.core.images import open_image
from pixelprune.errors import ConfigError, ImageError
from pixelprune.models.cost import ModelShape, compare
from pixelprune.models.resize import ResizeSpec
from pixelprune.viz import PICTURES


@pytest.fixture(scope="module")
def sheet() -> Sheet:
    return Document.read(EXAMPLES / "slide.png").sheets[0]


def shown(html: str) -> dict[str, str]:
    return dict(re.findall(r'data-number="(\w+)">([^<]*)', html))


@pytest.mark.parametrize("level, method, model", [(0, "pred2d", MODELS[0]), (5, "adaptive", "Qwen2.5-VL-7B")])
def test_numbers_are_those_of_select_and_of_the_cost_model(sheet, level, method, model):
    choice = Choice(level, method, model=model)
    view = look(sheet, choice)
    spec = ResizeSpec.for_model(model)
    pixels = spec.resize(open_image(EXAMPLES / "slide.png"))
    selection = select(pixels, PruneConfig(method, threshold=level / 255), block_size=spec.block_size)
    cost = compare(ModelShape.from_config(model), selection, TEXT_TOKENS)
    numbers = shown(numbers_html(choice, view))
    assert numbers["kept"] == f"{selection.num_kept:,} of {selection.num_blocks:,}"
    assert numbers["retained"] == f"{selection.retain_ratio:.1%}"
    assert numbers["distinct"] == f"{distinct_ratio(pixels, spec.block_size):.1%}"
    assert numbers["patches"] == f"{4 * selection.num_kept:,} of {4 * selection.num_blocks:,}"
    assert numbers["tokens"] == f"{selection.num_kept + TEXT_TOKENS:,} of {selection.num_blocks + TEXT_TOKENS:,}"
    assert numbers["prefill"] == f"{1 / cost.flops_ratio:.2f}× less work"
    assert numbers != shown(numbers_html(choice, look(sheet, Choice(51, "raster", model=model))))


def test_a_budget_is_kept_or_refused(sheet):
    whole = look(sheet, Choice())
    budget = whole.selection.num_kept - 20
    tight = look(sheet, Choice(max_tokens=budget))
    assert tight.selection.num_kept <= budget < whole.selection.num_kept
    with pytest.raises(ConfigError, match="0 to 51 levels; got 52"):
        look(sheet, Choice(52))


def test_a_lattice_is_counted_and_has_its_own_curve(sheet):
    choice = Choice(lattice=4)
    view = look(sheet, choice)
    selection = select(sheet.pixels(choice.spec), PruneConfig(lattice=4))
    assert selection.num_lattice > 10
    assert shown(numbers_html(choice, view))["lattice"] == f"{selection.num_lattice:,}"
    assert shown(numbers_html(Choice(), look(sheet, Choice())))["lattice"] == "0"
    sheet.curves.clear()
    for each in (Choice(), choice):
        curve_html(sheet, each, look(sheet, each))
    without, with_lattice = (dict(points)[0] for points in sheet.curves.values())
    assert (without, with_lattice) == (select(sheet.pixels(choice.spec)).retain_ratio, selection.retain_ratio)


def images_in(html: str) -> list[Image.Image]:
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in uris]


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_those_of_viz(sheet, kind):
    choice = Choice(5, picture=kind)
    view = look(sheet, choice)
    (picture,) = images_in(picture_html(sheet, choice, view))
    expected = PICTURES[kind](sheet.pixels(choice.spec), view.selection, choice.config)
    assert picture.size == expected.size

    def difference(other: Image.Image) -> float:
        return float(np.abs(np.asarray(picture, float) - np.asarray(other, float)).mean())

    assert difference(expected) < 3 < difference(Image.new("RGB", expected.size, "#446688"))


def test_before_and_after_are_the_image_and_its_reconstruction(sheet):
    choice = Choice(51)
    view = look(sheet, choice)
    after, before = (np.asarray(image, float) for image in images_in(compare_html(sheet, choice, view)))
    pixels = sheet.pixels(choice.spec)
    rebuilt = view.selection.reconstruct(pixels)
    assert (rebuilt != pixels).any()
    assert np.abs(before - pixels).mean() < np.abs(before - rebuilt).mean()
    assert np.abs(after - rebuilt).mean() < np.abs(after - pixels).mean()


def test_curve_is_measured_once_and_marks_the_settings(sheet):
    sheet.curves.clear()
    charts = [curve_html(sheet, Choice(level), look(sheet, Choice(level))) for level in (0, 25)]
    assert len(sheet.curves) == 1 and charts[0] != charts[1]
    (points,) = sheet.curves.values()
    pixels = sheet.pixels(Choice().spec)
    assert dict(points)[0.1] == select(pixels, PruneConfig(threshold=25 / 255)).retain_ratio
    curve_html(sheet, Choice(method="raster"), look(sheet, Choice(method="raster")))
    assert len(sheet.curves) == 2


def test_snippets_say_the_settings():
    choice = Choice(5, "adaptive", "mae", 300, "Qwen3-VL-4B", lattice=4)
    code = snippets(choice)
    call = next(
        node
        for node in ast.walk(ast.parse(code["python"]))
        if isinstance(node, ast.Call) and getattr(node.func, "value", None).__class__ is ast.Name and node.keywords
    )
    settings = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert PruneConfig(**settings) == choice.config
    words = shlex.split(code["vllm"])
    assert PruneConfig(**json.loads(words[words.index("--mm-processor-kwargs") + 1])["pixelprune"]) == choice.config
    words = shlex.split(code["cli"])
    assert words[words.index("--method") + 1] == "adaptive" and words[words.index("--threshold") + 1] == "0.02"
    assert "Qwen/Qwen3-VL-4B-Instruct" in code["python"] and "threshold=0)" in snippets(Choice())["python"]


def test_documents(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pdf(pages=3))
    document = Document.read(path, "mine.pdf")
    assert [sheet.name for sheet in document.sheets] == [f"mine.pdf, page {number}" for number in (1, 2, 3)]
    path.write_bytes(pdf(pages=Document.MOST_PAGES + 2))
    assert (Document.read(path).pages, Document.read(path).more) == (Document.MOST_PAGES, 2)
    for content, message in {
        b"text": "mine.png: not an image",
        png_header(30_000, 30_000): "mine.png: .*scale the image down first",
        b"": "mine.png: the file is empty",
        pdf(locked=True): "mine.png: the PDF is locked",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ImageError, match=message) as caught:
            Document.read(path, "mine.png")
        assert str(tmp_path) not in str(caught.value)


def test_visitors_are_apart_and_forgotten():
    visitors = Visitors(most=2)
    places = [Place(Document([Sheet(str(number), Image.new("RGB", (9, 9)))])) for number in range(3)]
    visitors.put("a", places[0])
    visitors.put("b", places[1])
    assert visitors.get("a") is places[0] and visitors.get("b") is places[1] and visitors.get("c") is None
    visitors.get("a")
    visitors.put("c", places[2])  # b has been away longest
    assert visitors.get("b") is None and visitors.get("a") is places[0]
    visitors.forget("a")
    assert visitors.get("a") is None and len(visitors) == 1


def test_a_place_is_always_on_a_page():
    place = Place(Document([Sheet(str(number), Image.new("RGB", (9, 9))) for number in range(3)]))
    names = []
    for page in (1, 3, 9, 0):
        place.page = page
        names.append(place.sheet.name)
    assert names == ["0", "2", "2", "0"]


def test_examples_are_there():
    files = example_files()
    assert len(files) == 5
    for path in files.values():
        assert open_image(path).width > 160
