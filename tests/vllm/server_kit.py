"""``vllm serve`` in a process of its own, and the OpenAI client."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import requests
from engine_kit import BYTES
from PIL import Image

PATIENCE = 300  # seconds for a start, on a machine that is busy


@dataclass
class Server:
    """A server that runs, and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> Any:
        from openai import OpenAI

        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)

    def chat(self, text: str, images: tuple[str, ...] = (), **extra: Any) -> tuple[str, int]:
        """The answer of 8 greedy tokens, and the number of tokens in the prompt."""
        content = [{"type": "image_url", "image_url": {"url": url}} for url in images]
        reply = self.client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": [*content, {"type": "text", "text": text}]}],
            temperature=0,
            max_tokens=8,
            extra_body={"ignore_eos": True, "allowed_token_ids": BYTES, **extra},
        )
        return reply.choices[0].message.content, reply.usage.prompt_tokens

    def metric(self, name: str) -> float:
        """The sum of a counter at ``/metrics`` over its labels."""
        text = requests.get(f"{self.url}/metrics", timeout=PATIENCE).text
        values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        assert values, f"no {name} in /metrics"
        return sum(map(float, values))

    def memory(self) -> tuple[int, int]:
        """Resident bytes of the process that prepares images, and of those that it started."""
        parent = psutil.Process(self.process.pid)
        children = parent.children(recursive=True)
        return parent.memory_info().rss, sum(process.memory_info().rss for process in children)


VLLM = (sys.executable, "-m", "vllm.entrypoints.cli.main")


def serve(
    folder: Path, log: Path, *options: str, kwargs: dict[str, Any] | None = None
) -> contextlib.AbstractContextManager[Server]:
    """Start, wait until it answers, and stop."""
    given = () if kwargs is None else ("--mm-processor-kwargs", json.dumps(kwargs))
    return running(log, str(folder), "--served-model-name", "tiny", *options, *given)


@contextlib.contextmanager
def running(log: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """``vllm serve`` with these arguments, at a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*VLLM, "serve", *arguments, "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        **environment,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    server = Server(process, port, log)
    try:
        wait_until_up(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{server.url}/health", timeout=5).ok:
                return
        time.sleep(0.5)
    raise RuntimeError(f"the server did not start:\n{server.log.read_text()[-8000:]}")


def data_url(image: Image.Image) -> str:
    """An image as the OpenAI API takes it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
