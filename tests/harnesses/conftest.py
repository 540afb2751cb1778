"""The tests of both harnesses, in an environment that has lmms-eval: make test-evaluate."""

from __future__ import annotations

from pathlib import Path

import pytest
import rows as held_out
import torch


def pytest_addoption(parser):
    parser.addoption("--vlmevalkit", metavar="DIR", help="a clone of VLMEvalKit, at the commit that is built on")


def pytest_generate_tests(metafunc):
    if "harness" in metafunc.fixturenames:
        clone = metafunc.config.getoption("vlmevalkit")
        metafunc.parametrize("harness", ["lmms-eval", *(["vlmevalkit"] if clone else [])], scope="session")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("vlmevalkit"):
        items[:] = [item for item in items if "kit" not in getattr(item, "fixturenames", ())]
    for item in items:  # a fixture runs all cells of a harness, which takes its time on a busy machine
        item.add_marker(pytest.mark.timeout(3000))


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("vlmevalkit"):
        terminalreporter.write_line(
            "VLMEvalKit was NOT tested: it is on no package index. With a clone: make test-evaluate VLMEVALKIT=DIR",
            yellow=True,
        )


@pytest.fixture(scope="session")
def clone(pytestconfig) -> Path | None:
    folder = pytestconfig.getoption("vlmevalkit")
    return Path(folder).resolve() if folder else None


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """The folder of the two sets, their rows, and what the recipe answers."""
    folder = tmp_path_factory.mktemp("rows")
    rows = held_out.write(folder, held_out.ROWS)
    return folder, rows, held_out.by_recipe(rows)
