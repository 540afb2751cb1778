"""A real Chromium, an explorer to look at, and pages that must leave the console clean and the network alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from pixelprune.app.answers import Answers
from pixelprune.app.document import SessionStore, example_files
from pixelprune.app.explorer import Explorer
from pixelprune.app.page import serve

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    assert path, "these tests need Chromium; install it, for instance with: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield chromium
        chromium.close()


class Tabs:
    """Opens pages, each in a context of its own, and notes what goes wrong in them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.contexts: list[BrowserContext] = []
        self.faults: list[str] = []

    def open(self, url: str, **options) -> Page:
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        context = self._browser.new_context(**options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("request", lambda request: self._check(request.url))
        page.goto(url)
        return page

    def _note(self, kind: str, text: str) -> None:
        if kind == "error":
            self.faults.append(text)

    def _check(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1", "file:", "data:", "blob:")):
            self.faults.append(f"asks the network for {url}")


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Tabs]:
    tabs = Tabs(browser)
    yield tabs
    for context in tabs.contexts:
        context.close()
    assert tabs.faults == []


@pytest.fixture(scope="session")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Gradio puts uploaded files into."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="session")
def explorer(uploads: Path) -> Iterator[tuple[Explorer, str]]:
    """An explorer with the bundled reader, and its address."""
    explorer = Explorer(Answers(device="cpu"), SessionStore(), example_files(), most_megabytes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))  # Gradio's own setting
        page = serve(explorer, block=False)
        yield explorer, page.local_url
        page.close(verbose=False)
