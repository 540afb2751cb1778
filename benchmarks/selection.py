"""How long selection takes and what it keeps: every method and threshold, one core, on real images."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from pixelprune import PruneConfig, select
from pixelprune.core.config import METHODS
from pixelprune.models.resize import ResizeSpec

THRESHOLDS = (0.0, 0.02, 0.05)
#: Rules that the authors' code has too: their name, ours, and (metric, threshold) pairs, all anchored.
SHARED_RULES = {"pred_2d": "pred2d", "raster": "raster", "serpentine": "serpentine"}
SHARED_SETTINGS = (("max", 0.0), ("max", 0.02), ("max", 0.05), ("mae", 0.02))


def main(arguments: list[str] | None = None) -> None:
    options = common.parser(__doc__, repeats=9)
    options.add_argument("--model", default="qwen3_vl", help="family or folder, for sizes and blocks (%(default)s)")
    options.add_argument(
        "--upstream", type=Path, metavar="PATH", help="a clone of the authors' repository to time, too"
    )
    args = options.parse_args(arguments)
    spec = ResizeSpec.for_model(args.model)
    facts = common.machine()
    print(common.machine_line(facts), flush=True)

    rows, shared = [], []
    get_selector = load_upstream(args.upstream) if args.upstream else None
    for picture in common.load(args.images):
        pixels = spec.resize(picture.image)
        rows += measure(picture.name, pixels, spec.block_size, args.repeats)
        if get_selector:
            shared += compare(get_selector, picture.name, pixels, spec, args.repeats)
    print(f"\nBy method, over {len({r['image'] for r in rows})} images\n")
    print(common.table(by_method(rows), SUMMARY_COLUMNS))
    print("\npred2d by image\n")
    print(common.table(by_image(rows), IMAGE_COLUMNS))
    if shared:
        print("\nBeside the authors' code, on the same pixels (theirs as patches of floats, laid out beforehand)\n")
        print(common.table(by_rule(shared), UPSTREAM_COLUMNS))
    common.save(args.json, facts, selection=rows, upstream=shared)
    if not all(row["equal"] for row in shared):
        raise SystemExit("kept indices differ from the authors' code")


SUMMARY_COLUMNS = {
    "method": "{method}",
    "threshold": "{threshold:g}",
    "retained, mean": "{retained:.1%}",
    "ms, median": "{ms:.2f}",
    "× copying the image, median": "{copies:.1f}",
    "× copying, worst": "{worst:.1f}",
}
IMAGE_COLUMNS = {
    "image": "{image}",
    "pixels": "{width} x {height}",
    "blocks": "{blocks}",
    "copy ms": "{copy_ms:.2f}",
    **{
        f"{what} at {t:g}": "{" + key + f"_{t:g}".replace(".", "_") + form + "}"
        for t in THRESHOLDS
        for what, key, form in (("retained", "retained", ":.1%"), ("ms", "ms", ":.2f"), ("× copy", "copies", ":.1f"))
    },
}
UPSTREAM_COLUMNS = {
    "rule": "{rule}",
    "metric": "{metric}",
    "threshold": "{threshold:g}",
    "equal indices": "{equal} of {images}",
    "ms, median": "{ms:.2f}",
    "authors' ms, median": "{upstream_ms:.1f}",
    "times faster, median": "{faster:.0f}",
}


def measure(name: str, pixels: NDArray[np.uint8], block_size: int, repeats: int) -> list[dict[str, Any]]:
    """Every method and threshold on one resized image, and a plain copy of it, taking turns."""
    configs = [PruneConfig(method=m, threshold=t) for m in METHODS for t in THRESHOLDS]  # type: ignore[arg-type]
    functions: dict[str, Any] = {"copy": pixels.copy}
    for config in configs:
        functions[f"{config.method}@{config.threshold}"] = lambda c=config: select(pixels, c, block_size=block_size)
    times = common.interleaved(functions, repeats)
    height, width, _ = pixels.shape
    rows = []
    for config in configs:
        selection = select(pixels, config, block_size=block_size)
        ms = times[f"{config.method}@{config.threshold}"]
        rows.append(
            {
                "image": name,
                "width": width,
                "height": height,
                "method": config.method,
                "threshold": config.threshold,
                "blocks": selection.num_blocks,
                "kept": selection.num_kept,
                "retained": selection.retain_ratio,
                "ms": ms,
                "copy_ms": times["copy"],
                "copies": ms / times["copy"],
            }
        )
    return rows


def by_method(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    summary = []
    for method in METHODS:
        for threshold in THRESHOLDS:
            group = [r for r in rows if (r["method"], r["threshold"]) == (method, threshold)]
            summary.append(
                {
                    "method": method,
                    "threshold": threshold,
                    "retained": statistics.mean(r["retained"] for r in group),
                    "ms": statistics.median(r["ms"] for r in group),
                    "copies": statistics.median(r["copies"] for r in group),
                    "worst": max(r["copies"] for r in group),
                }
            )
    return summary


def by_image(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["method"] == "pred2d":
            line = lines.setdefault(row["image"], dict(row))
            suffix = f"_{row['threshold']:g}".replace(".", "_")
            line.update({key + suffix: row[key] for key in ("retained", "ms", "copies")})
    return list(lines.values())


def load_upstream(repository: Path) -> Any:
    """The authors' ``get_selector``. Their package has our package's name, so it is loaded under another."""
    package = repository / "pixelprune"
    if not (package / "methods" / "__init__.py").is_file():
        raise SystemExit(f"--upstream must be a clone of the authors' repository; {package / 'methods'} is not there")
    alias = "authors_pixelprune"
    spec = importlib.util.spec_from_file_location(
        alias, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules[alias] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return importlib.import_module(f"{alias}.methods").get_selector


def patches_of(pixels: NDArray[np.uint8], spec: ResizeSpec) -> tuple[Any, Any]:
    """float32 patches on the 0..1 scale in the order of the model's image processor, each twice in time; the grid."""
    import torch

    patch, merge = spec.patch_size, spec.merge_size
    rows, cols = (side // spec.block_size for side in pixels.shape[:2])
    blocks = torch.from_numpy(pixels).float().div(255).reshape(rows, merge, patch, cols, merge, patch, 3)
    blocks = blocks.permute(0, 3, 1, 4, 6, 2, 5).unsqueeze(5).expand(-1, -1, -1, -1, -1, 2, -1, -1)
    grid = torch.tensor([[1, rows * merge, cols * merge]])
    return blocks.reshape(rows * cols * merge**2, -1), grid


def compare(
    get_selector: Any, name: str, pixels: NDArray[np.uint8], spec: ResizeSpec, repeats: int
) -> list[dict[str, Any]]:
    """Our selection and the authors' on the same image: equal indices, and the time of each."""
    patches, grid = patches_of(pixels, spec)
    rows = []
    for theirs, ours in SHARED_RULES.items():
        for metric, threshold in SHARED_SETTINGS:
            selector = get_selector(theirs, method=metric, threshold=threshold, anchored=True)
            config = PruneConfig(method=ours, metric=metric, threshold=threshold)  # type: ignore[arg-type]
            functions = {
                "ours": lambda c=config: select(pixels, c, block_size=spec.block_size),
                "theirs": lambda s=selector: s.select(patches, grid, spatial_merge_size=spec.merge_size),
            }
            # Theirs takes up to a second; a few turns are enough.
            times = common.interleaved(functions, min(repeats, 3))
            equal = np.array_equal(functions["ours"]().kept_indices, functions["theirs"]()[0].numpy())
            rows.append(
                {
                    "image": name,
                    "rule": ours,
                    "metric": metric,
                    "threshold": threshold,
                    "equal": equal,
                    "ms": times["ours"],
                    "upstream_ms": times["theirs"],
                    "faster": times["theirs"] / times["ours"],
                }
            )
    return rows


def by_rule(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    summary = []
    for rule in SHARED_RULES.values():
        for metric, threshold in SHARED_SETTINGS:
            group = [r for r in rows if (r["rule"], r["metric"], r["threshold"]) == (rule, metric, threshold)]
            medians = {key: statistics.median(r[key] for r in group) for key in ("ms", "upstream_ms", "faster")}
            equal = sum(r["equal"] for r in group)
            summary.append(
                {
                    "rule": rule,
                    "metric": metric,
                    "threshold": threshold,
                    "equal": equal,
                    "images": len(group),
                    **medians,
                }
            )
    return summary


if __name__ == "__main__":
    common.run(main)
