"""Take the pictures of the explorer and of a survey's report for the docs, in a headless Chromium.

Needs ``pixelprune[app]``, playwright and Chromium: ``PYTHONPATH=.compat/app .venv/bin/python docs/screenshots.py``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from pixelprune.app.page import launch
from pixelprune.survey import run
from pixelprune.survey.report import write_html

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDE, PHONE = {"width": 1360, "height": 1000}, {"width": 390, "height": 844}


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        survey = run([str(ROOT / "examples" / "images")])
        report = Path(folder, "survey.html")
        write_html(survey, report)
        for scheme in ("light", "dark"):
            shoot(browser, report.as_uri(), f"survey-{scheme}.png", scheme, WIDE, "figure svg")
        page = launch(block=False)
        for scheme in ("light", "dark"):
            shoot(browser, page.local_url, f"explorer-{scheme}.png", scheme, WIDE, "#compare img")
        shoot(browser, page.local_url, "explorer-phone.png", "dark", PHONE, "#compare img")
        shoot(browser, page.local_url, "explorer-history.png", "light", WIDE, "#compare img")
        page.close(verbose=False)
        browser.close()


def shoot(browser: Browser, url: str, name: str, scheme: str, size: dict[str, int], wait: str) -> None:
    context = browser.new_context(color_scheme=scheme, viewport=size, device_scale_factor=2 if size is PHONE else 1)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(wait)
    if "history" in name:
        page.click("#example label:has-text('screens')")
        page.click(".pp-frame >> nth=1")
        page.wait_for_selector(".pp-frame[aria-current][data-page='2']")
        page.wait_for_selector("#picture img[alt*=search-2]")
    elif "explorer" in name:
        page.click("#example label:has-text('dashboard')")
        page.wait_for_selector("#picture img[alt*=dashboard]")
        if size is PHONE:
            page.evaluate("document.querySelector('#level').scrollIntoView()")
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / name)
    with Image.open(IMAGES / name) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)
    context.close()


if __name__ == "__main__":
    main()
