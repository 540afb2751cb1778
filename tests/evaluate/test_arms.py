"""What each arm shows a model, and how a file names it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pixelprune import PruneConfig, select
from pixelprune.errors import ConfigError
from pixelprune.evaluate.arms import Arm
from pixelprune.models.resize import ResizeSpec

SPEC = ResizeSpec.for_model("Qwen/Qwen3-VL-2B-Instruct")


@pytest.mark.parametrize(
    ("value", "name", "prune", "resized"),
    [
        ("whole", "whole", None, False),
        ("exact", "exact", PruneConfig(), False),
        ("adaptive", "adaptive", PruneConfig("adaptive"), False),
        ("random", "random", PruneConfig("random", seed=42), False),
        ("resized", "resized", PruneConfig(), True),
        ({"threshold": 0.02}, "threshold 0.02", PruneConfig(threshold=0.02), False),
        ({"lattice": 4}, "lattice 4", PruneConfig(lattice=4), False),
        (
            {"name": "mine", "prune": {"method": "raster", "lattice": 3}},
            "mine",
            PruneConfig("raster", lattice=3),
            False,
        ),
        ({"references": "previous"}, "references previous", PruneConfig(references="previous"), False),
        ({"name": "unpruned", "prune": None}, "unpruned", None, False),
        ({"name": "small", "resized": {"threshold": 0.05}}, "small", PruneConfig(threshold=0.05), True),
        ({"name": "r", "prune": {"method": "random", "seed": 7}}, "r", PruneConfig("random", seed=7), False),
        ({"name": "r", "prune": {"method": "random"}}, "r", PruneConfig("random", seed=42), False),
    ],
)
def test_a_file_names_an_arm(value, name, prune, resized) -> None:
    arm = Arm.parse(value, seed=42)
    assert arm == Arm(name, prune, resized)
    assert Arm.from_dict(arm.to_dict()) == arm


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("exakt", "did you mean 'exact'"),
        (3, "an arm is a name"),
        ({"threshold": 2}, "threshold must be a number"),
        ({"treshold": 0.1}, "did you mean 'threshold'"),
        ({"threshold": 0.1, "lattice": 2}, "needs a name"),
        ({"name": "x"}, "either prune or resized"),
        ({"name": "x", "prune": {}, "resized": {}}, "either prune or resized"),
        ({"name": "", "prune": {}}, "a named arm"),
        ({"name": "x", "resized": None}, "must be a mapping"),
        ({"name": "x", "resized": {"references": "previous"}}, "leave out references: previous"),
    ],
)
def test_what_is_no_arm_is_refused(value, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Arm.parse(value)


def test_the_rival_is_as_small_as_the_pruned_image() -> None:
    """As many blocks, or less by what whole blocks of the same shape cannot be."""
    page = Image.new("RGB", (500, 400), "white")
    page.paste(Image.effect_noise((300, 260), 80).convert("RGB"), (20, 30))
    whole = SPEC.resize(page)
    kept = select(whole).num_kept
    shown = Arm.parse("resized").shown(page, SPEC)
    blocks = shown.width * shown.height // 32**2
    assert shown.width % 32 == shown.height % 32 == 0
    assert 0.7 * kept <= blocks <= kept < whole.shape[0] * whole.shape[1] // 32**2
    # The processor takes it as it is with the arm's sizes, and not with its own.
    sizes = Arm.parse("resized").sizes(SPEC)
    free = ResizeSpec(16, 2, sizes["shortest_edge"], sizes["longest_edge"])
    assert free.target_size(shown.height, shown.width) == (shown.height, shown.width)
    assert np.array_equal(free.resize(shown), np.asarray(shown))
    assert SPEC.target_size(32, 64) != (32, 64) == free.target_size(32, 64)


@pytest.mark.parametrize("value", ["whole", "exact", "random", {"lattice": 4}])
def test_all_others_hand_over_the_image_itself(value) -> None:
    page = Image.new("RGB", (500, 400), "white")
    arm = Arm.parse(value)
    assert arm.shown(page, SPEC) is page and arm.sizes(SPEC) is None
    assert arm.processor_prune == arm.prune


def test_folders_of_arms_are_safe() -> None:
    assert Arm("a/b: 0.02", None).folder == "a-b-0.02" and Arm("..", None).folder == "-"
