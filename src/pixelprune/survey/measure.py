"""What a worker process does: decode an image, resize it as the model would, and count what each setting keeps."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import cast

import numpy as np
from PIL import Image

from ..core.analysis import count_distinct
from ..core.config import Method, Metric, PruneConfig
from ..core.images import open_bytes, open_images
from ..core.select import select
from ..errors import PixelPruneError
from .items import Item
from .records import CURVE, LATTICES, LEVELS, METHODS, ImageRow, Problem, Settings, setting_key


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
    """Measure some items; what fails is in their outcomes. A document is opened once for all of its pages."""
    groups = groupby(items, lambda item: item.key if item.page is None else str(item.path))
    return [outcome for _, group in groups for outcome in _measure_file(list(group), settings)]


def _measure_file(items: list[Item], settings: Settings) -> list[Outcome]:
    """Measure every image of an item, or of several that are pages of one file."""
    found = {item.name: (item, Outcome(item.key)) for item in items}
    first = found[items[0].name]  # which all pages of a document in an archive belong to

    def refuse(name: str, error: PixelPruneError) -> None:
        found.get(name, first)[1].problems.append(Problem(name, _line(name, error)))

    start = time.perf_counter()
    try:
        for name, image in decode(items, settings, refuse):
            read_ms = (time.perf_counter() - start) * 1000
            item, outcome = found.get(name, first)
            try:
                outcome.rows.append(measure(name, item, image, settings, read_ms))
            except PixelPruneError as error:
                refuse(name, error)
            start = time.perf_counter()
    except PixelPruneError as error:  # of the file as a whole
        for item in items:
            refuse(item.name, error)
    return [outcome for _, outcome in found.values()]


def decode(
    items: Sequence[Item], settings: Settings, refuse: Callable[[str, PixelPruneError], None] | None = None
) -> Iterator[tuple[str, Image.Image]]:
    """The images of an item with their names: one, or all pages of a document in an archive; or of several items that
    are pages of one file.

    Args:
        items: the item, or the pages.
        settings: the resolution of PDFs, and what a file may cost.
        refuse: as for :func:`pixelprune.core.images.open_images`.

    Raises:
        PixelPruneError: it cannot be read.
    """
    item = items[0]
    if item.error is not None:
        raise PixelPruneError(item.error)
    limits = settings.limits
    if item.path is None:
        yield from open_bytes(item.content or b"", item.name, settings.dpi, limits=limits, refuse=refuse)
        return
    pages = None if item.page is None else [page for item in items if (page := item.page) is not None]
    file = str(item.path)
    name = item.name if item.page is None else file

    def rename(label: str) -> str:
        return name + label.removeprefix(file)

    def refuse_renamed(label: str, error: PixelPruneError) -> None:
        if refuse is None:
            raise error
        refuse(rename(label), error)

    for label, image in open_images(item.path, settings.dpi, pages=pages, limits=limits, refuse=refuse_renamed):
        yield rename(label), image


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
