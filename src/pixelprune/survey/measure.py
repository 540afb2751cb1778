"""What a worker process does: decode an image, resize it as the model would, and count what each setting keeps."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from PIL import Image

from ..core.analysis import count_distinct
from ..core.config import Method, Metric, PruneConfig
from ..core.images import open_bytes, open_images
from ..core.select import select
from ..errors import PixelPruneError
from .records import CURVE, LATTICES, LEVELS, METHODS, ImageRow, Problem, Settings, setting_key
from .sources import Item


@dataclass
class Outcome:
    """What became of one item: rows, of which a PDF has several, and problems."""

    key: str
    rows: list[ImageRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def config_for(method: str, level: int, metric: str) -> PruneConfig:
    """The settings of a measured setting."""
    return PruneConfig(cast(Method, method), cast(Metric, metric), level / 255)


def measure_all(items: Sequence[Item], settings: Settings) -> list[Outcome]:
    """Measure some items; what fails is in their outcomes."""
    return [measure_item(item, settings) for item in items]


def measure_item(item: Item, settings: Settings) -> Outcome:
    """Measure every image of an item."""
    outcome = Outcome(item.key)
    start = time.perf_counter()
    try:
        for name, image in decode(item, settings.dpi):
            read_ms = (time.perf_counter() - start) * 1000
            try:
                outcome.rows.append(measure(name, item, image, settings, read_ms))
            except PixelPruneError as error:
                outcome.problems.append(Problem(name, _line(name, error)))
            start = time.perf_counter()
    except PixelPruneError as error:
        outcome.problems.append(Problem(item.name, _line(item.name, error)))
    return outcome


def decode(item: Item, dpi: float) -> Iterator[tuple[str, Image.Image]]:
    """The images of an item with their names: one, or all pages of a PDF in an archive."""
    if item.error is not None:
        raise PixelPruneError(item.error)
    if item.path is not None:
        for _, image in open_images(item.path, dpi, pages=None if item.page is None else [item.page]):
            yield item.name, image
    else:
        yield from open_bytes(item.content or b"", item.name, dpi)


def measure(name: str, item: Item, image: Image.Image, settings: Settings, read_ms: float = 0.0) -> ImageRow:
    """Measure one image at all settings of :data:`pixelprune.survey.records.MEASURED`."""
    block = settings.spec.block_size
    start = time.perf_counter()
    pixels = settings.spec.resize(image)
    resized = time.perf_counter()
    exact = select(pixels, config_for("pred2d", 0, settings.metric), block_size=block)
    selected = time.perf_counter()
    kept: dict[str, int] = {}
    for level in CURVE:
        selection = select(pixels, config_for("pred2d", level, settings.metric), block_size=block) if level else exact
        kept[setting_key("pred2d", level)] = selection.num_kept
        for lattice in LATTICES:
            # A lattice adds its dropped blocks and changes nothing else, so that it need not be selected with.
            added = np.count_nonzero(~selection.keep[::lattice, ::lattice])
            kept[setting_key("pred2d", level, lattice)] = selection.num_kept + int(added)
    for method in METHODS:
        for level in LEVELS:
            if method != "pred2d":
                config = config_for(method, level, settings.metric)
                kept[setting_key(method, level)] = select(pixels, config, block_size=block).num_kept
    distinct = count_distinct(pixels, exact)
    end = time.perf_counter()
    return ImageRow(
        name=name,
        group=item.group,
        source=item.source,
        index=item.index,
        width=image.width,
        height=image.height,
        rows=exact.grid[0],
        cols=exact.grid[1],
        distinct=distinct,
        kept=kept,
        read_ms=read_ms,
        resize_ms=(resized - start) * 1000,
        select_ms=(selected - resized) * 1000,
        measure_ms=(end - resized) * 1000,
    )


def start_worker(settings: Settings) -> None:
    """Once in each worker: compile, or load what was compiled before, so that no image pays for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    warnings.filterwarnings("ignore", module=r"PIL\.")
    measure("", Item("", "", "", 0, ""), Image.new("RGB", (64, 64)), settings)


def _line(name: str, error: PixelPruneError) -> str:
    message = " ".join(str(error).split())
    return message if message.startswith(name) else f"{name}: {message}"
