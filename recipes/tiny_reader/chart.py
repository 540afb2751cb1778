"""Draw what lattices give back: accuracy against the share of blocks kept, a line for each family of settings.

    python -m recipes.tiny_reader.chart recipes/tiny_reader/results/lattice-never.json \\
        recipes/tiny_reader/results/lattice-bundled.json --out docs/images/lattice.png
"""

from __future__ import annotations

import argparse
import io
import json
import math
from pathlib import Path
from typing import Any

import vl_convert
from PIL import Image

TITLES = {"lattice-never": "never trained on pruned pages", "lattice-bundled": "trained on pruned pages (bundled)"}
GROUPS = {"reading": "reading", "grounding": "pointing"}
# Okabe and Ito's colours, and shapes, so that lines differ without colours.
FAMILIES = {
    "pred2d": ("#0072b2", "circle"),
    "adaptive": ("#009e73", "square"),
    "raster": ("#d55e00", "triangle-up"),
    "random": ("#7a7a7a", "cross"),
    "resized": ("#cc79a7", "diamond"),
    "whole": ("#222222", "stroke"),
}
SCALE = 2


def points(files: list[Path]) -> list[dict[str, Any]]:
    """A row for each variant and group of questions."""
    rows = []
    for file in files:
        for name, variant in json.loads(file.read_text())["variants"].items():
            family, _, lattice = name.partition(", lattice ")
            for group, label in GROUPS.items():
                rows.append(
                    {
                        "model": TITLES[file.stem],
                        "group": label,
                        "family": family,
                        "lattice": int(lattice or 0),
                        "label": lattice if family == "pred2d" and lattice != "0" else "",
                        "kept": variant["kept"],
                        **{key: variant[group][key] for key in ("share", "low", "high")},
                    }
                )
    return rows


def panel(rows: list[dict[str, Any]], model: str, group: str) -> dict[str, Any]:
    """Accuracy of one group of questions against the blocks kept, for one model."""
    shown = [row for row in rows if row["model"] == model and row["group"] == group]
    lows = [row["low"] for row in rows if row["group"] == group and row["family"] != "random"]
    bottom = max(0, int(min(lows) * 20) / 20)
    inside = [row for row in shown if row["high"] > bottom]
    kept = [row["kept"] for row in rows if row["family"] != "whole"]
    x = {
        "field": "kept",
        "type": "quantitative",
        "title": "blocks kept",
        "scale": {"domain": [math.floor(min(kept) * 20) / 20, math.ceil(max(kept) * 20) / 20]},
        "axis": {"format": ".0%", "tickCount": 8},
    }
    y = {
        "field": "share",
        "type": "quantitative",
        "title": f"{group}, right answers",
        "scale": {"domain": [bottom, 1]},
        "axis": {"format": ".0%"},
    }
    colour = {
        "field": "family",
        "type": "nominal",
        "title": None,
        "legend": {"symbolOpacity": 1},
        "scale": {"domain": list(FAMILIES), "range": [colour for colour, _ in FAMILIES.values()]},
    }
    shape = {**colour, "scale": {"domain": list(FAMILIES), "range": [shape for _, shape in FAMILIES.values()]}}
    whole = [row for row in shown if row["family"] == "whole"]
    drawn = [row for row in inside if row["family"] != "whole"]
    interval = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    return {
        "title": {"text": f"{group}: {model}", "fontSize": 14, "anchor": "start", "fontWeight": "bold"},
        "width": 430,
        "height": 270,
        "layer": [
            {
                "data": {"values": whole},
                "mark": {"type": "rect", "color": "#222222", "opacity": 0.08},
                "encoding": band,
            },
            {
                "data": {"values": whole},
                "mark": {"type": "rule", "strokeDash": [5, 4]},
                "encoding": {"y": y, "color": colour},
            },
            {
                "data": {"values": drawn},
                "mark": {"type": "line", "strokeWidth": 2, "clip": True},
                "encoding": {"x": x, "y": y, "color": colour, "order": {"field": "kept"}},
            },
            {
                "data": {"values": drawn},
                "mark": {"type": "rule", "opacity": 0.35, "clip": True},
                "encoding": {"x": x, **interval, "color": colour},
            },
            {
                "data": {"values": drawn},
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "clip": True},
                "encoding": {"x": x, "y": y, "color": colour, "shape": shape},
            },
            {
                "data": {"values": [row for row in drawn if row["label"]]},
                "mark": {"type": "text", "dy": -11, "dx": -7, "fontSize": 12, "color": "#0072b2", "fontWeight": "bold"},
                "encoding": {"x": x, "y": y, "text": {"field": "label"}},
            },
        ],
    }


def draw(files: list[Path]) -> Image.Image:
    """All panels: models side by side, groups of questions one below the other."""
    rows = points(files)
    models = list(dict.fromkeys(row["model"] for row in rows))
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "title": {
            "text": "Numbers: the lattice; the first point of each line has none. Dashed: whole pages.",
            "fontSize": 13,
            "fontWeight": "normal",
            "anchor": "start",
            "offset": 12,
        },
        "padding": 16,
        "config": {
            "font": "DejaVu Sans, sans-serif",
            "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridOpacity": 0.5},
            "legend": {"labelFontSize": 13, "orient": "top", "symbolSize": 90},
            "view": {"stroke": None},
        },
        "vconcat": [
            {"hconcat": [panel(rows, model, group) for model in models], "spacing": 28} for group in GROUPS.values()
        ],
        "spacing": 24,
        "resolve": {"legend": {"color": "shared", "shape": "shared"}},
    }
    return Image.open(io.BytesIO(vl_convert.vegalite_to_png(specification, scale=SCALE)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="files that recipes.tiny_reader.table --json wrote")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    picture = draw(args.results).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
