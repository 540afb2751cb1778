"""What the explorer shows, without a browser: numbers of ``select``, pictures of ``viz``, code that runs."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import re
import shlex
import time

import numpy as np
import pytest
from corpus import EXAMPLES
from odd_images import pdf, png_header
from PIL import Image

from pixelprune import PruneConfig, select
from pixelprune.app.document import UPLOADS, Document, Page, SessionStore, ViewState, example_files
from pixelprune.app.uploads import UploadReader
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
from pixelprune.core.limits import Limits
from pixelprune.errors import ConfigError, ImageError
from pixelprune.models.cost import ModelShape, compare
from pixelprune.models.resize import ResizeSpec
from pixelprune.viz import PICTURES


@pytest.fixture(scope="module")
def page() -> Page:
    return Document.read(EXAMPLES / "slide.png").pages[0]


def shown(html: str) -> dict[str, str]:
    return dict(re.findall(r'data-number="(\w+)">([^<]*)', html))


@pytest.mark.parametrize("level, method, model", [(0, "pred2d", MODELS[0]), (5, "adaptive", "Qwen2.5-VL-7B")])
def test_numbers_are_those_of_select_and_of_the_cost_model(page, level, method, model):
    choice = Choice(level, method, model=model)
    view = look(page, choice)
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
    assert numbers != shown(numbers_html(choice, look(page, Choice(51, "raster", model=model))))


def test_a_budget_is_kept_or_refused(page):
    whole = look(page, Choice())
    budget = whole.selection.num_kept - 20
    tight = look(page, Choice(max_tokens=budget))
    assert tight.selection.num_kept <= budget < whole.selection.num_kept
    with pytest.raises(ConfigError, match="0 to 51 levels; got 52"):
        look(page, Choice(52))


def test_a_lattice_is_counted_and_has_its_own_curve(page):
    choice = Choice(lattice=4)
    view = look(page, choice)
    selection = select(page.pixels(choice.spec), PruneConfig(lattice=4))
    assert selection.num_lattice > 10
    assert shown(numbers_html(choice, view))["lattice"] == f"{selection.num_lattice:,}"
    assert shown(numbers_html(Choice(), look(page, Choice())))["lattice"] == "0"
    page.curves.clear()
    for each in (Choice(), choice):
        curve_html(page, each, look(page, each))
    without, with_lattice = (dict(points)[0] for points in page.curves.values())
    assert (without, with_lattice) == (select(page.pixels(choice.spec)).retain_ratio, selection.retain_ratio)


def images_in(html: str) -> list[Image.Image]:
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in uris]


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_those_of_viz(page, kind):
    choice = Choice(5, picture=kind)
    view = look(page, choice)
    (picture,) = images_in(picture_html(page, choice, view))
    pixels = page.pixels(choice.spec)
    expected = PICTURES[kind](pixels, view.selection, choice.config)
    if kind == "overlay":  # its text is the page's
        assert expected.height > pixels.shape[0]
        expected = expected.crop((0, 0, pixels.shape[1], pixels.shape[0]))
    assert picture.size == expected.size

    def difference(other: Image.Image) -> float:
        return float(np.abs(np.asarray(picture, float) - np.asarray(other, float)).mean())

    assert difference(expected) < 3 < difference(Image.new("RGB", expected.size, "#446688"))


def test_before_and_after_are_the_image_and_its_reconstruction(page):
    choice = Choice(51)
    view = look(page, choice)
    after, before = (np.asarray(image, float) for image in images_in(compare_html(page, choice, view)))
    pixels = page.pixels(choice.spec)
    rebuilt = view.selection.reconstruct(pixels)
    assert (rebuilt != pixels).any()
    assert np.abs(before - pixels).mean() < np.abs(before - rebuilt).mean()
    assert np.abs(after - rebuilt).mean() < np.abs(after - pixels).mean()


def test_curve_is_measured_once_and_marks_the_settings(page):
    page.curves.clear()
    charts = [curve_html(page, Choice(level), look(page, Choice(level))) for level in (0, 25)]
    assert len(page.curves) == 1 and charts[0] != charts[1]
    (points,) = page.curves.values()
    pixels = page.pixels(Choice().spec)
    assert dict(points)[0.1] == select(pixels, PruneConfig(threshold=25 / 255)).retain_ratio
    curve_html(page, Choice(method="raster"), look(page, Choice(method="raster")))
    assert len(page.curves) == 2


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
    assert [page.name for page in document.pages] == [f"mine.pdf, page {number}" for number in (1, 2, 3)]
    path.write_bytes(pdf())
    assert [page.name for page in Document.read(path, "mine.pdf").pages] == ["mine.pdf"]
    path.write_bytes(pdf(pages=UPLOADS.pages + 2))
    document = Document.read(path, "mine.pdf")
    assert len(document.pages) == UPLOADS.pages
    assert document.refused == (f"mine.pdf: has more than {UPLOADS.pages} pages; those after them are left out",)
    for content, message in {
        b"text": "mine.png: not an image",
        png_header(30_000, 30_000): "mine.png: .*scale the image down first",
        b"": "mine.png: the file is empty",
        pdf(locked=True): "mine.png: the PDF is locked",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n": "mine.png: .*in a format that is not read",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ImageError, match=message) as caught:
            Document.read(path, "mine.png")
        assert str(tmp_path) not in str(caught.value)


def test_pages_of_a_tiff_are_pages(tmp_path):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    frames[1] = Image.new("RGB", (100, 100))
    frames[0].save(tmp_path / "scan.tif", save_all=True, append_images=frames[1:])
    document = Document.read(tmp_path / "scan.tif")
    assert [page.name for page in document.pages] == [f"scan.tif, page {number}" for number in (1, 2, 3)]
    document = Document.read(tmp_path / "scan.tif", limits=Limits(page_pixels=9999))
    assert [page.name for page in document.pages] == ["scan.tif, page 1", "scan.tif, page 3"]
    (line,) = document.refused
    assert line.startswith("scan.tif#page=2: ") and "10000 pixels" in line
    with pytest.raises(ImageError, match=r"^scan\.tif#page=1: .*4096 pixels"):
        Document.read(tmp_path / "scan.tif", limits=Limits(page_pixels=99))


def test_a_small_upload_of_many_pixels_is_refused_by_its_pixels(tmp_path):
    """Megabytes of upload say nothing about memory."""
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 100_000
    with pytest.raises(ImageError, match=r"a\.png: .*81000000 pixels.*limit of 40000000"):
        Document.read(tmp_path / "a.png")
    (tmp_path / "a.pdf").write_bytes(pdf(pages=20, size=(2400, 2400)))
    document = Document.read(tmp_path / "a.pdf")
    assert len(document.pages) == 2 and document.nbytes <= 3 * UPLOADS.document_pixels
    assert "from page 3 on" in document.refused[0]


def document(pixels: int) -> Document:
    return Document([Page("page", Image.new("RGB", (pixels, 1)))])


def test_sessions_are_apart_and_forgotten():
    sessions = SessionStore(most_sessions=2)
    states = [ViewState(document(9)) for _ in range(3)]
    sessions.put("a", states[0])
    sessions.put("b", states[1])
    assert sessions.get("a") is states[0] and sessions.get("b") is states[1] and sessions.get("c") is None
    sessions.get("a")
    sessions.put("c", states[2])  # b has been away longest
    assert sessions.get("b") is None and sessions.get("a") is states[0]
    sessions.forget("a")
    assert sessions.get("a") is None and len(sessions) == 1


def test_memory_over_all_sessions_is_bounded_in_pixels():
    sessions = SessionStore(most_bytes=3000)
    for name, pixels in (("a", 300), ("b", 300), ("c", 300)):
        sessions.put(name, ViewState(document(pixels)))
    assert (len(sessions), sessions.nbytes) == (3, 2700)
    sessions.get("a")
    sessions.put("d", ViewState(document(500)))  # makes room of those that have been away longest
    assert sessions.get("b") is None and sessions.get("c") is None and sessions.get("a") is not None
    assert sessions.nbytes == 2400
    with pytest.raises(ImageError, match="more than the 0 MB for all visitors"):
        sessions.put("e", ViewState(document(1001)))
    assert sessions.nbytes == 2400
    sessions.put("d", ViewState(document(100)))  # instead of what was there
    assert sessions.nbytes == 1200


def test_what_is_computed_counts_and_only_one_size_of_one_page_is_kept():
    pages = [Page(str(number), Image.new("RGB", (640, 640))) for number in range(2)]
    state = ViewState(Document(pages))
    decoded = 2 * 3 * 640 * 640
    assert state.document.nbytes == decoded
    specs = [ResizeSpec.for_model(model) for model in ("Qwen3-VL-2B", "Qwen2.5-VL-7B")]
    sizes = []
    for spec in specs:
        pages[0].pixels(spec)
        sizes.append(pages[0].pixels(spec).nbytes)
        assert state.document.nbytes == decoded + sizes[-1]
    assert sizes[0] != sizes[1]
    state.turn(2)
    assert state.page is pages[1] and state.document.nbytes == decoded
    sessions = SessionStore(most_bytes=2 * decoded + 100)
    sessions.put("a", ViewState(Document(pages)))
    sessions.put("b", state)
    assert len(sessions) == 2
    pages[1].pixels(specs[0])
    sessions.get("b")  # grown by what was computed, so a has to go
    assert len(sessions) == 1 and sessions.get("a") is None


def test_a_view_is_always_on_a_page():
    state = ViewState(Document([Page(str(number), Image.new("RGB", (9, 9))) for number in range(3)]))
    names = []
    for number in (1, 3, 9, 0):
        state.turn(number)
        names.append(state.page.name)
    assert names == ["0", "2", "2", "0"]


@pytest.mark.parametrize("fault", ["kill", "sleep"])
def test_a_decoder_that_dies_or_never_ends_costs_its_upload_alone(tmp_path, fault):
    uploads = UploadReader(seconds=60 if fault == "kill" else 5)
    (tmp_path / "good.png").write_bytes((EXAMPLES / "slide.png").read_bytes())
    path = Deadly(tmp_path / "good.png", fault)
    match = "the process that decoded it died" if fault == "kill" else "takes longer than 5 s to read"
    with pytest.raises(ImageError, match=f"^bad.png: {match}"):
        uploads.read(path, "bad.png")
    assert UploadReader().read(tmp_path / "good.png", "good.png").pages[0].image.width > 900


class Deadly:
    """A path whose arrival in another process ends it, or takes for ever, as a fault in a decoder would."""

    def __init__(self, path, fault: str) -> None:
        self.path, self.fault = path, fault

    def __reduce__(self):
        return (os._exit, (1,)) if self.fault == "kill" else (time.sleep, (600,))


def test_uploads_are_read_as_documents_are(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pdf(pages=3))
    uploads = UploadReader()
    given, expected = uploads.read(path, "mine.pdf"), Document.read(path, "mine.pdf")
    assert [page.name for page in given.pages] == [page.name for page in expected.pages]
    assert all(a.image.tobytes() == b.image.tobytes() for a, b in zip(given.pages, expected.pages, strict=True))
    path.write_bytes(b"text")
    with pytest.raises(ImageError, match=r"^mine\.png: not an image"):
        uploads.read(path, "mine.png")


def test_examples_are_there():
    files = example_files()
    assert len(files) == 6
    for path in files.values():
        assert all(page.image.width > 160 for page in Document.read(path).pages)
