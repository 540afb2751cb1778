"""The kept blocks of real images equal those of the authors' implementation, index for index."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from corpus import UPSTREAM, example_files

from pixelprune import PruneConfig, select

#: The names that tests/data/upstream.json gives to the settings, all anchored, on blocks of 32 pixels.
RULES = {
    "pred2d": PruneConfig("pred2d"),
    "raster": PruneConfig("raster"),
    "serpentine": PruneConfig("serpentine"),
    "pred2d@0.02": PruneConfig("pred2d", threshold=0.02),
    "pred2d@0.05": PruneConfig("pred2d", threshold=0.05),
    "pred2d-mae@0.02": PruneConfig("pred2d", "mae", threshold=0.02),
}


def fingerprint(data):
    return hashlib.sha256(data).hexdigest()[:16]


def fingerprint_indices(indices):
    return fingerprint(np.asarray(indices).astype("<i4").tobytes())


def test_kept_blocks_equal_upstream(real_name, real_pixels):
    expected = UPSTREAM[real_name]
    assert fingerprint(real_pixels.tobytes()) == expected["pixels_sha256"], "this Pillow resizes otherwise"
    found = {}
    for rule, config in RULES.items():
        selection = select(real_pixels, config, block_size=32)
        found[rule] = {"kept": selection.num_kept, "sha256": fingerprint_indices(selection.kept_indices)}
        assert selection.num_blocks == expected["blocks"]
    assert found == {rule: expected[rule] for rule in RULES}


@pytest.mark.parametrize("change", ["one fewer", "one moved", "other threshold", "sliding"])
def test_comparison_sees_a_difference(change, examples):
    """Controls: what must not pass for the authors' result."""
    original = next(name for name, path in example_files().items() if path.name == "docs-page.png")
    expected = UPSTREAM[original]["pred2d-mae@0.02"]
    pixels, config = examples["docs-page.png"], RULES["pred2d-mae@0.02"]
    right = select(pixels, config).kept_indices
    assert fingerprint_indices(right) == expected["sha256"]
    if change == "one fewer":
        wrong = np.delete(right, right.size // 2)
    elif change == "one moved":
        dropped = np.setdiff1d(np.arange(right.max()), right)
        wrong = np.sort(np.append(np.delete(right, right.size // 2), dropped[0]))
    else:
        other = config.replace(threshold=0.021) if change == "other threshold" else config.replace(anchored=False)
        wrong = select(pixels, other).kept_indices
    assert fingerprint_indices(wrong) != expected["sha256"]
