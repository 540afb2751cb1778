"""The cache key is the same where the selection must be, and another one where it can differ."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import CONFIGS, images

from pixelprune import PruneConfig, select
from pixelprune.core import config as module
from pixelprune.core.config import METHODS, METRICS, RULES_VERSION, SETTINGS
from pixelprune.errors import BudgetError


def selected(image, size, config):
    try:
        selection = select(image, config, block_size=size)
    except BudgetError as error:  # the lattice alone is more than the budget
        return str(error)
    choices = selection.row_predictors
    return (
        selection.source.tobytes(), selection.level, selection.metric, None if choices is None else choices.tobytes()
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(drawn=images(longest=4), one=CONFIGS, other=CONFIGS, changed=st.sampled_from(SETTINGS))
def test_settings_with_one_cache_key_select_the_same_blocks(drawn, one, other, changed):
    """Most pairs drawn differ in one setting, so that many have one key."""
    image, size = drawn
    assume(one.method != "random" or changed != "references")
    assume(one.references == "none" or getattr(other, changed) != "random")
    other = one.replace(**{changed: getattr(other, changed)})
    if one.cache_key == other.cache_key:
        assert selected(image, size, one) == selected(image, size, other), (one, other)


@pytest.mark.parametrize(
    "one, other",
    [
        (PruneConfig(), PruneConfig(seed=5)),
        (PruneConfig(), PruneConfig(anchored=False)),
        (PruneConfig(), PruneConfig(metric="rmse")),
        (PruneConfig(), PruneConfig(threshold=0.0039)),
        (PruneConfig(), PruneConfig(threshold=0.0039, anchored=False, seed=1)),
        (PruneConfig(threshold=0.02), PruneConfig(threshold=5 / 255)),
        (PruneConfig(max_tokens=9, threshold=0.02), PruneConfig(max_tokens=9, threshold=0.0231)),
        (PruneConfig("raster", "mae", 0.021, max_tokens=9), PruneConfig("raster", "mae", 0.0235, max_tokens=9)),
    ],
)
def test_settings_that_cannot_matter_make_no_other_key(one, other):
    assert one != other and one.cache_key == other.cache_key


@pytest.mark.parametrize(
    "one, other",
    [
        (PruneConfig(), PruneConfig("raster")),
        (PruneConfig("random"), PruneConfig("random", seed=5)),
        (PruneConfig(), PruneConfig(threshold=0.004)),
        (PruneConfig(metric="mae"), PruneConfig(metric="mae", threshold=0.0039)),  # a total of more than 0
        (PruneConfig(threshold=0.02), PruneConfig(threshold=0.02, anchored=False)),
        (PruneConfig(threshold=0.02), PruneConfig(metric="rmse", threshold=0.02)),
        (PruneConfig(), PruneConfig(lattice=4)),
        (PruneConfig(), PruneConfig(references="previous")),
        (PruneConfig(references="any"), PruneConfig(references="previous")),
        (PruneConfig(lattice=3), PruneConfig(lattice=4)),
        (PruneConfig(), PruneConfig(max_tokens=9)),
        (PruneConfig(max_tokens=9), PruneConfig(max_tokens=9, anchored=False)),
        (PruneConfig(max_tokens=9), PruneConfig(max_tokens=9, metric="mae")),
        (PruneConfig("raster", "mae", 0.021, max_tokens=9), PruneConfig("raster", "mae", 0.0236, max_tokens=9)),
    ],
)
def test_settings_that_can_matter_make_another_key(one, other, monkeypatch):
    assert one.cache_key != other.cache_key
    before = one.cache_key
    monkeypatch.setattr(module, "RULES_VERSION", RULES_VERSION + 1)
    assert one.cache_key != before


def test_the_cache_key_is_plain_text():
    assert PruneConfig(threshold=0.02).cache_key == (
        '{"anchored": true, "lattice": 0, "max_tokens": null, "method": "pred2d", "metric": "max", '
        f'"rules": {RULES_VERSION}, "threshold": 5.0}}'
    )


#: By the version of the rules, what they select of the images below. An entry is never changed: where the rules select
#: something else, RULES_VERSION goes up and a new entry is written.
FINGERPRINTS = {1: "c3eb2a8916f4e345", 2: "e65830b81f1dab35"}


def test_the_version_of_the_rules_goes_up_with_every_change_of_what_they_select():
    digest = hashlib.sha256()
    rng = np.random.default_rng(5)
    for rows, cols, steps in ((9, 12, 2), (12, 9, 7), (7, 7, 40)):
        tiles = rng.integers(100, 110, (3, 8, 8, 3))
        tiles[1:] += rng.integers(0, steps, (2, 8, 8, 3))
        image = np.vstack([np.hstack([tiles[t] for t in rng.integers(0, 3, cols)]) for _ in range(rows)])
        image = (image + np.linspace(0, steps, image.shape[1])[None, :, None]).astype(np.uint8)
        for method in METHODS:
            for metric in METRICS:
                for threshold in (0, 0.01, 0.02, 0.05):
                    for anchored in (True, False):
                        for budget in (None, 20):
                            config = PruneConfig(method, metric, threshold, anchored, budget)
                            digest.update(repr(selected(image, 8, config)).encode())
    assert digest.hexdigest()[:16] == FINGERPRINTS[RULES_VERSION]
