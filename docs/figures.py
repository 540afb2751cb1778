"""Draw the pictures of the README and the docs from the example images."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pixelprune import PruneConfig, select
from pixelprune.images import open_image
from pixelprune.resize import ResizeSpec
from pixelprune.viz import overlay

ROOT = Path(__file__).parents[1]
GAP, EDGE, HEIGHT = 24, 2, 1000
PAIRS = {
    "what-is-kept.png": ("application-form.png", "phone.png"),
    "screens.png": ("dashboard-dark.png", "docs-page.png"),
}


def main() -> None:
    for target, names in PAIRS.items():
        panels = []
        for name in names:
            page = open_image(ROOT / "examples" / "images" / name)
            pixels = ResizeSpec.for_model("qwen3_vl").resize(page)
            kept = overlay(pixels, select(pixels), PruneConfig())
            panels += [fit(Image.fromarray(pixels)), fit(kept)]
        if target == "screens.png":
            save(stack([beside(panels[:2]), beside(panels[2:])]), target)
        else:
            save(beside(panels), target)


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


def save(sheet: Image.Image, name: str) -> None:
    width = 1600
    sheet = sheet.resize((width, round(sheet.height * width / sheet.width)), Image.Resampling.LANCZOS)
    sheet.quantize(256, dither=Image.Dither.NONE).save(ROOT / "docs" / "images" / name, optimize=True)


if __name__ == "__main__":
    main()
