"""The fonts that pages are set in, and which of them only the held-out split uses.

The files come from Debian's packages (``fonts-liberation2`` and so on, named in `PACKAGES`); `available` says which are
missing and how to get them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import ImageFont

Split = Literal["train", "test"]

PACKAGES = (
    "fonts-liberation2 fonts-roboto-unhinted fonts-open-sans fonts-lato fonts-inter fonts-noto-core fonts-cantarell "
    "fonts-dejavu-core fonts-crosextra-carlito"
)

# (regular, bold), and a weight: how often the family is drawn.
TRAIN = {
    "Liberation Sans": ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf", 3),
    "DejaVu Sans": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", 2),
    "Roboto": ("Roboto-Regular.ttf", "Roboto-Bold.ttf", 3),
    "Open Sans": ("OpenSans-Regular.ttf", "OpenSans-Bold.ttf", 2),
    "Lato": ("Lato-Regular.ttf", "Lato-Bold.ttf", 2),
    "Noto Sans": ("NotoSans-Regular.ttf", "NotoSans-Bold.ttf", 2),
}
TEST = {
    "Carlito": ("Carlito-Regular.ttf", "Carlito-Bold.ttf", 1),
    "Inter": ("Inter-Regular.otf", "Inter-Bold.otf", 1),
    "Cantarell": ("Cantarell-Regular.otf", "Cantarell-Bold.otf", 1),
}
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob("*.[to]tf")):
            found.setdefault(path.name, path)
    return found


@lru_cache(maxsize=4)
def available(split: Split) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and weights of the split's families. Raises `FileNotFoundError` that names the packages to install."""
    families = TRAIN if split == "train" else TEST
    missing = [file for regular, bold, _ in families.values() for file in (regular, bold) if file not in _files()]
    if missing:
        raise FileNotFoundError(
            f"fonts not found: {', '.join(missing)}; on Debian or Ubuntu: apt-get install {PACKAGES}"
        )
    return tuple(families), tuple(weight for _, _, weight in families.values())


@lru_cache(maxsize=2048)
def load(family: str, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A face of a family at a size in pixels."""
    files = (TRAIN | TEST)[family]
    return ImageFont.truetype(str(_files()[files[1 if bold else 0]]), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=65536)
def advance(family: str, size: int, bold: bool, character: str) -> float:
    """Width of one character in pixels."""
    return float(load(family, size, bold).getlength(character))
