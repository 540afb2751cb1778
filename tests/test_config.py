"""Settings are validated where they are made, and say what was seen."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import typer
from hypothesis import given
from strategies import CONFIGS

from pixelprune import PixelPruneError, PruneConfig
from pixelprune.cli._options import with_settings
from pixelprune.core.config import METHODS, METRICS, SETTINGS
from pixelprune.errors import ConfigError


def test_the_defaults_are_exact_pred2d():
    config = PruneConfig()
    assert config == PruneConfig("pred2d", "max", 0.0, True, None, 0, 0)
    assert config.level == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_method_and_metric_is_allowed(method, metric):
    config = PruneConfig(method=method, metric=metric, threshold=1, anchored=False, max_tokens=1, seed=2**40, lattice=9)
    assert dataclasses.astuple(config) == (method, metric, 1, False, 1, 2**40, 9, "none")


def test_the_lists_of_methods_and_metrics():
    assert METHODS == ("pred2d", "adaptive", "raster", "serpentine", "components", "random")
    assert METRICS == ("max", "mae", "rmse")


@pytest.mark.parametrize(
    "settings, seen",
    [
        ({"method": "pred3d"}, "pred2d, adaptive, raster, serpentine, components, random; got 'pred3d'"),
        ({"method": "Pred2D"}, "got 'Pred2D'"),
        ({"method": None}, "method .* got None"),
        ({"method": ["pred2d"]}, r"method .* got \['pred2d'\]"),
        ({"metric": "l2"}, "max, mae, rmse; got 'l2'"),
        ({"metric": 0}, "metric .* got 0"),
        ({"threshold": -0.01}, "from 0 to 1 .* got -0.01"),
        ({"threshold": 1.01}, "from 0 to 1 .* got 1.01"),
        ({"threshold": 5}, "from 0 to 1 .* got 5"),
        ({"threshold": math.nan}, "got nan"),
        ({"threshold": math.inf}, "got inf"),
        ({"threshold": "0.02"}, "got '0.02'"),
        ({"threshold": b"0.02"}, "got b'0.02'"),
        ({"threshold": True}, "threshold .* got True"),
        ({"threshold": np.True_}, r"threshold .* got np\.True_"),
        ({"threshold": None}, "threshold .* got None"),
        ({"threshold": [0.1]}, r"threshold .* got \[0.1\]"),
        ({"threshold": np.array([0.5])}, r"threshold .* got array\(\[0.5\]\)"),
        ({"threshold": 0.5j}, "threshold .* got 0.5j"),
        ({"anchored": 1}, "anchored .* got 1"),
        ({"anchored": "no"}, "anchored .* got 'no'"),
        ({"anchored": None}, "anchored .* got None"),
        ({"max_tokens": 0}, "max_tokens .* at least 1.* got 0"),
        ({"max_tokens": -5}, "max_tokens .* got -5"),
        ({"max_tokens": 10.0}, "max_tokens .* got 10.0"),
        ({"max_tokens": "10"}, "max_tokens .* got '10'"),
        ({"max_tokens": True}, "max_tokens .* got True"),
        ({"max_tokens": np.array([3])}, r"max_tokens .* got array\(\[3\]\)"),
        ({"seed": -1}, "seed .* got -1"),
        ({"seed": 0.5}, "seed .* got 0.5"),
        ({"seed": None}, "seed .* got None"),
        ({"seed": np.array([3])}, r"seed .* got array\(\[3\]\)"),
        ({"lattice": 1}, r"at least 2, .*1 would keep every block.* got 1"),
        ({"lattice": -2}, "lattice .* got -2"),
        ({"lattice": 4.0}, "lattice .* got 4.0"),
        ({"lattice": True}, "lattice .* got True"),
        ({"lattice": None}, "lattice .* got None"),
        ({"lattice": np.array([3])}, r"lattice .* got array\(\[3\]\)"),
        ({"references": "next"}, r"references must be one of none, previous, first\+previous, any; got 'next'"),
        ({"references": None}, "references .* got None"),
        ({"references": ["any"]}, r"references .* got \['any'\]"),
        ({"references": "any", "method": "random"}, "'random' predicts nothing, so it cannot have references='any'"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(settings, seen):
    with pytest.raises(ConfigError, match=seen) as caught:
        PruneConfig(**settings)
    assert isinstance(caught.value, (PixelPruneError, ValueError))
    assert next(iter(settings)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": np.float32(0.5)},
        {"threshold": np.float64(0)},
        {"threshold": 1},
        {"max_tokens": np.int64(7)},
        {"max_tokens": 10**9},
        {"seed": np.uint32(7)},
        {"lattice": np.int16(7)},
    ],
)
def test_numbers_of_other_types_are_allowed(settings):
    (name, value), *_ = settings.items()
    config = PruneConfig(**settings)
    assert getattr(config, name) == value
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


@pytest.mark.parametrize(
    "threshold, level",
    [
        (0, 0),
        (0.0039, 0),
        (0.004, 1),
        (0.02, 5),
        (0.05, 12),
        (0.5, 127),
        (0.9999, 254),
        (1, 255),
        *((level / 255, level) for level in range(256)),
        *((math.nextafter(level / 255, 0), level) for level in range(1, 256)),  # a fraction written a bit too low
        *(((level - 0.001) / 255, level - 1) for level in range(1, 256)),
    ],
)
def test_the_level_of_a_threshold(threshold, level):
    assert PruneConfig(threshold=threshold).level == level


def test_settings_are_frozen_and_replaced_with_validation():
    config = PruneConfig("raster", threshold=0.02)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.threshold = 0.5
    changed = config.replace(threshold=0.05, max_tokens=9)
    assert changed == PruneConfig("raster", threshold=0.05, max_tokens=9)
    assert config == PruneConfig("raster", threshold=0.02)
    assert changed != config
    assert len({config, changed, PruneConfig("raster", threshold=0.02)}) == 2
    with pytest.raises(ConfigError, match="got 2"):
        config.replace(threshold=2)
    with pytest.raises(TypeError):
        config.replace(treshold=0.1)


@given(CONFIGS)
def test_settings_are_written_as_json_and_read_back(config):
    written = json.loads(json.dumps(config.to_dict()))
    assert list(written) == list(SETTINGS)
    assert PruneConfig.from_mapping(written) == config
    assert PruneConfig.from_keywords({**written, "revision": "main"}) == (config, {"revision": "main"})


def test_what_a_mapping_leaves_out_has_its_default():
    assert PruneConfig.from_mapping({}) == PruneConfig()
    assert PruneConfig.from_mapping({"threshold": 0.5}) == PruneConfig(threshold=0.5)
    assert PruneConfig.from_keywords({"size": 3}) == (None, {"size": 3})
    base = PruneConfig("raster", threshold=0.02)
    assert PruneConfig.from_keywords({"size": 3}, base=base) == (base, {"size": 3})
    changed = PruneConfig.from_keywords({"references": "any"}, base=base)
    assert changed == (base.replace(references="any"), {})


@pytest.mark.parametrize(
    "settings, seen",
    [
        ({"treshold": 0}, "unknown setting 'treshold'; did you mean 'threshold'?"),
        ({"maxtokens": 5}, "unknown setting 'maxtokens'; did you mean 'max_tokens'?"),
        ({"quality": 5}, f"unknown setting 'quality'; known are {', '.join(SETTINGS)}"),
        ({5: 5}, f"unknown setting 5; known are {', '.join(SETTINGS)}"),
        ({"threshold": 2}, "threshold must be a number from 0 to 1 (0.02 is 5 of 255 levels); got 2"),
        (None, 'the settings must be a mapping such as {"threshold": 0}, or null to prune nothing; got None'),
        (0.02, 'the settings must be a mapping such as {"threshold": 0}, or null to prune nothing; got 0.02'),
        ([], 'the settings must be a mapping such as {"threshold": 0}, or null to prune nothing; got []'),
    ],
)
def test_a_mapping_that_is_wrong_is_refused_with_where_it_came_from(settings, seen):
    with pytest.raises(ConfigError) as caught:
        PruneConfig.from_mapping(settings)
    assert str(caught.value) == seen
    with pytest.raises(ConfigError) as caught:
        PruneConfig.from_mapping(settings, "run.yaml: prune")
    assert str(caught.value) == f"run.yaml: prune: {seen}"


def test_a_keyword_that_is_almost_a_setting_is_refused():
    with pytest.raises(ConfigError, match=r"^load: unknown setting 'max_token'; did you mean 'max_tokens'"):
        PruneConfig.from_keywords({"max_token": 5, "token": "secret"}, "load")
    with pytest.raises(ConfigError, match="unknown setting 'prune'; known are method"):
        PruneConfig.from_keywords({"prune": {}})


def test_every_setting_is_an_option_of_the_command_line():
    """What a new field of PruneConfig must bring with it, and nothing else."""
    seen = []

    @with_settings
    def command(name: str, *, config: PruneConfig, last: int = 0) -> None:
        seen.append((name, config, last))

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["name", *SETTINGS, "last"]
    types = get_type_hints(PruneConfig)
    for name in SETTINGS:
        kind, option = get_args(parameters[name].annotation)
        assert kind == (str if get_origin(types[name]) is Literal else types[name])
        assert option.help, f"{name}: the field needs a help text"
        assert parameters[name].default == getattr(PruneConfig(), name)
    values: dict[str, Any] = {**PruneConfig().to_dict(), "threshold": 0.5}
    command(name="x", last=3, **values)
    assert seen == [("x", PruneConfig(threshold=0.5), 3)]
    assert isinstance(typer.Typer().command()(command), object)
