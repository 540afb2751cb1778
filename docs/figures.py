"""Draw the pictures of the README and the docs from the example images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pixelprune import PruneConfig, select, select_sequence
from pixelprune.core.frames import frame_files
from pixelprune.core.images import open_image
from pixelprune.models.resize import ResizeSpec
from pixelprune.viz import error_map, overlay, source_flow, token_grid

ROOT = Path(__file__).parents[1]
HISTORY = ROOT / "examples" / "history"
GAP, EDGE, HEIGHT = 24, 2, 1000
PAIRS = {
    "what-is-kept.png": ("application-form.png", "phone.png"),
    "screens.png": ("dashboard-dark.png", "docs-page.png"),
}


KEPT = {"form": "application-form.png", "paper": "paper.png", "dashboard": "dashboard-dark.png", "phone": "phone.png"}


def main() -> None:
    draw_pairs()
    for target, name in KEPT.items():
        pixels = resized(name)
        kept = overlay(pixels, select(pixels), PruneConfig())
        sheet = beside([fit(Image.fromarray(pixels)), fit(kept)])
        save(sheet, f"kept-{target}.png", 1600 if sheet.width > sheet.height * 2 else 1000)
    form, dashboard, jpeg = map(resized, ("application-form.png", "dashboard-dark.png", "diagram-jpeg.jpg"))
    save(token_grid(form, select(form), PruneConfig(), packed=True), "tokens.png")
    save(source_flow(dashboard, select(dashboard), PruneConfig()), "flow.png")
    draw_history()
    near = PruneConfig(threshold=0.05)
    save(error_map(jpeg, select(jpeg, near), near), "error.png", 900)


def resized(name: str) -> np.ndarray:
    """An example as Qwen3-VL sees it."""
    return ResizeSpec.for_model("qwen3_vl").resize(open_image(ROOT / "examples" / "images" / name))


def draw_pairs() -> None:
    for target, names in PAIRS.items():
        panels = []
        for name in names:
            pixels = resized(name)
            kept = overlay(pixels, select(pixels), PruneConfig())
            panels += [fit(Image.fromarray(pixels)), fit(kept)]
        if target == "screens.png":
            save(stack([beside(panels[:2]), beside(panels[2:])]), target)
        else:
            save(beside(panels), target)


def draw_history() -> None:
    """Three screenshots in order, and what is kept of each where it may refer to the one before."""
    config = PruneConfig(references="previous")
    pixels = [ResizeSpec.for_model("qwen3_vl").resize(open_image(path)) for path in frame_files(HISTORY)]
    rows = []
    for image, chosen in zip(pixels, select_sequence(pixels, config).images, strict=True):
        kept = overlay(image, chosen.alone, config, shown_before=chosen.shown_before)
        whole = Image.new("RGB", kept.size, "white")
        whole.paste(Image.fromarray(image))
        rows.append(beside([whole, kept]))
    save(stack(rows), "history.png")


def fit(image: Image.Image) -> Image.Image:
    """Scaled to a common height, with a thin edge so that white pages end somewhere."""
    width = round(image.width * HEIGHT / image.height)
    framed = Image.new("RGB", (width + 2 * EDGE, HEIGHT + 2 * EDGE), "#9a9a9a")
    framed.paste(image.resize((width, HEIGHT), Image.Resampling.LANCZOS), (EDGE, EDGE))
    return framed


def beside(panels: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(p.width + GAP for p in panels) - GAP, max(p.height for p in panels)), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + GAP
    return sheet


def stack(rows: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height + GAP for r in rows) - GAP), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + GAP
    return sheet


def save(sheet: Image.Image, name: str, width: int = 1600) -> None:
    sheet = sheet.resize((width, round(sheet.height * width / sheet.width)), Image.Resampling.LANCZOS)
    sheet.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(ROOT / "docs" / "images" / name, optimize=True)


if __name__ == "__main__":
    main()
