"""What each step of a computer-use agent costs: whole screenshots, pruned ones, and pruned ones with references.

Headless Chromium opens a page of this file and is used as an agent would use it: a word is typed, rows are selected, a
dialog opens. The steps are written down here, not chosen by the model: what is measured is what a step costs. At each
step the model gets a history of screenshots and one question, and the first token is waited for. Three histories: a
sliding window, the first screenshot with the latest ones, and all.

    pip install playwright                  # and Chromium, for instance: apt-get install chromium
    python examples/gui_agent.py            # the bundled reader in transformers, which caches nothing between steps
    vllm serve Qwen/Qwen3-VL-2B-Instruct --mm-processor-kwargs '{"pixelprune": {}}' --trust-request-mm-kwargs
    python examples/gui_agent.py --server http://localhost:8000 --size 1280x800
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

from PIL import Image

QUESTION = "What is selected?"
#: What is done to each screenshot, by name; None reads it whole.
SETTINGS: dict[str, dict[str, Any] | None] = {
    "whole": None,
    "pruned": {},
    "previous": {"references": "previous"},
    "first+previous": {"references": "first+previous"},
}
PAGE = """
<style>
  body { font: 15px sans-serif; margin: 0; color: #223 }
  header { background: #27408b; color: white; padding: 12px 20px; font-size: 18px }
  main { display: flex; gap: 24px; padding: 16px 20px } ul { padding: 0; margin: 0; width: 220px; list-style: none }
  li { padding: 7px 10px; border-bottom: 1px solid #dde } li.on { background: #ffe9b8 }
  input { font: inherit; padding: 6px; width: 190px; margin-bottom: 10px }
  dialog { border: 1px solid #889; padding: 24px }
</style>
<header>Orders</header>
<main><div><input placeholder="Search"><ul></ul></div><p id="detail">Select an order.</p></main>
<dialog><p>Order sent.</p><button>Close</button></dialog>
<script>
  const names = ["Apples", "Apricots", "Bread", "Butter", "Carrots", "Cheese", "Coffee", "Flour", "Honey", "Lentils"];
  const list = document.querySelector("ul"), search = document.querySelector("input");
  function show() {
    list.replaceChildren(...names.filter(n => n.toLowerCase().includes(search.value.toLowerCase())).map(name => {
      const row = document.createElement("li"); row.textContent = name;
      row.onclick = () => {
        document.querySelectorAll("li").forEach(r => r.className = ""); row.className = "on";
        document.getElementById("detail").textContent = `${name}: ${3 * name.length} boxes, ${name.length}.50 each.`;
      };
      return row;
    }));
  }
  search.oninput = show; show();
</script>
"""

Screens = list[Image.Image]
#: Asks about screenshots with some settings; returns prompt tokens and seconds to the first token. The name keeps the
#: prefix caches of two runs apart.
Ask = Callable[[Screens, "dict[str, Any] | None", str], tuple[int, float]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--server", metavar="URL", help="a vLLM server with the plugin; else transformers, here")
    options.add_argument("--model", help="for transformers: a folder or a hub id (the bundled reader)")
    options.add_argument("--size", default="640x480", help="of the browser's window (%(default)s)")
    options.add_argument("--window", type=int, default=5, help="screenshots that are sent at a step (%(default)s)")
    args = options.parse_args()
    try:
        width, height = map(int, args.size.split("x"))
    except ValueError:
        raise SystemExit(f"--size must be WIDTHxHEIGHT, such as 640x480; got {args.size!r}") from None
    if args.window < 2:
        raise SystemExit(f"--window must be at least 2; got {args.window}")
    screens = list(use_the_page(width, height))
    ask = server(args.server) if args.server else transformers(args.model)
    histories = {
        f"sliding window of {args.window}": lambda step: screens[max(0, step + 1 - args.window) : step + 1],
        f"the first and the latest {args.window - 1}": lambda step: [
            screens[number] for number in sorted({0, *range(max(0, step + 2 - args.window), step + 1)})
        ],
        "all screenshots": lambda step: screens[: step + 1],
    }
    for settings in SETTINGS.values():
        ask(screens[:2], settings, "warm up")  # what is compiled or loaded at first is not a step's cost
    for label, history in histories.items():
        costs: dict[str, list[tuple[int, float]]] = {name: [] for name in SETTINGS}
        for step in range(len(screens)):
            for name, settings in SETTINGS.items():  # in turn, so that a busy machine slows all alike
                costs[name].append(ask(history(step), settings, f"{label} {name}"))
        report(label, costs)


def use_the_page(width: int, height: int) -> Iterator[Image.Image]:
    """A screenshot after each step."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("this needs playwright: pip install playwright") from None
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        raise SystemExit("this needs Chromium; install it, for instance with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_content(PAGE)
        steps: list[Callable[[], Any]] = [
            lambda: None,
            lambda: page.click("li >> nth=3"),
            lambda: page.click("li >> nth=6"),
            lambda: page.type("input", "c"),
            lambda: page.type("input", "h"),
            lambda: page.click("li >> nth=0"),
            lambda: page.evaluate("document.querySelector('dialog').showModal()"),
            lambda: page.evaluate("document.querySelector('dialog').close()"),
            lambda: page.fill("input", ""),
        ]
        for step in steps:
            step()
            yield Image.open(io.BytesIO(page.screenshot(caret="hide"))).convert("RGB")
        browser.close()


def transformers(model: str | None) -> Ask:
    """The model in this process. It caches nothing between two questions."""
    from pixelprune import PruneConfig
    from pixelprune.hf.chat import Chat

    chat = Chat(model)

    def ask(screens: Screens, settings: dict[str, Any] | None, name: str) -> tuple[int, float]:
        chat.config = PruneConfig(**settings or {})
        answer = chat.answer(screens, QUESTION, "whole" if settings is None else "pruned", max_new_tokens=1)
        return answer.prompt_tokens, answer.first_token

    return ask


def server(url: str) -> Ask:
    """A vLLM server with the plugin, through the OpenAI API."""

    def call(path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            url.rstrip("/") + path, body and json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{url}{path}: {error.read().decode()}") from None
        except urllib.error.URLError as error:
            raise SystemExit(f"{url}: no server answers there ({error.reason})") from None

    model = call("/v1/models")["data"][0]["id"]
    run = uuid.uuid4().hex  # an earlier run must not have filled the prefix cache

    def ask(screens: Screens, settings: dict[str, Any] | None, name: str) -> tuple[int, float]:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(screen)}} for screen in screens
        ]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}],
            "max_tokens": 1,
            "temperature": 0,
            "cache_salt": f"{run} {name}",
            "mm_processor_kwargs": {"pixelprune": settings},
        }
        start = time.perf_counter()
        reply = call("/v1/chat/completions", body)
        return reply["usage"]["prompt_tokens"], time.perf_counter() - start

    return ask


def data_url(image: Image.Image) -> str:
    """An image as the OpenAI API takes it."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def report(label: str, costs: dict[str, list[tuple[int, float]]]) -> None:
    """A table: per step the prompt's tokens and the milliseconds to the first token."""
    print(f"\n{label}: tokens of the prompt, ms to the first token\n")
    print("| step |" + "".join(f" {name} |" for name in costs))
    print("| --- |" + " --- |" * len(costs))
    for step, row in enumerate(zip(*costs.values(), strict=True), start=1):
        print(f"| {step} |" + "".join(f" {tokens}, {seconds * 1e3:.0f} |" for tokens, seconds in row))
    means = [(fmean(tokens for tokens, _ in each), fmean(seconds for _, seconds in each)) for each in costs.values()]
    print("| mean |" + "".join(f" {tokens:.0f}, {seconds * 1e3:.0f} |" for tokens, seconds in means), flush=True)


if __name__ == "__main__":
    main()
