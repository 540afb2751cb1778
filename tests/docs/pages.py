"""The fenced blocks of README and docs, and how each kind of shell command in them is checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "cli.md"
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if path != GENERATED
}

#: Languages of blocks, and what a test does with them; ``text`` is neither code nor data.
LANGUAGES = ("python", "sh", "json", "yaml", "text")

#: Pages whose Python needs vLLM; tests/vllm/test_documentation.py runs them.
VLLM_PAGES = ("docs/serving.md",)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, its language, its first line in the page (from 0) and its text."""

    page: str
    language: str
    line: int
    text: str


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The blocks of a page, in order, of one language or of all."""
    fences = [token for token in MarkdownIt().parse(PAGES[page].read_text()) if token.type == "fence"]
    found = [Block(page, token.info, token.map[0] + 1, token.content) for token in fences if token.map is not None]
    return [block for block in found if language in (None, block.language)]


def script(page: str) -> str:
    """The Python of a page as one script, each line where the page has it, so that a traceback names the right line."""
    lines: list[str] = []
    for block in blocks(page, "python"):
        lines += [""] * (block.line - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


def commands(pages: Iterable[str] = tuple(PAGES)) -> dict[str, str]:
    """Every shell command of some pages, without its comment, and the first page that has it."""
    found: dict[str, str] = {}
    for page in pages:
        for block in blocks(page, "sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                command = " ".join(re.sub(r"(^|\s)#.*", "", line).split())
                if command:
                    found.setdefault(command, page)
    return found


#: Commands that the tests do not run as they are: how each begins, and what is done instead.
NOT_RUN = {
    r"make ": "hours, or the tests themselves: the target is looked up in the Makefile",
    r"(pip|pipx|uv) ": "changes the environment: the extras are looked up in the package's metadata",
    r"docker ": "needs Docker: the file is looked up",
    r"vllm ": "needs vLLM: tests/vllm/test_documentation.py runs it",
    r"python examples/ray_batch.py ": "needs vLLM: tests/vllm/test_ray.py runs it; its options are looked up",
    r"python benchmarks/": "takes long: tests of each benchmark run it small; its options are looked up",
    r"python -m recipes.tiny_reader.": "needs models that take hours to train; tests/reader runs it small",
    r"python docs/lattice_table.py": "writes a page of the docs: tests/reader/test_reader_evaluate.py compares it",
    r"accelerate launch ": "starts processes: tests/train/test_train_distributed.py trains in two",
    r"pixelprune explore": "serves until it is stopped: tests/browser runs it",
    r"pixelprune evaluate ": "needs a harness: tests/harnesses runs it; tests/evaluate loads the configs",
    r"lmms-eval ": "needs lmms-eval: tests/harnesses runs its like",
    r"git clone ": "needs the network",
    r"pixelprune doctor": "tests/hf/test_cli.py runs it",
}


def not_run(command: str) -> str | None:
    """How a command that is not run begins, as in :data:`NOT_RUN`; None for one that is."""
    return next((start for start in NOT_RUN if re.match(start, command)), None)


def text_of(page: str, language: str, start: str) -> str:
    """The one block of a page that has a line with this beginning."""
    (block,) = [
        block for block in blocks(page, language) if re.search(f"^{re.escape(start)}", block.text, re.MULTILINE)
    ]
    return block.text
