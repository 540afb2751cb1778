"""What pruning keeps of whole pages, and of crops of their text regions, as pipelines with a layout detector send them.

The regions come from cutting a page at its blank gaps, first across and then down, again and again (XY-cut). A crop is
resized as the model's image processor does it, so small ones are enlarged to the model's least area.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelprune import PruneConfig, select
from pixelprune.models.resize import ResizeSpec

#: Levels by which ink differs from the page's commonest level.
INK = 24
#: Blank rows that end a region, as a part of the page's height; and pixels of margin that a crop keeps.
GAP, MARGIN = 1 / 70, 4
#: Regions with shorter sides, in pixels, are left out: rules and specks.
LEAST = 12


def main(arguments: list[str] | None = None) -> None:
    options = common.parser(__doc__, repeats=1)
    options.add_argument("--model", default="glm_ocr", help="family or folder, for sizes and blocks (%(default)s)")
    options.add_argument("--threshold", type=float, default=0.0, help="(%(default)s)")
    args = options.parse_args(arguments)
    spec, config = ResizeSpec.for_model(args.model), PruneConfig(threshold=args.threshold)
    facts = common.machine()
    print(common.machine_line(facts), flush=True)
    pages = [picture for picture in common.load(args.images) if picture.group == "text pages" or args.images]
    rows = [measure(picture.name, picture.image, spec, config) for picture in pages]
    print(f"\n{args.model}, threshold {args.threshold:g}\n")
    print(common.table([*rows, together(rows)], COLUMNS))
    common.save(args.json, facts, model=args.model, threshold=args.threshold, pages=rows)


COLUMNS = {
    "page": "{page}",
    "blocks": "{blocks}",
    "kept": "{page_ratio:.1%}",
    "crops": "{crops}",
    "blocks of the crops": "{crop_blocks} ({crop_share:.0%})",
    "kept of these": "{crop_ratio:.1%}",
}


def measure(name: str, image: Image.Image, spec: ResizeSpec, config: PruneConfig) -> dict[str, Any]:
    """Blocks and kept blocks of a page, and of the crops of its regions."""
    page = select(spec.resize(image), config, block_size=spec.block_size)
    boxes = list(regions(np.asarray(image.convert("L"))))
    parts = [select(spec.resize(image.crop(box)), config, block_size=spec.block_size) for box in boxes]
    counts = {
        "blocks": page.num_blocks,
        "page_kept": page.num_kept,
        "crops": len(parts),
        "crop_blocks": sum(part.num_blocks for part in parts),
        "crop_kept": sum(part.num_kept for part in parts),
    }
    return {"page": name, **counts, **ratios(counts)}


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All pages as one."""
    counts = {
        key: sum(row[key] for row in rows) for key in ("blocks", "page_kept", "crops", "crop_blocks", "crop_kept")
    }
    return {"page": f"all {len(rows)}", **counts, **ratios(counts)}


def ratios(counts: dict[str, int]) -> dict[str, float]:
    """Kept blocks over blocks, of pages and of crops; and blocks of crops over blocks of pages."""
    return {
        "page_ratio": counts["page_kept"] / counts["blocks"],
        "crop_ratio": counts["crop_kept"] / max(1, counts["crop_blocks"]),
        "crop_share": counts["crop_blocks"] / counts["blocks"],
    }


def regions(levels: NDArray[np.uint8]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of the text regions of a page of gray levels ``(H, W)``."""
    background = np.bincount(levels.ravel()).argmax()
    ink = np.abs(levels.astype(np.int16) - int(background)) > INK
    height, width = ink.shape
    for top, bottom, left, right in cut(ink, 0, 0, max(3, round(height * GAP))):
        if min(bottom - top, right - left) >= LEAST:
            yield (
                max(0, left - MARGIN),
                max(0, top - MARGIN),
                min(width, right + MARGIN),
                min(height, bottom + MARGIN),
            )


def cut(ink: NDArray[np.bool_], top: int, left: int, gap: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut at blank gaps of at least ``gap`` rows, else columns, until there are none: (top, bottom, left, right)."""
    for axis in (1, 0):
        spans = list(filled(ink.any(axis=axis), gap))
        if not spans:
            return
        if len(spans) > 1 or spans[0] != (0, ink.shape[1 - axis]):
            for begin, end in spans:
                part = ink[begin:end] if axis == 1 else ink[:, begin:end]
                yield from cut(part, top + begin * (axis == 1), left + begin * (axis == 0), gap)
            return
    yield top, top + ink.shape[0], left, left + ink.shape[1]


def filled(line: NDArray[np.bool_], gap: int) -> Iterator[tuple[int, int]]:
    """Spans (begin, end) with ink, joined over gaps shorter than ``gap``."""
    places = np.flatnonzero(line)
    if not len(places):
        return
    breaks = np.flatnonzero(np.diff(places) > gap)
    begins = [places[0], *places[breaks + 1]]
    ends = [*places[breaks], places[-1]]
    for begin, end in zip(begins, ends, strict=True):
        yield int(begin), int(end) + 1


if __name__ == "__main__":
    common.run(main)
