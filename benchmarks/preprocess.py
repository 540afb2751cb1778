"""Image preprocessing with pruning against the stock image processor, which prunes nothing, on the same PIL images."""

from __future__ import annotations

import statistics
from typing import Any

import common
import numpy as np
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pixelprune import PruneConfig
from pixelprune.hf import pruned_image_processor

#: The image processor settings that Qwen3-VL models are published with.
QWEN3_VL = {
    "patch_size": 16,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
}
COLUMNS = {
    "retained": "{retained:.1%}",
    "stock ms": "{stock_ms:.1f}",
    "pruned ms": "{pruned_ms:.1f}",
    "pruned / stock": "{time_ratio:.2f}",
    "stock peak MB": "{stock_peak}",
    "pruned peak MB": "{pruned_peak}",
    "largest difference": "{difference:.1e}",
}


def main(arguments: list[str] | None = None) -> None:
    options = common.parser(__doc__, repeats=7)
    options.add_argument("--threshold", type=float, default=0.0, help="of pred2d, on the 0..1 scale (%(default)s)")
    args = options.parse_args(arguments)
    facts = common.machine()
    print(common.machine_line(facts), flush=True)

    stock = Qwen2VLImageProcessorPil(**QWEN3_VL)
    pruned = pruned_image_processor(stock, PruneConfig(threshold=args.threshold))
    rows = [measure(stock, pruned, picture, args.repeats) for picture in common.load(args.images)]
    print(f"\nMedian of {args.repeats} runs; peak of resident memory during one run, above its start\n")
    print(common.table(rows, {"image": "{image}", "group": "{group}", **COLUMNS}))
    print("\nBy group: mean of retained, median of the rest\n")
    groups = by_group(rows)
    print(common.table(groups, {"group": "{group}", "images": "{images}", **COLUMNS}))
    common.save(args.json, facts, images=rows, groups=groups)


def measure(stock: Any, pruned: Any, picture: common.Picture, repeats: int) -> dict[str, Any]:
    """Time, peak memory and equality of the kept rows for one image."""

    def run_stock() -> Any:
        return stock(images=[picture.image], return_tensors="pt")

    def run_pruned() -> Any:
        return pruned(images=[picture.image], return_tensors="pt")

    times = common.interleaved({"stock": run_stock, "pruned": run_pruned}, repeats)
    peaks = {name: common.peak_rss_growth(run) for name, run in (("stock", run_stock), ("pruned", run_pruned))}
    full, kept = run_stock(), run_pruned()
    selection = kept["pixelprune_selections"][0].selection
    patches = (selection.kept_indices[:, None] * stock.merge_size**2 + np.arange(stock.merge_size**2)).ravel()
    difference = (full["pixel_values"][patches] - kept["pixel_values"]).abs().max().item()
    return {
        "image": picture.name,
        "group": picture.group,
        "retained": selection.retain_ratio,
        "stock_ms": times["stock"],
        "pruned_ms": times["pruned"],
        "time_ratio": times["pruned"] / times["stock"],
        "stock_bytes": peaks["stock"],
        "pruned_bytes": peaks["pruned"],
        "stock_peak": common.megabytes(peaks["stock"]),
        "pruned_peak": common.megabytes(peaks["pruned"]),
        "difference": difference,
    }


def by_group(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups = []
    for name in dict.fromkeys(row["group"] for row in rows):
        group = [row for row in rows if row["group"] == name]
        line: dict[str, Any] = {"group": name, "images": len(group)}
        line["retained"] = statistics.mean(row["retained"] for row in group)
        line["difference"] = max(row["difference"] for row in group)
        for key in ("stock_ms", "pruned_ms", "time_ratio"):
            line[key] = statistics.median(row[key] for row in group)
        for key in ("stock", "pruned"):
            peaks = [row[f"{key}_bytes"] for row in group]
            line[f"{key}_peak"] = common.megabytes(None if None in peaks else statistics.median(peaks))
        groups.append(line)
    return groups


if __name__ == "__main__":
    common.run(main)
