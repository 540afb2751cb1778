"""The example of a computer-use agent, with the bundled reader and with a server that notes what it is sent."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

AGENT = Path(__file__).parents[2] / "examples" / "gui_agent.py"


def tables(output: str) -> list[list[list[str]]]:
    """Per history the cells of its rows, without the headings."""
    found = []
    for part in output.split(": tokens of the prompt, ms to the first token")[1:]:
        lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
        found.append([[cell.strip() for cell in line] for line in lines[2:]])
    return found


def test_references_cost_less_than_pruning_alone_and_that_less_than_whole_screens() -> None:
    command = [sys.executable, str(AGENT), "--window", "3", "--size", "512x384"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    histories = tables(output)
    assert [len(rows) for rows in histories] == [10] * 3 and "sliding window of 3" in output
    for rows in histories:
        counts = [[float(cell.split(",")[0]) for cell in row[1:]] for row in rows]
        whole, pruned, previous, first_too = counts[-1]
        assert whole > pruned > previous >= first_too
        assert counts[0][1] == counts[0][2] == counts[0][3], "the first screenshot has nothing to refer to"


class Recorder(BaseHTTPRequestHandler):
    """Answers as a server would, and notes what it was asked."""

    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        self._send({"data": [{"id": "served"}]})

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._send({"usage": {"prompt_tokens": 7}} if self.bodies[-1]["model"] == "served" else {}, 200)

    def _send(self, value: dict[str, Any], status: int = 200) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_gets_screenshots_and_settings(recorder: str) -> None:
    spec = importlib.util.spec_from_file_location("gui_agent", AGENT)
    assert spec is not None and spec.loader is not None
    agent = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(agent)
    screens = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    ask = agent.server(recorder)
    for name, settings in agent.SETTINGS.items():
        tokens, seconds = ask(screens, settings, name)
        assert tokens == 7 and seconds > 0
    assert [body["mm_processor_kwargs"]["pixelprune"] for body in Recorder.bodies] == list(agent.SETTINGS.values())
    assert len({body["cache_salt"] for body in Recorder.bodies}) == len(agent.SETTINGS)
    *images, question = Recorder.bodies[0]["messages"][0]["content"]
    sent = [Image.open(io.BytesIO(b64decode(each["image_url"]["url"].split(",")[1]))) for each in images]
    assert [image.getpixel((0, 0)) for image in sent] == [(255, 0, 0), (0, 0, 255)]
    assert question == {"type": "text", "text": agent.QUESTION}
    with pytest.raises(SystemExit, match="no server answers there"):
        agent.server("http://127.0.0.1:9")
