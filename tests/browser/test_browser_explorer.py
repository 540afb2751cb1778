"""The explorer as a visitor uses it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from corpus import EXAMPLES
from odd_images import pdf, png_header
from PIL import Image
from playwright.sync_api import Page, expect

from pixelprune import PruneConfig, Selection, reader, select, select_sequence
from pixelprune.core.frames import frame_files
from pixelprune.core.images import open_image
from pixelprune.models.resize import ResizeSpec

SLIDE = EXAMPLES / "slide.png"
SIMPLE = EXAMPLES.parent / "pages" / "questions.json"
QUESTION = next(row for row in json.loads(SIMPLE.read_text()) if "box" not in row)


def selection(path: Path, **settings) -> Selection:
    """What ``select`` says, computed apart from the explorer."""
    return select(ResizeSpec.for_model("Qwen3-VL-2B").resize(open_image(path)), PruneConfig(**settings))


def kept(page: Page, expected: Selection) -> None:
    """Wait for the number of blocks to be this."""
    number = page.locator("#numbers [data-number=kept]")
    expect(number).to_have_text(f"{expected.num_kept:,} of {expected.num_blocks:,}", timeout=60_000)


def opened(tabs, explorer, **options) -> Page:
    page = tabs.open(explorer[1], **options)
    page.wait_for_selector("#compare img")
    return page


def upload(page: Page, name: str, content: bytes) -> None:
    page.set_input_files("#upload input[type=file]", {"name": name, "mimeType": "image/png", "buffer": content})


def set_level(page: Page, level: int) -> None:
    page.fill("#level input[type=number]", str(level))
    page.press("#level input[type=number]", "Enter")


def pixels_of(page: Page, selector: str) -> str:
    return page.get_attribute(selector, "src") or ""


def test_an_example_is_there_and_others_follow(tabs, explorer):
    page = opened(tabs, explorer)
    assert page.title() == "PixelPrune explorer"
    assert page.inner_text("h1").startswith("PixelPrune")
    kept(page, selection(EXAMPLES / "application-form.png"))
    expect(page.locator("#example label:has-text('form') input")).to_be_checked()
    page.click("#example label:has-text('dashboard')")
    dashboard = selection(EXAMPLES / "dashboard-dark.png")
    kept(page, dashboard)
    expect(page.locator("#picture figcaption")).to_have_text(
        f"dashboard-dark.png: 1920 × 1080 pixels, read at 1920 × 1088; {dashboard.retain_ratio:.1%} of the blocks kept"
    )
    assert page.locator("#chart svg").bounding_box()["height"] > 100


def test_a_page_of_ones_own_and_every_setting(tabs, explorer, uploads):
    page = opened(tabs, explorer)
    upload(page, "mine.png", SLIDE.read_bytes())
    exact = selection(SLIDE)
    kept(page, exact)
    expect(page.locator("#numbers [data-number=retained]")).to_have_text(f"{exact.retain_ratio:.1%}")
    first = pixels_of(page, "#picture img")

    page.focus("#level input[type=range]")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    moved = selection(SLIDE, threshold=0.02)
    kept(page, moved)
    expect(page.locator("#numbers [data-number=threshold]")).to_have_text("0.02 (5 of 255 levels)")
    assert moved.num_kept != exact.num_kept and pixels_of(page, "#picture img") != first

    page.click("#method input")
    page.click("#method [role=option]:has-text('adaptive')")
    kept(page, selection(SLIDE, method="adaptive", threshold=0.02))
    page.click("#lattice input")
    page.click("#lattice [role=option]:has-text('4 x 4')")
    latticed = selection(SLIDE, method="adaptive", threshold=0.02, lattice=4)
    kept(page, latticed)
    expect(page.locator("#numbers [data-number=lattice]")).to_have_text(str(latticed.num_lattice))
    page.click("#lattice input")
    page.click("#lattice [role=option]:has-text('none')")
    kept(page, selection(SLIDE, method="adaptive", threshold=0.02))
    budget = exact.num_kept // 2
    page.fill("#budget input", str(budget))
    page.press("#budget input", "Enter")
    kept(page, selection(SLIDE, method="adaptive", threshold=0.02, max_tokens=budget))
    overlay = pixels_of(page, "#picture img")
    page.click("#picture-kind label:has-text('flow')")
    page.wait_for_function("old => document.querySelector('#picture img').src !== old", arg=overlay)
    assert not [path for path in uploads.rglob("*") if path.suffix == ".png"]  # read, and deleted


def test_a_budget_that_drops_content_warns(tabs, explorer):
    page = opened(tabs, explorer)
    page.fill("#budget input", "300")
    page.press("#budget input", "Enter")
    expect(page.locator("#message [role=alert]")).to_contain_text("max_tokens=300 took threshold ")
    page.fill("#budget input", "0")
    page.press("#budget input", "Enter")
    expect(page.locator("#message [role=alert]")).to_have_count(0)


def test_the_handle_moves_between_image_and_reconstruction(tabs, explorer):
    page = opened(tabs, explorer)
    clip = "getComputedStyle(document.querySelector('.pp-before')).clipPath"
    middle = page.evaluate(clip)
    page.focus(".pp-compare input")
    page.keyboard.press("Home")
    left = page.evaluate(clip)
    page.keyboard.press("End")
    assert len({left, middle, page.evaluate(clip)}) == 3


def test_pages_of_a_pdf(tabs, explorer):
    page = opened(tabs, explorer)
    page.set_input_files(
        "#upload input[type=file]", {"name": "two.pdf", "mimeType": "application/pdf", "buffer": pdf(pages=2)}
    )
    expect(page.locator("#picture img")).to_have_attribute("alt", re.compile("two.pdf, page 1"))
    before = page.inner_text("#numbers [data-number=kept]")
    page.fill("#page input[type=number]", "2")
    page.press("#page input[type=number]", "Enter")
    expect(page.locator("#picture img")).to_have_attribute("alt", re.compile("two.pdf, page 2"))
    assert page.inner_text("#numbers [data-number=kept]") != before


def test_a_history_of_screenshots_is_stepped_through(tabs, explorer):
    """The example, then several files of one's own; the filmstrip, the slider and the settings follow each other."""
    page = opened(tabs, explorer)
    expect(page.locator(".pp-frame")).to_have_count(0)
    page.click("#example label:has-text('screens')")
    files = frame_files(EXAMPLES.parent / "history")
    pixels = [ResizeSpec.for_model("Qwen3-VL-2B").resize(open_image(path)) for path in files]
    reports = select_sequence(pixels, PruneConfig(references="previous")).reports()
    alone = [report.alone for report in reports]

    def strip(counts: list[int]) -> None:
        expect(page.locator(".pp-frame b")).to_have_text([f"{count:,}" for count in counts], timeout=60_000)

    strip([report.kept for report in reports])
    number = page.locator("#numbers [data-number=kept]")
    expect(number).to_have_text(f"{reports[0].kept:,} of 2,040")
    page.click(".pp-frame >> nth=1")
    expect(page.locator("#picture img")).to_have_attribute("alt", re.compile("search-2.png"))
    expect(number).to_have_text(f"{reports[1].kept:,} of 2,040")
    expect(page.locator("#numbers [data-number=before]")).to_have_text(f"{alone[1] - reports[1].kept:,}")
    expect(page.locator(".pp-frame[aria-current]")).to_have_attribute("data-page", "2")
    expect(page.locator("#page input[type=number]")).to_have_value("2")
    expect(page.locator("#code-python")).to_contain_text("references='previous'")
    page.click("#references input")
    page.click("#references [role=option]:has-text('none')")
    expect(number).to_have_text(f"{alone[1]:,} of 2,040")
    strip(alone)
    page.focus("#page input[type=range]")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#picture img")).to_have_attribute("alt", re.compile("search-3.png"))

    page.set_input_files("#upload input[type=file]", [str(files[1]), str(files[0])])
    strip([report.kept for report in reports[:2]])
    expect(page.locator("#picture img")).to_have_attribute("alt", re.compile("search-1.png"))
    upload(page, "mine.png", SLIDE.read_bytes())
    expect(page.locator(".pp-frame")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_the_filmstrip_alone(tabs, explorer, scheme):
    page = opened(tabs, explorer, viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    page.click("#example label:has-text('screens')")
    expect(page.locator(".pp-frame")).to_have_count(3, timeout=60_000)
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1] == 390
    inside, shown = page.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('.pp-strip'))")
    assert inside > shown, "control: there is something to scroll"
    assert page.locator(".pp-frame").first.bounding_box()["height"] >= 44  # points that a finger needs


def test_eight_visitors_bring_pdfs_at_once(tabs, explorer):
    """PDFium must not run in two threads: everybody gets their pages, and the explorer lives on."""
    count = 8
    content = {number: pdf(pages=number, size=(300, 400)) for number in range(2, 2 + count)}
    visitors = {number: opened(tabs, explorer) for number in content}
    for number, page in visitors.items():  # uploads run on while the next begins
        page.set_input_files(
            "#upload input[type=file]",
            {"name": f"of-{number}.pdf", "mimeType": "application/pdf", "buffer": content[number]},
        )
    for number, page in visitors.items():
        expect(page.locator("#picture img")).to_have_attribute(
            "alt", re.compile(f"of-{number}.pdf, page 1"), timeout=120_000
        )
        expect(page.locator("#page input[type=number]")).to_have_attribute("max", str(number))
    kept(opened(tabs, explorer), selection(EXAMPLES / "application-form.png"))


def test_a_question_is_answered_from_the_whole_and_from_the_pruned_image(tabs, explorer):
    """The bundled reader reads a page that is uploaded."""
    file = SIMPLE.parent / QUESTION["image"]
    spec = ResizeSpec.from_processor(json.loads((reader.path() / "preprocessor_config.json").read_text()))
    expected = select(spec.resize(open_image(file)))
    page = opened(tabs, explorer)
    upload(page, "mine.png", file.read_bytes())
    expect(page.locator("#picture img")).to_have_attribute("alt", re.compile("mine.png"))
    page.fill("#question textarea", QUESTION["question"])
    page.click("#ask")
    whole, pruned = (page.locator(f".pp-answer[data-mode={mode}]") for mode in ("whole", "pruned"))
    expect(whole).to_contain_text(f"{expected.num_blocks:,} image tokens; first token after", timeout=120_000)
    expect(pruned).to_contain_text(f"{expected.num_kept:,} image tokens; first token after")
    assert [answer.locator("p").first.inner_text().strip() for answer in (whole, pruned)] == [QUESTION["answer"]] * 2
    assert page.locator(".pp-doubt").count() == 0
    page.click("#samples button:has-text('total')")
    expect(page.locator("#question textarea")).to_have_value("What is the total?")
    page.click("#example label:has-text('form')")
    expect(page.locator("#picture img")).to_have_attribute("alt", re.compile("application-form.png"))
    page.click("#ask")
    expect(page.locator(".pp-doubt")).to_contain_text("1275 x 1650 pixels, which it reads at", timeout=120_000)
    page.fill("#question textarea", "")
    page.click("#ask")
    expect(page.locator("#message")).to_contain_text("Ask something about the image first.")


def test_snippets_are_copied(tabs, explorer):
    page = opened(tabs, explorer, permissions=["clipboard-read", "clipboard-write"])
    set_level(page, 5)
    kept(page, selection(EXAMPLES / "application-form.png", threshold=0.02))
    for name, start in (("python", "from transformers"), ("cli", "pixelprune ask"), ("vllm", "vllm serve")):
        page.click(f"#code-{name} button[aria-label*='opy']")
        page.wait_for_timeout(200)
        text = page.evaluate("navigator.clipboard.readText()")
        assert text.startswith(start) and "0.02" in text


@pytest.mark.parametrize(
    "content, said",
    [
        (b"only text", "fake.png: not an image"),
        (png_header(30_000, 30_000), "scale the image down first"),
        (b"", "fake.png: the file is empty"),
    ],
    ids=["text", "bomb", "empty"],
)
def test_what_cannot_be_shown_is_told_in_the_page(tabs, explorer, content, said):
    page = opened(tabs, explorer)
    before = pixels_of(page, "#picture img")
    upload(page, "fake.png", content)
    expect(page.locator("#message [role=alert]")).to_contain_text(said)
    assert str(EXAMPLES.anchor) not in page.inner_text("#message") and pixels_of(page, "#picture img") == before
    page.click("#example label:has-text('paper')")
    expect(page.locator("#message [role=alert]")).to_have_count(0)


def test_too_large_a_file_is_refused(tabs, explorer, uploads):
    page = opened(tabs, explorer)
    upload(page, "large.png", bytes(2_000_000))
    expect(page.get_by_text(re.compile(r"exceed the maximum allowed size of 1\.0 Mb"))).to_be_visible()
    assert not [path for path in uploads.rglob("*") if path.suffix == ".png"]


def test_visitors_do_not_see_each_other_and_are_forgotten(tabs, explorer):
    shared = explorer[0]
    first, second = opened(tabs, explorer), opened(tabs, explorer)
    upload(first, "mine.png", SLIDE.read_bytes())
    kept(first, selection(SLIDE))
    set_level(second, 1)
    kept(second, selection(EXAMPLES / "application-form.png", threshold=1 / 255))
    assert "mine.png" not in second.content() and "mine.png" in first.content()
    set_level(first, 5)
    kept(first, selection(SLIDE, threshold=0.02))
    count = len(shared.sessions)
    first.context.close()
    deadline = time.monotonic() + 60
    while len(shared.sessions) >= count and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(shared.sessions) < count


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling(tabs, explorer, scheme):
    page = opened(tabs, explorer, viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1] == 390
    for selector in ("#picture img", "#numbers", "#chart svg", "#compare img", "#ask", "#code-vllm"):
        box = page.locator(selector).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, selector
    tops = [page.locator(name).first.bounding_box()["y"] for name in ("#level", "#picture img", "#numbers")]
    assert tops == sorted(tops), "the slider and the picture come before the numbers"
    size = page.evaluate("getComputedStyle(document.querySelector('#picture figcaption')).fontSize")
    assert float(size.removesuffix("px")) >= 14
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 200) == (scheme == "dark")


def test_the_overlay_of_a_dark_screen_is_read_from_the_file(tabs, explorer, tmp_path):
    """A palette PNG with transparency: what people have, not only what the examples are."""
    page = opened(tabs, explorer)
    path = tmp_path / "odd.png"
    Image.open(SLIDE).convert("P").save(path, transparency=0)
    upload(page, "odd.png", path.read_bytes())
    kept(page, selection(path))


def test_the_command_serves_it_until_it_is_stopped() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pixelprune", "explore", "--no-browser", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith(f"The explorer is at http://127.0.0.1:{port}/")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
                assert page.status == 200
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
