"""Every block of README and docs is run, or checked in the way that ``pages.NOT_RUN`` says."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from pages import LANGUAGES, NOT_RUN, PAGES, ROOT, VLLM_PAGES, Block, blocks, commands, not_run, script

from pixelprune.errors import REPOSITORY

PYTHON = [page for page in PAGES if blocks(page, "python") and page not in VLLM_PAGES]
COMMANDS = commands()
RUN = [command for command in COMMANDS if not_run(command) is None]
OPTIONS = [command for command in COMMANDS if command.startswith("python ") and command.split()[1].endswith(".py")]
DATA = [block for page in PAGES for block in blocks(page) if block.language in ("json", "yaml")]


@pytest.mark.parametrize("page", PYTHON)
def test_python(page: str, run, tmp_path: Path) -> None:
    """The blocks of a page, as one script in a process of its own, started as a reader would start it."""
    file = tmp_path / f"page_{Path(page).stem}.py"
    file.write_text(script(page))
    run("python", "-W", "error::DeprecationWarning:__main__", str(file))


@pytest.mark.parametrize("command", RUN)
def test_command(command: str, run) -> None:
    done = run("bash", "-ec", command)
    assert "Traceback" not in done.stderr


def test_a_wrong_command_is_noticed(run) -> None:
    with pytest.raises(AssertionError, match="No such command"):
        run("bash", "-ec", "pixelprune inspekt page.png")


def test_every_way_around_running_is_needed() -> None:
    used = {not_run(command) for command in COMMANDS}
    assert set(NOT_RUN) == used - {None}


def test_every_block_has_a_language_that_is_checked() -> None:
    unknown = [
        f"{block.page}:{block.line}" for page in PAGES for block in blocks(page) if block.language not in LANGUAGES
    ]
    assert not unknown


@pytest.mark.parametrize("block", DATA, ids=lambda block: f"{block.page}:{block.line}")
def test_data_can_be_parsed(block: Block) -> None:
    assert (json.loads if block.language == "json" else yaml.safe_load)(block.text)


def test_notebook(run, tmp_path: Path) -> None:
    """Its cells, as one script, on the bundled reader."""
    cells = json.loads((ROOT / "examples" / "notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[0].startswith("%pip install ") and not any(text[0] == "%" for text in code[1:])
    (tmp_path / "notebook.py").write_text("\n\n".join(code[1:]))
    shown = run("python", str(tmp_path / "notebook.py")).stdout
    assert shown.count("'Cash' from ") == 2 and "\nCash\n[ImageReport(" in shown


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("docker ")])
def test_docker(command: str) -> None:
    words = shlex.split(command)
    assert "UNTESTED" in (ROOT / words[words.index("-f") + 1]).read_text()


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_targets(command: str) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(command.split()[1:]) <= set(targets)


def test_extras_and_where_the_package_comes_from() -> None:
    """In pages, examples and messages alike; nothing is installed from an index on which it is not yet."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Homepage"] == REPOSITORY
    files = [*PAGES.values(), *(ROOT / "src").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    files += (ROOT / "examples").glob("*.ipynb")
    text = "\n".join(path.read_text() for path in files if path.name != "errors.py")  # which makes the hints
    extras = re.findall(r"(?:pixelprune|\.)\[([a-z]+)\]", text) + re.findall(r"install_hint\(['\"](\w+)['\"]\)", text)
    assert extras and set(extras) <= set(project["optional-dependencies"])
    sources = re.findall(r"install [^\n]*?\"pixelprune(?:\[\w+\])?([^\"\\\n{]*)", text)
    assert sources and set(sources) <= {f" @ git+{REPOSITORY}", " @ file:///path/to/the.whl"}


@pytest.mark.parametrize("command", OPTIONS)
def test_options(command: str) -> None:
    """Each option of a program of the repository that is not run is defined there."""
    _, file, *arguments = shlex.split(command)
    options = {
        argument.partition("=")[0] for argument in arguments if argument.startswith("--") and " " not in argument
    }
    assert all(f'"{option}"' in (ROOT / file).read_text() for option in options), options
