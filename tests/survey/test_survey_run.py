"""Surveys: everything is found and measured as ``select`` has it, what is broken is named, what is stopped resumes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from collection import make_collection, picture, png

from pixelprune import PruneConfig, select
from pixelprune.core.frames import natural
from pixelprune.core.images import open_bytes, open_image
from pixelprune.errors import ConfigError, UnsupportedModelError
from pixelprune.models.resize import ResizeSpec
from pixelprune.survey import Settings, Survey, run
from pixelprune.survey.items import Item
from pixelprune.survey.journal import Journal
from pixelprune.survey.measure import Outcome
from pixelprune.survey.records import MEASURED, Problem
from pixelprune.survey.run import _measured, _sample
from pixelprune.survey.sources import find
from pixelprune.survey.tablefile import write_table

COMMAND = [sys.executable, "-c", "from pixelprune.cli import main; main()", "survey"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    return folder, *make_collection(folder)


@pytest.fixture(scope="module")
def survey(collection):
    return run([str(collection[0])], Settings(), workers=2)


def timeless(survey: Survey) -> Survey:
    """Without what differs from run to run."""
    rows = [replace(row, read_ms=0, resize_ms=0, select_ms=0, measure_ms=0) for row in survey.rows]
    return replace(survey, rows=rows, seconds=0)


def test_everything_is_found_and_what_is_broken_is_named(collection, survey):
    _, good, bad = collection
    assert {row.name for row in survey.rows} == good
    assert {problem.name for problem in survey.problems} == bad
    assert len(survey.rows) == len(good) and len(survey.problems) == len(bad)
    for problem in survey.problems:
        assert problem.error.startswith(problem.name) and "\n" not in problem.error
    assert survey.skipped == 1  # notes.txt; hidden files are not even counted


def test_rows_are_what_select_says(collection, survey):
    folder = collection[0]
    spec = ResizeSpec.for_model("Qwen3-VL-2B")
    images = {
        str(folder / "scans" / "page 3.png"): open_image(folder / "scans" / "page 3.png"),
        f"{folder / 'pages.zip'}#in/a.png": next(open_bytes(png(20), "a"))[1],
        f"{folder / 'train.parquet'}#row=2": next(open_bytes(png(51), "row"))[1],
        f"{folder / 'data.arrow'}#row=3": next(open_bytes(png(52), "row"))[1],
    }
    rows = {row.name: row for row in survey.rows}
    for name, image in images.items():
        pixels, row = spec.resize(image), rows[name]
        assert (row.width, row.height, row.rows * 32, row.cols * 32) == (*image.size, *pixels.shape[:2])
        assert set(row.kept) == set(MEASURED)
        for key, kept in row.kept.items():
            method, level, lattice = re.fullmatch(r"(\w+)@(\d+)(?:\+(\d+))?", key).groups(default="0")
            config = PruneConfig(method, threshold=int(level) / 255, lattice=int(lattice))
            assert kept == select(pixels, config).num_kept, (name, key)
        blocks = pixels.reshape(row.rows, 32, row.cols, 32, 3).swapaxes(1, 2).reshape(row.blocks, -1)
        assert row.distinct == len(np.unique(blocks, axis=0))
        assert len(set(row.kept.values())) > 2  # the settings differ


def test_groups_are_folders_and_archives(collection, survey):
    folder = collection[0]
    groups = {row.name: row.group for row in survey.rows}
    assert groups[str(folder / "scans/deep/page 0.png")] == str(folder / "scans/deep")
    assert groups[f"{folder / 'pages.zip'}#in/a.png"] == f"{folder / 'pages.zip'}#in"
    assert groups[f"{folder / 'report.pdf'}#page=2"] == str(folder)


def test_names_are_in_the_order_of_people(survey):
    pages = [row.name for row in survey.rows if "report.pdf" in row.name]
    assert [int(name.partition("=")[2]) for name in pages] == list(range(1, 12))
    assert sorted(["a10", "a9", "9", "b"], key=natural) == ["9", "a9", "a10", "b"]


def test_a_sample_is_some_of_all_and_the_same_each_time(collection, survey):
    folder = collection[0]
    found = find([str(folder)], Settings())
    chosen = [[list(part) for part in _sample(found, Settings(sample=12, seed=seed))] for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(sum(map(len, parts)) == 12 for parts in chosen)
    every = {row.name: row for row in timeless(survey).rows}
    some = timeless(run([str(folder)], Settings(sample=12, seed=1), workers=1))
    assert all(row == every[row.name] for row in some.rows)
    wanted = {item.key for source, part in zip(found.sources, chosen[0], strict=True) for item in source.read(part)}
    read = {row.name for row in some.rows} | {problem.name for problem in some.problems}
    assert len(wanted) == 12
    assert all(any(key.startswith(name.partition("#page=")[0]) for name in read) for key in wanted)
    assert len(some.rows) < len(every)


def test_killed_in_the_middle_it_goes_on_and_ends_alike(tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    for number in range(120):
        picture(number, (1280, 960)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"broken")
    arguments = [*COMMAND, str(folder), "--workers", "1", "--table", "none", "--out"]
    journal, out = tmp_path / "stopped.partial.jsonl", tmp_path / "stopped.json"
    process = subprocess.Popen([*arguments, str(out.with_suffix(".html"))], start_new_session=True)
    while process.poll() is None and not (journal.exists() and len(journal.read_bytes().splitlines()) > 20):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(journal.read_bytes().splitlines())
    assert 20 < done < 115 and not out.exists()
    with journal.open("ab") as file:
        file.write(b'{"key": "cut off in the')
    subprocess.run([*arguments, str(out.with_suffix(".html"))], capture_output=True, check=False)
    assert not journal.exists()
    stopped = Survey.load(out)
    whole = run([str(folder)], Settings(), workers=1)
    assert timeless(stopped) == timeless(whole)
    assert len(whole.rows) == 120 and [problem.name for problem in whole.problems] == [str(folder / "broken.png")]


def test_what_is_done_is_not_done_again_unless_it_changed(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    items = [item for source in find([str(tmp_path)], Settings()).sources for item in source.read(range(source.count))]
    journal = Journal(tmp_path / "journal", Settings())
    journal.add([Outcome(items[0].key, problems=[Problem(items[0].name, "from the journal")])], 1.5)
    journal.add([Outcome(items[1].key, problems=[Problem(items[1].name, "outdated")])], 2.5)
    journal.close()
    (tmp_path / "1.png").write_bytes(png(9) + b"\0")
    survey = run([str(tmp_path / "*.png")], Settings(), journal=tmp_path / "journal", workers=1)
    assert [problem.error for problem in survey.problems] == ["from the journal"]
    names = {Path(row.name).name for row in survey.rows}
    assert "1.png" in names and survey.seconds > 2.5


def test_a_journal_of_other_settings_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    Journal(tmp_path / "journal", Settings(sample=3)).close()
    with pytest.raises(ConfigError, match="made with other settings; delete the file, or choose another --out"):
        run([str(tmp_path / "a.png")], Settings(), journal=tmp_path / "journal")
    (tmp_path / "journal").write_text("my diary")
    with pytest.raises(ConfigError, match="not the journal of a survey"):
        run([str(tmp_path / "a.png")], Settings(), journal=tmp_path / "journal")
    assert (tmp_path / "journal").read_text() == "my diary"


class Deadly(bytes):
    """Content that kills the process that unpickles it, as a fault in a decoder would."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_process_that_dies_costs_one_image():
    good = [Item(f"{number}.png", "", "", 0, str(number), content=png(number)) for number in range(9)]
    bad = Item("deadly.png", "", "", 0, "deadly", content=Deadly(b"x"))
    outcomes = [o for some in _measured(iter([*good[:4], bad, *good[4:]]), Settings(), 1) for o in some]
    assert {outcome.key for outcome in outcomes if outcome.rows} == {item.key for item in good}
    (problem,) = [problem for outcome in outcomes for problem in outcome.problems]
    assert problem.name == "deadly.png" and "the process that decoded it died" in problem.error


def test_a_survey_survives_being_saved(survey, tmp_path):
    (tmp_path / "survey.json").write_text(json.dumps(survey.to_json()))
    assert Survey.load(tmp_path / "survey.json") == survey == Survey.load(tmp_path / "survey.html")
    (tmp_path / "other.json").write_text('{"format": 0}')
    for name, error in {"other.json": "not a survey", "none.json": "no such file"}.items():
        with pytest.raises(ConfigError, match=error):
            Survey.load(tmp_path / name)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_tables_hold_every_image(survey, tmp_path, name):
    write_table(survey, tmp_path / name)
    if name.endswith("csv"):
        import csv

        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    else:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(tmp_path / name).to_pylist()
    assert [row["name"] for row in rows] == [row.name for row in survey.rows]
    for column, key in {"kept_adaptive_5": "adaptive@5", "kept_pred2d_0_lattice_3": "pred2d@0+3"}.items():
        assert [int(row[column]) for row in rows] == [row.kept[key] for row in survey.rows]
    with pytest.raises(ConfigError, match=r"must end in \.parquet or \.csv"):
        write_table(survey, tmp_path / "rows.xls")


@pytest.mark.parametrize(
    "settings, error, match",
    [
        ({"model": "gpt"}, (ConfigError, UnsupportedModelError), "unknown model 'gpt'"),
        ({"metric": "l1"}, ConfigError, "metric must be one of"),
        ({"sample": 0}, ConfigError, "sample must be a whole number of at least 1; got 0"),
        ({"dpi": 0}, ConfigError, "dpi must be a positive number; got 0"),
    ],
)
def test_wrong_settings(settings, error, match):
    with pytest.raises(error, match=match):
        Settings(**settings)


def test_nothing_to_survey(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for inputs, match in {
        str(tmp_path): r"no images in .* \(1 other files\)",
        str(tmp_path / "none"): "no such file or folder",
        str(tmp_path / "*.png"): "nothing matches",
    }.items():
        with pytest.raises(ConfigError, match=match):
            run([inputs])


def test_command(collection, tmp_path):
    folder, _, bad = collection
    out = tmp_path / "report.html"
    done = subprocess.run([*COMMAND, str(folder / "scans"), "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    expected = {name for name in bad if "scans" in name}
    assert {re.match(r"pixelprune: (.*?\.\w+): ", line)[1] for line in lines} == expected
    assert "12 images:" in done.stdout and "wrote" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.parquet"]
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["summary"]["images"] == 12 and document["summary"]["recommended"]["reason"]
    for arguments, message in {
        ("--out", "report.pdf"): "--out must end in .html; got report.pdf",
        (): "name a folder or files to survey",
        ("x.png", "--compare", "a.json", "b.json"): "--compare takes two finished surveys",
        ("x.png", "--table", "xls"): "--table must be one of parquet, csv, none; got 'xls'",
    }.items():
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_missing_packages_are_named_before_any_work(collection, tmp_path):
    script = (
        "import importlib.util, sys; found = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *rest: None if name in ('pyarrow', 'jinja2') else found(name, *rest);"
        "from pixelprune.cli import main; main()"
    )
    command = [sys.executable, "-c", script, "survey", str(collection[0] / "scans"), "--out", str(tmp_path / "a.html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("pixelprune: survey needs jinja2, pyarrow: pip install ")
    assert not list(tmp_path.iterdir())
