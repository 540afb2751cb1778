"""What a survey says: percentiles, groups and projected costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median

import numpy as np

from ..models.cost import Cost, prefill_cost
from ..models.shape import ModelShape
from ..viz.charts import PERCENTILES
from .records import ImageRow, Settings


@dataclass(frozen=True)
class Spread:
    """How one setting does over all images.

    Attributes:
        overall: kept blocks over all blocks.
        mean: of the images' retain ratios.
        percentiles: of the images' retain ratios, at :data:`~pixelprune.viz.charts.PERCENTILES`.
    """

    overall: float
    mean: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class Projection:
    """Costs of prefill over all images, each in a prompt of its own, without pruning and at a setting.

    Attributes:
        tokens, tokens_pruned: image tokens.
        flops, flops_pruned: of vision tower and language model.
        vit_speedup, llm_speedup, speedup: FLOPs without pruning over FLOPs with it.
        kv_bytes, kv_bytes_pruned: of the KV caches, at two bytes a value.
    """

    tokens: int
    tokens_pruned: int
    flops: int
    flops_pruned: int
    vit_speedup: float
    llm_speedup: float
    speedup: float
    kv_bytes: int
    kv_bytes_pruned: int


@dataclass(frozen=True)
class Group:
    """Images that belong together, by folder or by size."""

    name: str
    images: int
    blocks: int
    distinct: float
    retained: dict[str, float]


def spread(rows: Sequence[ImageRow], key: str) -> Spread:
    """How one setting does over the rows, of which there is at least one."""
    ratios = [row.retained(key) for row in rows]
    percentiles = tuple(float(value) for value in np.percentile(ratios, PERCENTILES))
    return Spread(overall(rows, lambda row: row.kept[key]), fmean(ratios), percentiles)


def distinct(rows: Sequence[ImageRow]) -> float:
    """Distinct blocks (of each image) over all blocks: the least that an exact method could keep."""
    return overall(rows, lambda row: row.distinct)


def project(rows: Sequence[ImageRow], settings: Settings, key: str) -> Projection:
    """Projected costs of prefill, from :func:`pixelprune.models.cost.prefill_cost`."""
    cost = _cost_of(settings.shape, settings.text_tokens)
    full = [cost(row.blocks) for row in rows]
    pruned = [cost(row.kept[key]) for row in rows]

    def total(costs: Iterable[Cost], value: Callable[[Cost], int]) -> int:
        return sum(map(value, costs))

    def speedup(value: Callable[[Cost], int]) -> float:
        return total(full, value) / total(pruned, value)

    return Projection(
        tokens=total(full, lambda c: c.image_tokens),
        tokens_pruned=total(pruned, lambda c: c.image_tokens),
        flops=total(full, lambda c: c.total_flops),
        flops_pruned=total(pruned, lambda c: c.total_flops),
        vit_speedup=speedup(lambda c: c.vit_flops),
        llm_speedup=speedup(lambda c: c.llm_flops),
        speedup=speedup(lambda c: c.total_flops),
        kv_bytes=total(full, lambda c: c.kv_cache_bytes),
        kv_bytes_pruned=total(pruned, lambda c: c.kv_cache_bytes),
    )


def image_speedup(row: ImageRow, settings: Settings, key: str) -> float:
    """Projected speed-up of one image's prefill."""
    cost = _cost_of(settings.shape, settings.text_tokens)
    return cost(row.blocks).total_flops / cost(row.kept[key]).total_flops


def by_folder(rows: Sequence[ImageRow]) -> list[Group]:
    """Groups of rows in the same folder, archive or folder in an archive."""
    return _grouped(rows, lambda row: row.group)


#: Upper bounds of the size classes in megapixels of the file, with their names.
SIZES = (
    (0.5, "up to 0.5 megapixels"),
    (1.0, "0.5 to 1 megapixel"),
    (2.5, "1 to 2.5 megapixels"),
    (5.0, "2.5 to 5 megapixels"),
    (float("inf"), "above 5 megapixels"),
)


def by_size(rows: Sequence[ImageRow]) -> list[Group]:
    """Groups of rows of about the same number of pixels, from the smallest."""
    order = [name for _, name in SIZES]

    def size(row: ImageRow) -> str:
        return next(name for bound, name in SIZES if row.width * row.height <= bound * 1e6)

    return sorted(_grouped(rows, size), key=lambda group: order.index(group.name))


def times(rows: Sequence[ImageRow]) -> dict[str, float]:
    """Median milliseconds of selecting, and the share of all work that selecting and counting took."""
    work = sum(row.read_ms + row.resize_ms + row.measure_ms for row in rows)
    return {
        "select_ms_median": median(row.select_ms for row in rows),
        "read_ms_median": median(row.read_ms for row in rows),
        "resize_ms_median": median(row.resize_ms for row in rows),
        "measure_share": sum(row.measure_ms for row in rows) / work if work else 0.0,
    }


def overall(rows: Sequence[ImageRow], value: Callable[[ImageRow], int]) -> float:
    """A number of blocks of each row, added up, over all blocks."""
    return sum(map(value, rows)) / sum(row.blocks for row in rows)


def _cost_of(shape: ModelShape, text_tokens: int) -> Callable[[int], Cost]:
    @cache
    def cost(blocks: int) -> Cost:
        return prefill_cost(shape, blocks, text_tokens)

    return cost


def _grouped(rows: Sequence[ImageRow], name_of: Callable[[ImageRow], str]) -> list[Group]:
    groups: dict[str, list[ImageRow]] = {}
    for row in rows:
        groups.setdefault(name_of(row), []).append(row)
    return [
        Group(
            name=name,
            images=len(members),
            blocks=sum(row.blocks for row in members),
            distinct=distinct(members),
            retained={key: spread(members, key).overall for key in members[0].kept},
        )
        for name, members in groups.items()
    ]
