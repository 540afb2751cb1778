"""Charts of retain ratios, for pages in a browser: Vega-Lite specifications, drawn as SVG without a browser.

Text and axes are drawn in ``currentColor`` and marks in CSS variables, so that one drawing suits light and dark pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError, install_hint

#: The percentiles that a band has: its edges, its darker middle, and the line.
PERCENTILES = (5, 25, 50, 75, 95)

#: A piece of a Vega-Lite specification.
Spec = dict[str, Any]

_COLOURS = ("var(--series-1)", "var(--series-2)")
_CURRENT = ("labelColor", "titleColor", "tickColor", "domainColor", "gridColor")
_AXIS: Spec = dict.fromkeys(_CURRENT, "currentColor") | {
    "gridOpacity": 0.14,
    "labelFontSize": 13,
    "titleFontSize": 13,
    "titleFontWeight": "normal",
    "titlePadding": 10,
}
_LEGEND = {"labelColor": "currentColor", "labelFontSize": 13, "title": None, "orient": "top", "symbolType": "circle"}
_CONFIG = {"font": "system-ui, sans-serif", "axis": _AXIS, "legend": _LEGEND, "view": {"stroke": None}}
_WIDTH, _HEIGHT = 520, 260


def histogram(series: Sequence[tuple[str, Sequence[float]]], title: str = "images") -> str:
    """How many images have which retain ratio, in twenty bars of five percent; of several series side by side."""
    values: list[Spec] = []
    for name, ratios in series:
        counts = [0] * 20
        for ratio in ratios:
            counts[min(19, int(ratio * 20 - 1e-9))] += 1
        share = (1 / max(1, len(ratios))) if len(series) > 1 else 1
        values += [
            {"from": i / 20, "to": (i + 1) / 20, "count": count * share, "series": name}
            for i, count in enumerate(counts)
        ]
    several = len(series) > 1
    y: Spec = {
        "field": "count",
        "type": "quantitative",
        "title": f"share of {title}" if several else title,
        "stack": None,
    }
    # Few images have few ticks, or Vega repeats whole numbers for halves.
    top = max((value["count"] for value in values), default=0)
    ticks = {"values": list(range(int(top) + 1))} if top <= 6 else {"tickMinStep": 1}
    y["axis"] = {"format": ".0%"} if several else {"format": ",d"} | ticks
    encoding: Spec = {
        "x": {
            "field": "from",
            "bin": {"binned": True, "step": 0.05},
            "title": "blocks kept",
            "scale": {"domain": [0, 1]},
            "axis": {"format": ".0%", "values": [i / 5 for i in range(6)], "labelFlush": False},
        },
        "x2": {"field": "to"},
        "y": y,
        **_colour([name for name, _ in series]),
    }
    mark = {"type": "bar", "opacity": 0.6 if several else 0.9, "binSpacing": 1}
    return _svg({"data": {"values": values}, "mark": mark, "encoding": encoding})


def curve(
    bands: Sequence[tuple[str, Sequence[tuple[float, Sequence[float]]]]], point: tuple[float, float] | None = None
) -> str:
    """Blocks kept against the threshold.

    Args:
        bands: series by name: for each threshold the ratios at :data:`PERCENTILES`, or a single ratio.
        point: a threshold and a ratio to mark.
    """
    rows = []
    for name, entries in bands:
        for threshold, ratios in entries:
            row: Spec = {"threshold": threshold, "series": name, "p50": ratios[len(ratios) // 2]}
            if len(ratios) == len(PERCENTILES):
                row |= {f"p{percent}": ratio for percent, ratio in zip(PERCENTILES, ratios, strict=True)}
            rows.append(row)
    x = {
        "field": "threshold",
        "type": "quantitative",
        "title": "threshold",
        "axis": {"values": [0, 0.05, 0.1, 0.15, 0.2], "format": ".2~f", "labelFlush": False},
    }
    y = {
        "field": "p50",
        "type": "quantitative",
        "title": "blocks kept",
        "scale": {"domain": [0, 1]},
        "axis": {"format": ".0%", "values": [i / 5 for i in range(6)]},
    }
    colour = _colour([name for name, _ in bands])
    layers: list[Spec] = []
    if rows and "p5" in rows[0]:
        for low, high, opacity in (("p5", "p95", 0.16), ("p25", "p75", 0.3)):
            layers.append(
                {
                    "mark": {"type": "area", "opacity": opacity},
                    "encoding": {"x": x, "y": y | {"field": low}, "y2": {"field": high}, **colour},
                }
            )
    line = {"type": "line", "strokeWidth": 2.5, "point": {"size": 36, "filled": True}}
    layers.append({"mark": line, "encoding": {"x": x, "y": y, **colour}})
    if point is not None:
        layers.append(
            {
                "data": {"values": [{"threshold": point[0], "p50": point[1]}]},
                "mark": {"type": "point", "size": 220, "filled": True, "color": "var(--mark)", "opacity": 1},
                "encoding": {"x": x, "y": y},
            }
        )
    return _svg({"data": {"values": rows}, "layer": layers})


def differences(rows: Sequence[tuple[str, float, float, float]], title: str) -> str:
    """Differences with their intervals, one below the other, and a line at zero.

    Args:
        rows: a name, the difference, and the lower and upper end of its interval.
        title: of the axis.
    """
    values = [{"name": name, "mean": mean, "low": low, "high": high} for name, mean, low, high in rows]
    y: Spec = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 320}}
    x: Spec = {"field": "low", "type": "quantitative", "title": title}
    colour: Spec = {"color": {"value": _COLOURS[0]}}
    layers: list[Spec] = [
        {
            "data": {"values": [{"zero": 0}]},
            "mark": {"type": "rule", "color": "currentColor", "opacity": 0.5},
            "encoding": {"x": {"field": "zero", "type": "quantitative", "title": title}},
        },
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"y": y, "x": x, "x2": {"field": "high"}, **colour}},
        {
            "mark": {"type": "point", "size": 60, "filled": True, "opacity": 1},
            "encoding": {"y": y, "x": x | {"field": "mean"}, **colour},
        },
    ]
    # Room on the left: a browser's font may be wider than the one that names are measured with.
    frame = {"height": max(60, 24 * len(rows)), "padding": {"left": 50, "right": 10, "top": 5, "bottom": 5}}
    return _svg({"data": {"values": values}, "layer": layers, **frame})


def _colour(names: list[str]) -> Spec:
    if len(names) == 1:
        return {"color": {"value": _COLOURS[0]}}
    return {"color": {"field": "series", "type": "nominal", "scale": {"domain": names, "range": list(_COLOURS)}}}


def _svg(spec: Spec) -> str:
    try:
        import vl_convert
    except ImportError as error:
        raise ConfigError(f"charts need vl-convert-python: {install_hint('survey')}") from error
    frame = {"width": _WIDTH, "height": _HEIGHT, "background": None, "config": _CONFIG}
    svg: str = vl_convert.vegalite_to_svg(
        {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", **frame, **spec}
    )
    # The page scales it: the view box alone tells the shape.
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 role="img"', svg, count=1)
