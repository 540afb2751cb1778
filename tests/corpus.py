"""The real images that tests run on, by name, and what the authors' implementation keeps of them."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path

import numpy as np
from PIL import Image

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / "examples" / "images"
#: Per image, by original file name: its resized (width, height), and the kept blocks of the authors' implementation.
UPSTREAM = json.loads((TESTS / "data" / "upstream.json").read_text())


def example_files():
    """The paths of the example images, by original file name."""
    with (EXAMPLES / "manifest.csv").open(newline="") as file:
        return {row["original"]: EXAMPLES / row["file"] for row in csv.DictReader(file)}


@functools.cache
def load(path, resized):
    """uint8 (H, W, 3), read-only: the image at a (width, height), by Pillow's bicubic filter."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB").resize(resized, Image.Resampling.BICUBIC))
    pixels.flags.writeable = False
    return pixels
