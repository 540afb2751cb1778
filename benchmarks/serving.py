"""Throughput and time to first token of `vllm serve` with and without pruning, on a Qwen3-VL with random weights.

One server; each request says what to prune, so all settings share it. Every request brings an image that
differs from all others in a pixel: no cache of vLLM holds it. Settings take turns, round after round; a round sends
each image once, from a number of clients at a time. Times are the client's: decoding the image, resizing and selection
are inside.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
from PIL import Image
from prefill import SHAPES, build_config
from transformers import AutoConfig

from pixelprune import PruneConfig
from pixelprune.check.tiny import build_tiny

QUESTION = "What does this page say?"
COLUMNS = {
    "threshold": "{threshold}",
    "prompt tokens": "{prompt_tokens}",
    "of unpruned": "{token_ratio:.1%}",
    "blocks kept": "{retained}",
    "requests/s": "{throughput:.2f}",
    "speed-up": "{speedup:.2f}",
    "by tokens": "{by_tokens:.2f}",
    "TTFT p50 ms": "{ttft_p50_ms:.0f}",
    "TTFT p99 ms": "{ttft_p99_ms:.0f}",
    "selection ms/image": "{selection}",
}


def main(arguments: list[str] | None = None) -> None:
    options = common.parser(__doc__, repeats=3)
    options.add_argument("--shape", choices=SHAPES, default="tiny", help="the model's size (%(default)s)")
    options.add_argument("--thresholds", type=float, nargs="*", default=[0.0, 0.02, 0.05], help="(%(default)s)")
    options.add_argument("--method", default="pred2d", help="the rule (%(default)s)")
    options.add_argument("--clients", type=int, default=4, metavar="N", help="requests at a time (%(default)s)")
    options.add_argument("--tokens", type=int, default=4, metavar="N", help="tokens of an answer (%(default)s)")
    options.add_argument("--dtype", default="float32", help="of the model (%(default)s)")
    options.add_argument("--max-model-len", type=int, default=16384, help="of the server (%(default)s)")
    options.add_argument("--log", type=Path, default=Path(os.devnull), help="file for what the server says")
    options.add_argument("--serve", type=shlex.split, default=[], metavar="OPTIONS", help="more for vllm serve, quoted")
    args = options.parse_args(arguments)
    for threshold in args.thresholds:
        PruneConfig(method=args.method, threshold=threshold)  # wrong ones end here
    facts = {**common.machine(_device()), "vllm": vllm_version()}
    print(common.machine_line(facts), flush=True)
    images = [picture.image for picture in common.load(args.images)]
    settings: list[dict[str, Any] | None] = [None]
    settings += [{"method": args.method, "threshold": threshold} for threshold in args.thresholds]
    with tempfile.TemporaryDirectory() as folder:
        build_model(Path(folder), args.shape)
        with serve(Path(folder), args) as server:
            rounds = measure(server, images, settings, args)
    rows = [summary(chosen, rounds[number], rounds[0]) for number, chosen in enumerate(settings)]
    print(
        f"\nQwen3-VL {args.shape}, random weights, {args.dtype}; {len(images)} images a round, {args.repeats} rounds, "
        f"{args.clients} clients, {args.tokens} tokens of answer; the median round counts, TTFT over all\n"
    )
    print(common.table(rows, COLUMNS))
    shown = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    for name in ("images", "json", "log"):
        shown.pop(name)
    common.save(args.json, facts, settings=shown, results=rows)


def _device() -> str:
    """What vLLM serves on here."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def vllm_version() -> str:
    from pixelprune.vllm.compat import installed_version

    return installed_version()


def build_model(folder: Path, shape: str) -> None:
    """Config, tokenizer and image processor; vLLM makes up the weights."""
    build_tiny(folder, "qwen3_vl", weights=False)
    config = build_config(shape, AutoConfig.from_pretrained(folder))
    if shape == "tiny":  # vLLM's CPU attention has no heads of 16
        config.text_config.head_dim = 32
        config.text_config.rope_parameters["mrope_section"] = [8, 4, 4]
    config.architectures = ["Qwen3VLForConditionalGeneration"]  # what vLLM goes by
    config.save_pretrained(folder)


@dataclass(frozen=True)
class Server:
    """Where it answers."""

    url: str

    def post(self, body: dict[str, Any]) -> tuple[float, int]:
        """Seconds to the first token, and the number of tokens in the prompt."""
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode(),
            {"Content-Type": "application/json"},
        )
        start = time.perf_counter()
        first, tokens = None, 0
        try:
            with urllib.request.urlopen(request) as reply:
                for line in reply:
                    if not line.startswith(b"data: {"):
                        continue
                    event = json.loads(line[6:])
                    if first is None and event["choices"] and "content" in event["choices"][0]["delta"]:
                        first = time.perf_counter() - start
                    if event.get("usage"):
                        tokens = event["usage"]["prompt_tokens"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"the server refused a request: {error.read().decode()}") from None
        if first is None or not tokens:
            raise SystemExit("the server closed a stream without an answer")
        return first, tokens

    def counters(self) -> dict[str, float]:
        """The plugin's counters."""
        with urllib.request.urlopen(f"{self.url}/metrics") as reply:
            text = reply.read().decode()
        return {name: float(value) for name, value in re.findall(r"^pixelprune_(\w+)_total (\S+)$", text, re.MULTILINE)}


@contextlib.contextmanager
def serve(folder: Path, args: argparse.Namespace) -> Iterator[Server]:
    """Start the server, wait until it answers, stop it in the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "model", "--load-format", "dummy"]
    command += ["--dtype", args.dtype, "--max-model-len", str(args.max_model_len)]
    command += [
        "--limit-mm-per-prompt",
        '{"image": 1, "video": 0}',
        "--no-enable-prefix-caching",
        "--trust-request-mm-kwargs",
    ]
    command += args.serve
    server = Server(f"http://127.0.0.1:{port}")
    with args.log.open("wb") as log:
        # On a CPU vLLM takes 92 % of all memory unless this sets how much; elsewhere it is ignored.
        environment = {"VLLM_CPU_KVCACHE_SPACE": "4", **os.environ}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit("vllm serve ended before it answered; see what it says with --log FILE")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/health", timeout=5):
                break
            time.sleep(1)
        yield server
    finally:
        process.terminate()
        process.wait()


def measure(
    server: Server, images: list[Image.Image], settings: list[dict[str, Any] | None], args: argparse.Namespace
) -> list[list[dict[str, Any]]]:
    """Per setting, per round: seconds, times to the first token, prompt tokens and what the plugin counted."""
    number = 0
    rounds: list[list[dict[str, Any]]] = [[] for _ in settings]
    for turn in range(args.repeats + 1):  # the first round warms up
        for place, chosen in enumerate(settings):
            bodies = []
            for image in images:
                bodies.append(body(image, number, chosen, args.tokens))
                number += 1
            before = server.counters()
            start = time.perf_counter()
            with ThreadPoolExecutor(args.clients) as pool:
                replies = list(pool.map(server.post, bodies))
            seconds = time.perf_counter() - start
            counted = {name: value - before.get(name, 0) for name, value in server.counters().items()}
            if turn:
                rounds[place].append(
                    {
                        "seconds": seconds,
                        "ttft": [first for first, _ in replies],
                        "prompt_tokens": sum(tokens for _, tokens in replies),
                        "counted": counted,
                    }
                )
    return rounds


def body(image: Image.Image, number: int, settings: dict[str, Any] | None, tokens: int) -> dict[str, Any]:
    """A request with an image like no other: its first pixels hold the number."""
    pixels = np.array(image)
    pixels[0, 0] = [number % 256, number // 256 % 256, number // 65536]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    return {
        "model": "model",
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": tokens,
        "ignore_eos": True,
        "allowed_token_ids": list(range(32, 127)),
        "mm_processor_kwargs": {"pixelprune": settings},
    }


def summary(
    settings: dict[str, Any] | None, rounds: list[dict[str, Any]], unpruned: list[dict[str, Any]]
) -> dict[str, Any]:
    """One row: the median round's throughput, its share of tokens, and percentiles of the time to the first token."""
    requests = len(rounds[0]["ttft"])
    seconds = statistics.median(one["seconds"] for one in rounds)
    first = [value * 1e3 for one in rounds for value in one["ttft"]]
    tokens = statistics.median(one["prompt_tokens"] for one in rounds)
    whole = statistics.median(one["prompt_tokens"] for one in unpruned)
    counted = rounds[-1]["counted"] if settings else {}
    retained = counted["kept_blocks"] / counted["blocks"] if counted else 1.0
    return {
        "threshold": "none" if settings is None else f"{settings['threshold']:g}",
        "prompt_tokens": int(tokens),
        "token_ratio": tokens / whole,
        "retained_ratio": retained,
        "retained": f"{retained:.1%}",
        "throughput": requests / seconds,
        "speedup": statistics.median(one["seconds"] for one in unpruned) / seconds,
        "by_tokens": whole / tokens,
        "ttft_p50_ms": float(np.percentile(first, 50)),
        "ttft_p99_ms": float(np.percentile(first, 99)),
        "selection_ms": counted["selection_seconds"] / counted["images"] * 1e3 if counted else None,
        "selection": f"{counted['selection_seconds'] / counted['images'] * 1e3:.1f}" if counted else "-",
        "seconds": [one["seconds"] for one in rounds],
    }


if __name__ == "__main__":
    common.run(main)
