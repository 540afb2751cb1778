"""What the benchmarks share: images, the machine's description, timing, peak memory, tables."""

from __future__ import annotations

import argparse
import csv
import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pixelprune.core.images import open_images
from pixelprune.errors import PixelPruneError

EXAMPLES = Path(__file__).parents[1] / "examples" / "images"


@dataclass(frozen=True)
class Picture:
    """A decoded RGB image with its name and the group it is reported in."""

    name: str
    group: str
    image: Image.Image


def parser(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("images", nargs="*", type=Path, help="images, PDFs or folders of them (examples/images)")
    options.add_argument(
        "--repeats",
        type=_positive,
        default=repeats,
        help="timed runs of each, of which the median counts (%(default)s)",
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="also write every number to this file")
    return options


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; an error that the library raises on purpose is one line, not a traceback."""
    try:
        main()
    except PixelPruneError as error:
        raise SystemExit(str(error)) from None


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {value}")
    return value


def load(paths: Sequence[Path]) -> list[Picture]:
    """Decode all images, the examples if none are named.

    A folder's ``manifest.csv`` (columns file, kind) says what its images are.

    Raises:
        SystemExit: a file cannot be read, or there is no image.
    """
    pictures = []
    for path in paths or [EXAMPLES]:
        kinds = _kinds(path if path.is_dir() else path.parent)
        files = sorted(f for f in path.iterdir() if f.suffix.lower() not in _NOT_IMAGES) if path.is_dir() else [path]
        for file in (f for f in files if not f.is_dir()):
            try:
                for name, image in open_images(file):
                    pictures.append(Picture(Path(name).name, _group(kinds.get(file.name, "")), image))
            except PixelPruneError as error:
                raise SystemExit(str(error)) from None
    if not pictures:
        raise SystemExit(f"no image in {', '.join(map(str, paths)) or EXAMPLES}")
    return pictures


_NOT_IMAGES = {".csv", ".json", ".md", ".txt"}


def _kinds(folder: Path) -> dict[str, str]:
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        return {}
    with manifest.open(newline="", encoding="utf-8") as lines:
        return {row["file"]: row["kind"] for row in csv.DictReader(lines) if "file" in row and "kind" in row}


def _group(kind: str) -> str:
    return "4K screenshots" if kind.startswith("gui-4k") else "text pages" if kind.startswith("doc-") else "others"


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the numbers were measured on."""
    versions = {}
    for package in ("torch", "transformers", "numba", "numpy", "pillow"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": _gpu_model() if device.startswith("cuda") else None,
        "python": platform.python_version(),
        **versions,
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpu_model() -> str:
    import torch

    return torch.cuda.get_device_name()


def machine_line(facts: dict[str, Any]) -> str:
    """One line that names the machine."""
    names = [facts["cpu"], f"{facts['cores']} cores", *([facts["gpu"]] if facts["gpu"] else [])]
    versions = [f"{name} {value}" for name, value in facts.items() if name not in ("cpu", "cores", "gpu")]
    return ", ".join([*names, *versions])


def interleaved(
    functions: dict[str, Callable[[], Any]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median milliseconds of each function; they take turns, so that a busy machine slows all alike.

    ``clock`` is in seconds. One untimed round first. Garbage is collected between calls, not inside.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    gc.collect()
    gc.freeze()  # what is alive now is not looked at again, which makes the collections between calls cheap
    gc.disable()
    try:
        for turn in range(repeats + 1):
            for name, function in functions.items():
                gc.collect()
                start = clock()
                function()
                elapsed = clock() - start
                if turn:
                    times[name].append(elapsed * 1e3)
    finally:
        gc.enable()
        gc.unfreeze()
    return {name: statistics.median(values) for name, values in times.items()}


def peak_rss_growth(function: Callable[[], Any]) -> int | None:
    """Bytes by which this process's resident memory peaks above its start during a call.

    Linux with glibc only, ``None`` elsewhere: memory that the allocator holds from earlier calls is given back first,
    or the call would fill it unseen, and the kernel's record of the peak is reset.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return None
    before = _status("VmRSS")
    result = function()
    growth = _status("VmHWM") - before
    del result
    return max(growth, 0)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> str:
    """A markdown table: ``columns`` maps a heading to a format with the rows' keys, such as ``{ms:.1f}``."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = [form.format(**row) for form in columns.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def megabytes(value: int | None) -> str:
    """Bytes as MB for a table."""
    return "n/a" if value is None else f"{value / 1e6:.0f}"


def save(path: Path | None, facts: dict[str, Any], **results: Any) -> None:
    """Write the machine and all results as JSON."""
    if path is not None:
        path.write_text(json.dumps({"machine": facts, **results}, indent=1) + "\n", encoding="utf-8")


def peak_memory(run: Callable[[], Any], device: Any) -> int:
    """The most memory of a CUDA device while ``run()`` runs, weights included, in bytes."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return int(torch.cuda.max_memory_allocated(device))
