"""The blocks of README and docs that need vLLM, on a tiny model under the name that they use."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from server_kit import PATIENCE, VLLM, data_url, running

from tests.docs.hub import MODEL, fill_hub
from tests.docs.pages import ROOT, VLLM_PAGES, commands, text_of

(PAGE,) = VLLM_PAGES
#: Pixels of an image at most: an engine profiles itself with the largest.
MOST = 640 * 32 * 32
COMMANDS = [command for command in commands() if command.startswith("vllm ")]


def build(folder: Path) -> None:
    """A model whose largest image a CPU can encode."""
    subprocess.run([sys.executable, str(Path(__file__).with_name("build.py")), str(folder), "qwen3_vl"], check=True)
    for file in (folder / "qwen3_vl").iterdir():
        shutil.move(file, folder)
    settings = folder / "preprocessor_config.json"
    values = json.loads(settings.read_text())
    settings.write_text(json.dumps({**values, "size": {"shortest_edge": 65536, "longest_edge": MOST}}))


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("hub")
    fill_hub(home, build)
    return {"HF_HOME": str(home), "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "PYTHONPATH": str(ROOT / "src")}


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copy(ROOT / "examples" / "images" / "application-form.png", tmp_path / "page.png")
    return tmp_path


def run_python(folder: Path, environment: dict[str, str], text: str) -> str:
    """What the text prints, run as a file of its own."""
    (folder / "snippet.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "snippet.py"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


def test_the_commands_are_these() -> None:
    kinds = [command.split()[1] for command in COMMANDS]
    assert kinds == ["serve", "run-batch"], "a new command needs a test here"


def test_offline(folder, environment) -> None:
    """The script, with a small engine that compiles nothing."""
    text = text_of(PAGE, "python", "from PIL import")
    assert text.count(f'LLM("{MODEL}", ') == 1
    text = text.replace(f'LLM("{MODEL}", ', f'LLM("{MODEL}", enforce_eager=True, max_model_len=4096, ')
    lines = run_python(folder, environment, text).splitlines()  # among those of vLLM's log
    (pruned,) = [int(line) for line in lines if line.isdigit()]
    assert 64 < pruned < MOST // 32**2 // 2


def test_server_and_client(folder, environment) -> None:
    (serve,) = [shlex.split(command)[2:] for command in COMMANDS if command.startswith("vllm serve")]
    small = ["--max-model-len", "4096", "--enforce-eager", "--trust-request-mm-kwargs"]
    client = text_of(PAGE, "python", "from openai import")
    with running(folder / "log", *serve, *small, **environment) as server:
        assert client.count("localhost:8000") == 1
        here = client.replace("localhost:8000", f"127.0.0.1:{server.port}")
        pruned = run_python(folder, environment, here)
        whole = run_python(folder, environment, re.sub(r'"pixelprune": {[^}]*}', '"pixelprune": None', here))
    counts = [int(output.split()[-1]) for output in (pruned, whole)]
    assert counts[0] < counts[1] / 2


def test_files_of_requests(folder, environment) -> None:
    from PIL import Image

    (command,) = [shlex.split(command)[1:] for command in COMMANDS if command.startswith("vllm run-batch")]
    request = json.loads(text_of(PAGE, "json", '{"custom_id"'))
    with Image.open(folder / "page.png") as page:
        request["body"]["messages"][0]["content"][0]["image_url"]["url"] = data_url(page)
    request["body"]["max_tokens"] = 8
    (folder / "requests.jsonl").write_text(json.dumps(request) + "\n")
    done = subprocess.run(
        [*VLLM, *command, "--max-model-len", "4096", "--enforce-eager"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    answer = json.loads((folder / "answers.jsonl").read_text())
    assert answer["custom_id"] == "1" and not answer["error"]
    assert answer["response"]["body"]["usage"]["prompt_tokens"] < MOST // 32**2 // 2
