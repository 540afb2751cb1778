"""What a survey says: percentiles, groups, projected costs, and the setting that suits the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from statistics import fmean, median

import numpy as np

from ..core.config import threshold_of
from ..models.cost import Cost, prefill_cost
from ..models.shape import ModelShape
from ..viz.charts import PERCENTILES
from .records import CURVE, LEVELS, METHODS, ImageRow, Settings, Survey, setting_key

#: A higher threshold, or another method, must save at least this share of the tokens to be worth it.
WORTH_THRESHOLD, WORTH_METHOD = 0.1, 0.03
#: Levels up to which a threshold is recommended: 12 of 255 is a threshold of 0.05.
RECOMMENDED_LEVELS = tuple(level for level in CURVE if level <= 12)
#: Above this share of blocks kept, pruning is not worth its trouble.
MAX_USEFUL_RETAIN_RATIO = 0.95


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
class Recommendation:
    """A setting, and why.

    Attributes:
        key: of :func:`pixelprune.survey.records.setting_key`.
        method, level: the same in parts.
        prune: whether to prune at all.
        reason: sentences.
    """

    key: str
    method: str
    level: int
    prune: bool
    reason: str

    @property
    def threshold(self) -> float:
        """The level as a threshold that :class:`pixelprune.PruneConfig` takes."""
        return threshold_of(self.level)


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
    return Spread(_overall(rows, lambda row: row.kept[key]), fmean(ratios), percentiles)


def distinct(rows: Sequence[ImageRow]) -> float:
    """Distinct blocks (of each image) over all blocks: the least that an exact method could keep."""
    return _overall(rows, lambda row: row.distinct)


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


def recommend(rows: Sequence[ImageRow]) -> Recommendation:
    """Exact unless a small threshold saves much, ``pred2d`` unless another method saves more; with the reason."""
    exact = _share(rows, "pred2d", 0)
    level, reached = 0, exact
    for candidate in RECOMMENDED_LEVELS[1:]:
        share = _share(rows, "pred2d", candidate)
        if share < reached * (1 - WORTH_THRESHOLD):
            level, reached = candidate, share
    if reached > MAX_USEFUL_RETAIN_RATIO:
        top = RECOMMENDED_LEVELS[-1]
        return Recommendation(
            setting_key("pred2d", 0), "pred2d", 0, False,
            f"These images hardly repeat themselves: {exact:.1%} of all blocks are kept at threshold 0, and still "
            f"{_share(rows, 'pred2d', top):.1%} at {threshold_of(top):g}. Pruning them gains nothing.",
        )  # fmt: skip
    if level:
        reason = (
            f"Threshold {threshold_of(level):g} keeps {reached:.1%} of all blocks where exact pruning keeps "
            f"{exact:.1%}, and no pixel is off by more than {level} of 255 levels, too little to see. "
        )
    else:
        most = threshold_of(RECOMMENDED_LEVELS[-1])
        reason = (
            f"Exact pruning keeps {exact:.1%} of all blocks, and no threshold up to {most:g} keeps "
            f"{WORTH_THRESHOLD:.0%} less. So nothing need be given up: each image can be rebuilt bit for bit. "
        )
    method = "pred2d"
    if level in LEVELS:
        # Among the causal methods, from which a decoder can rebuild the image.
        shares = {name: _share(rows, name, level) for name in METHODS if name != "components"}
        best = min(shares, key=lambda name: shares[name])
        if shares[best] < reached * (1 - WORTH_METHOD):
            method = best
            reason += f"The method {best} keeps {shares[best]:.1%}, less than the default pred2d by more than 3 %."
        else:
            reason += "No other method keeps less than the default pred2d by more than 3 %."
    return Recommendation(setting_key(method, level), method, level, True, reason.strip())


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


def summarize(survey: Survey) -> dict[str, object]:
    """Everything above as one JSON object; what ``summary`` holds in a survey's JSON file."""
    rows = survey.rows
    if not rows:
        return {"images": 0, "problems": len(survey.problems)}
    best = recommend(rows)
    return {
        "images": len(rows),
        "problems": len(survey.problems),
        "blocks": sum(row.blocks for row in rows),
        "distinct": distinct(rows),
        "settings": {key: asdict(spread(rows, key)) for key in rows[0].kept},
        "projected": {key: asdict(project(rows, survey.settings, key)) for key in rows[0].kept},
        "recommended": {**asdict(best), "threshold": best.threshold},
        "folders": [asdict(group) for group in by_folder(rows)],
        "sizes": [asdict(group) for group in by_size(rows)],
        "times": times(rows),
    }


def _share(rows: Sequence[ImageRow], method: str, level: int) -> float:
    return _overall(rows, lambda row: row.kept[setting_key(method, level)])


def _overall(rows: Sequence[ImageRow], value: Callable[[ImageRow], int]) -> float:
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
