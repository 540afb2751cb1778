"""The report: one HTML file with everything in it, which opens from disk, prints, and needs no network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

from ..core.config import threshold_of
from ..errors import ConfigError
from ..models.shape import ModelShape
from ..viz import charts, page
from ..viz.charts import PERCENTILES
from .advice import Recommendation, lattices, of_sequences, recommend
from .pictures import Picture, draw, extremes
from .records import CURVE, LEVELS, METHODS, ImageRow, Survey, setting_key
from .summary import (
    Spread,
    by_folder,
    by_size,
    distinct,
    image_speedup,
    project,
    spread,
    times,
)

_FOLDERS_SHOWN = 40


def write_html(survey: Survey, path: Path) -> None:
    """Write the report of one survey.

    Raises:
        ConfigError: nothing could be measured, or the packages of ``pixelprune[survey]`` are missing.
    """
    if not survey.rows:
        raise ConfigError(f"no image of {', '.join(survey.inputs)} could be read; there is nothing to report")
    rows, settings = survey.rows, survey.settings
    best = recommend(rows)
    least, most = extremes(survey, best.key)
    base = _base(rows)
    html = _render(
        "report.html",
        survey=survey,
        settings=settings,
        best=best,
        recommended=spread(rows, best.key),
        distinct=distinct(rows),
        projected=project(rows, settings, best.key),
        shape=settings.shape,
        formula=formula(settings.shape),
        histogram=charts.histogram([("", [row.retained(best.key) for row in rows])]),
        curve=charts.curve([curve_of("pred2d", rows)], _point(best, rows)),
        methods=methods_table(rows),
        levels=LEVELS,
        lattices=lattices(rows, settings, best.level),
        least=draw(survey, least, best.method, best.level),
        most=draw(survey, most, best.method, best.level),
        folders=sorted(by_folder(rows), key=lambda group: -group.blocks),
        folders_shown=_FOLDERS_SHOWN,
        sizes=by_size(rows),
        times=times(rows),
        of_sequences=of_sequences(survey.sequences),
        sequences_shown=_FOLDERS_SHOWN,
        table=image_table(survey, best, len(base)),
        base=base.rstrip(os.sep),
        short=lambda name: name.removeprefix(base) or name,
    )
    page.write(path, html)


def write_comparison(surveys: Sequence[Survey], names: Sequence[str], path: Path) -> None:
    """Write two surveys side by side.

    Raises:
        ConfigError: a survey is empty, both were made for different settings, or packages are missing.
    """
    first, second = surveys
    for survey, name in zip(surveys, names, strict=True):
        if not survey.rows:
            raise ConfigError(f"{name}: no images in this survey; there is nothing to compare")
    for field in ("model", "metric", "text_tokens"):
        values = [getattr(survey.settings, field) for survey in surveys]
        if values[0] != values[1]:
            raise ConfigError(f"the surveys differ in {field}, {values[0]!r} and {values[1]!r}; make them alike first")
    bests = [recommend(survey.rows) for survey in surveys]
    html = _render(
        "compare.html",
        settings=first.settings,
        sides=[
            {
                "name": name,
                "survey": survey,
                "best": best,
                "spread": spread(survey.rows, "pred2d@0"),
                "recommended": spread(survey.rows, best.key),
                "distinct": distinct(survey.rows),
                "projected": project(survey.rows, survey.settings, best.key),
                "methods": methods_table(survey.rows),
                "sizes": {group.name: group for group in by_size(survey.rows)},
                "times": times(survey.rows),
            }
            for survey, name, best in zip(surveys, names, bests, strict=True)
        ],
        sizes=list(dict.fromkeys(group.name for survey in surveys for group in by_size(survey.rows))),
        histogram=charts.histogram(
            [(name, [row.retained() for row in survey.rows]) for survey, name in zip(surveys, names, strict=True)]
        ),
        curve=charts.curve(
            [curve_of(name, survey.rows, median_only=True) for survey, name in zip(surveys, names, strict=True)]
        ),
        levels=LEVELS,
        changed=changes(first, second),
    )
    page.write(path, html)


class Change(TypedDict):
    """An image that one of two surveys keeps more of: its name, and its retain ratio in the first and the second."""

    name: str
    first: float
    second: float


def changes(first: Survey, second: Survey) -> list[Change]:
    """Images in both surveys, by name, that one of them keeps more of; the largest difference first."""
    others = {row.name: row for row in second.rows}
    pairs = [(row, others[row.name]) for row in first.rows if row.name in others]
    changed: list[Change] = [
        {"name": a.name, "first": a.retained(), "second": b.retained()}
        for a, b in pairs
        if a.retained() != b.retained()
    ]
    return sorted(changed, key=lambda entry: -abs(entry["first"] - entry["second"]))


def curve_of(
    name: str, rows: Sequence[ImageRow], median_only: bool = False
) -> tuple[str, list[tuple[float, tuple[float, ...]]]]:
    """Retain ratios of ``pred2d`` against the threshold, as :func:`pixelprune.viz.charts.curve` takes them."""
    points = []
    for level in CURVE:
        percentiles = spread(rows, setting_key("pred2d", level)).percentiles
        ratios = (percentiles[PERCENTILES.index(50)],) if median_only else percentiles
        points.append((threshold_of(level), ratios))
    return name, points


def methods_table(rows: Sequence[ImageRow]) -> list[dict[str, str | list[Spread]]]:
    """Every method with its spread at every level that all methods were measured at."""
    return [
        {"method": method, "spreads": [spread(rows, setting_key(method, level)) for level in LEVELS]}
        for method in METHODS
    ]


def image_table(survey: Survey, best: Recommendation, cut: int = 0) -> list[list[str | float]]:
    """A row per image for the table in the page, which scripts there sort; ``cut`` letters off every name."""
    return [
        [
            row.name[cut:],
            f"{row.width} × {row.height}",
            row.blocks,
            row.kept[best.key],
            round(row.retained(best.key), 4),
            round(row.distinct / row.blocks, 4),
            round(row.retained(setting_key("pred2d", 0)), 4),
            round(image_speedup(row, survey.settings, best.key), 2),
            round(row.select_ms, 2),
        ]
        for row in survey.rows
    ]


def formula(shape: ModelShape) -> dict[str, str]:
    """The model behind the projection, with this model's numbers."""
    vision, text = shape.vision, shape.text
    gated = "3" if vision.mlp_matrices == 3 else "2"
    d, i, h = vision.hidden, vision.intermediate, text.hidden
    windows = (
        f" in {vision.full_attention_layers} of {vision.depth} layers; in the others n is a window of "
        f"{vision.window_blocks}×{vision.window_blocks} blocks"
        if vision.window_blocks
        else f" in each of {vision.depth} layers"
    )
    return {
        "vit": (
            f"width d = {d}, MLP i = {i}, {vision.depth} layers, {vision.merge_size**2} patches of "
            f"{vision.patch_size}×{vision.patch_size} per block. Weights: 2·(4d² + {gated}·d·i) FLOPs per patch and "
            f"layer, the patch embedding and the mergers. Attention: 4·n²·d for n patches{windows}."
        ),
        "llm": (
            f"width h = {h}, {text.layers} layers, {text.heads} heads of {text.head_dim} ({text.kv_heads} for keys and "
            f"values). Weights: 2 FLOPs per weight and token, the head once. Attention: 2·n·(n+1)·heads·head size per "
            f"layer for n tokens (causal)."
        ),
    }


def _base(rows: Sequence[ImageRow]) -> str:
    """The folder that all files are in, with the slash after it; nothing if there is none."""
    folders = {str(Path(row.source).parent) for row in rows}
    try:
        base = os.path.commonpath(folders)
    except ValueError:  # relative and absolute names, or two drives
        return ""
    return "" if base in ("", ".") else base.rstrip(os.sep) + os.sep


def _point(best: Recommendation, rows: Sequence[ImageRow]) -> tuple[float, float]:
    return best.threshold, spread(rows, best.key).percentiles[PERCENTILES.index(50)]


def _render(name: str, **values: object) -> str:
    known = {"setting_key": setting_key, "threshold_of": threshold_of, "asdict": asdict}
    return page.render("pixelprune.survey", name, known, **values)


__all__ = ["Change", "Picture", "changes", "write_comparison", "write_html"]
