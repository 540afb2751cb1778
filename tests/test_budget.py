"""What a budget says: in the report, and rarely in the log."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pixelprune import PruneConfig, select
from pixelprune.core import preprocess
from pixelprune.core.budget import RareWarning, budget_warning


@pytest.fixture(scope="module")
def page() -> np.ndarray:
    """White blocks with a little ink each, none of which equals another."""
    rng = np.random.default_rng(0)
    image = np.full((64, 64, 3), 255, np.uint8)
    image[rng.integers(0, 64, 200), rng.integers(0, 64, 200)] = 0
    return image


@pytest.mark.parametrize("metric", ["max", "mae", "rmse"])
def test_a_budget_that_drops_content_is_said(page: np.ndarray, metric: str) -> None:
    config = PruneConfig(metric=metric, max_tokens=30)
    selection = select(page, config, block_size=8)
    used = "mae" if metric == "max" else metric
    assert (selection.metric, selection.level > 0) == (used, True)
    warning = budget_warning(selection, config)
    assert warning is not None and "\n" not in warning
    assert warning.startswith(f"max_tokens=30 took threshold {selection.level / 255:.2g} of {used}: ")
    assert f"; {selection.num_kept} of 64 blocks are kept. " in warning


def test_what_was_asked_for_or_measured_is_not(page: np.ndarray) -> None:
    roomy = PruneConfig(max_tokens=64)
    assert budget_warning(select(page, roomy, block_size=8), roomy) is None
    asked = PruneConfig(threshold=1, max_tokens=30)
    assert budget_warning(select(page, asked, block_size=8), asked) is None
    noisy = np.full((64, 64, 3), 200, np.uint8)
    noisy[::2, ::3] -= 12
    noisy[:8, :8] = 0
    measured = PruneConfig(max_tokens=4)
    selection = select(noisy, measured, block_size=8)
    assert (selection.level, selection.metric) == (12, "max") and budget_warning(selection, measured) is None
    noisy[::2, ::3] -= 1  # control: one level more
    assert budget_warning(select(noisy, measured, block_size=8), measured) is not None


def test_a_warning_that_repeats_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    warn = RareWarning(logging.getLogger("test"), clock=lambda: now[0])
    for seconds in (0, 1, 30, 28, 1, 59, 1):  # at 100, 101, 131, 159, 160, 219, 220
        now[0] += seconds
        warn(f"at {now[0]:.0f}")
    more = "since the last such line)"
    assert caplog.messages == ["at 100", f"at 160 (so for 3 more {more}", f"at 220 (so for 1 more {more}"]


def test_reports_have_what_the_log_leaves_out(
    page: np.ndarray, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many images of a server: a line in the log, a warning and its metric in every report."""
    monkeypatch.setattr(preprocess, "_warn_of_budget", RareWarning(preprocess.logger))
    table = np.zeros((3, 256), np.float32)
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    prepared = preprocess.prepare([(page, table)] * 50, PruneConfig(max_tokens=30), **sizes)
    reports = [image.report for image, _ in prepared]
    assert len(caplog.messages) == 1 and caplog.messages[0] == reports[0].warning
    assert len(reports) == 50 and all(report.warning is not None and report.metric == "mae" for report in reports)
    level = select(page, PruneConfig(max_tokens=30), block_size=8).level
    assert all(report.threshold == level / 255 for report in reports)
