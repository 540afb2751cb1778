"""The file of an evaluation: what it means, what is refused, and that the examples and the page are right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from pixelprune.cli._app import app
from pixelprune.configfile import check
from pixelprune.errors import ConfigError, DataError, PixelPruneError
from pixelprune.evaluate.config import EvaluateConfig, Model, cells, load_config
from pixelprune.evaluate.estimate import plan
from pixelprune.evaluate.run import jobs
from pixelprune.evaluate.sets import GROUPS, KNOWN

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "evaluate").glob("*.yaml"))
PAGE = (ROOT / "docs" / "evaluation.md").read_text()


@pytest.fixture
def folder(tmp_path):
    """A file of rows with answers, and one with boxes."""
    Image.new("RGB", (64, 48), "white").save(tmp_path / "page.png")
    for name, right in (("words", {"answers": ["yes"]}), ("points", {"box": [1, 2, 30, 40]})):
        row = {"image": "page.png", "question": "Is it?", **right}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def config(folder, **changes):
    content = {
        "models": ["reader"],
        "arms": ["whole", "random"],
        "sets": [{"name": "words", "questions": str(folder / "words.jsonl"), "harness": "lmms-eval"}],
        "output": str(folder / "out"),
    }
    return check(EvaluateConfig, content | changes, "it")


def test_every_model_set_and_arm_is_a_cell(folder) -> None:
    own = [{"name": n, "questions": str(folder / f"{n}.jsonl"), "harness": "lmms-eval"} for n in ("words", "points")]
    models = ["reader", "Qwen/Qwen2.5-VL-3B-Instruct"]
    found = cells(config(folder, sets=[*own, "docvqa_val"], models=models))
    assert [(cell.model_name, cell.set.name, cell.arm.name) for cell in found] == [
        (model, known, arm)
        for model in ("reader", "Qwen2.5-VL-3B-Instruct")
        for known in ("words", "points", "docvqa_val")
        for arm in ("whole", "random")
    ]
    by = {(cell.model_name, cell.set.name): cell for cell in found}
    assert by["reader", "points"].points == "thousand" and by["Qwen2.5-VL-3B-Instruct", "points"].points == "pixels"
    assert by["reader", "words"].prompt == "{question}" and by["reader", "docvqa_val"].prompt is None
    assert '{"point_2d": [x, y]}' in by["reader", "points"].prompt.format(question="OK")
    assert all(type(cell).from_dict(json.loads(json.dumps(cell.to_dict()))) == cell for cell in found)


def test_the_authors_public_settings(folder) -> None:
    paper, own = (cells(config(folder, prompts=prompts))[1] for prompts in ("paper", "harness"))
    assert (paper.max_new_tokens, paper.arm.prune.seed) == (512, 42)
    assert (own.max_new_tokens, own.arm.prune.seed) == (None, 0)


def test_the_papers_sets_are_sixteen() -> None:
    assert len(GROUPS["paper"]) == 16 and all(KNOWN[name].harness == "vlmevalkit" for name in GROUPS["paper"])
    assert sum(KNOWN[name].count for name in GROUPS["paper"]) == 20_076


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": ["whole"]}, "unknown key 'arm'; did you mean 'arms'"),
        ({"models": [{"modle": "x"}]}, "unknown key 'models.0.modle'|did you mean 'model'"),
        ({"engine": "sglang"}, "engine"),
        ({"sets": ["DocVQA"]}, "unknown set 'DocVQA'; did you mean"),
        ({"sets": ["DocVQA_VAL"]}, "give the folder of a clone"),
        ({"sets": ["MMLongBench_DOC"], "vlmevalkit": "x"}, "marked by a language model; give judge"),
        ({"arms": ["exact"]}, "baseline: 'whole' is not among the arms: exact"),
        ({"arms": ["whole", "exact", "exact"]}, "arms: 'exact' is there twice"),
        ({"models": ["a/x", "b/x"]}, "models: 'x' is there twice"),
        ({"models": []}, "models: name at least one"),
        ({"models": ["./my-model"], "sets": ["screenspot_v2"]}, "how it writes points is not known"),
        ({"sets": [{"name": "words", "questions": "no.jsonl", "harness": "lmms-eval"}]}, "cannot be read"),
        ({"sets": [{"name": "a b", "questions": "x", "harness": "lmms-eval"}]}, "without spaces"),
        ({"sets": [{"name": "mine", "questions": "x"}]}, "say which harness"),
        ({"sets": [{"name": "docvqa_val", "harness": "lmms-eval"}]}, "for sets of your own"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder, changes, message) -> None:
    with pytest.raises(PixelPruneError, match=message) as raised:
        cells(config(folder, **changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "rows.jsonl:1: not JSON"),
        ('{"question": "a", "answers": ["b"]}', "needs an object with image"),
        ('{"image": "page.png", "question": "", "answers": ["b"]}', "question must be a text"),
        ('{"image": "page.png", "question": "a"}', "give answers, or a box"),
        ('{"image": "page.png", "question": "a", "answers": "b"}', "answers must be a list of texts"),
        ('{"image": "page.png", "question": "a", "box": [3, 2, 1, 4]}', r"box must be \[left"),
        ('{"image": "gone.png", "question": "a", "answers": ["b"]}', "there is no image"),
        ("", "no rows"),
    ],
)
def test_rows_that_cannot_be_used_are_named(folder, row, message) -> None:
    (folder / "rows.jsonl").write_text(row)
    with pytest.raises(DataError, match=message):
        cells(config(folder, sets=[{"name": "rows", "questions": str(folder / "rows.jsonl"), "harness": "lmms-eval"}]))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_resolve_without_weights(path, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(ROOT)
    work = jobs(cells(load_config(path, ["vlmevalkit=VLMEvalKit", f"output={tmp_path}"])), tmp_path)
    lines = plan(work).lines()
    assert lines[0].startswith(f"{len(work)} cells, 0 finished") and "GPU hours" in lines[1]
    if path.stem == "paper":
        assert len(work) == 3 * 8 * 16 and sum(job.rows for job in work) == 3 * 8 * 20_076
        hours = plan(work).gpu_hours
        limited = plan(jobs(cells(load_config(path, ["vlmevalkit=x", "limit=10"])), tmp_path))
        assert 0 < limited.gpu_hours < hours / 50 and "Qwen/Qwen3-VL-8B-Instruct" in lines[2]


def test_the_page_names_every_key_and_its_file_is_one(folder, monkeypatch) -> None:
    for section in (EvaluateConfig, Model):
        assert not [key for key in section.model_fields if f"`{key}`" not in PAGE]
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    content = yaml.safe_load(block)
    content["sets"][-1]["questions"] = str(folder / "words.jsonl")
    assert len(cells(check(EvaluateConfig, content, "the page"))) == 2 * 7 * (1 + 6 + 1)
    assert all(name in PAGE for name in GROUPS["lmms-eval"])


def test_a_folder_with_other_settings_is_refused(folder) -> None:
    (job, _) = jobs(cells(config(folder)), folder / "out")
    job.folder.mkdir(parents=True)
    (job.folder / "cell.json").write_text(json.dumps(job.cell.to_dict()))
    jobs(cells(config(folder, batch_size=8, limit=1)), folder / "out")  # these change no answer
    with pytest.raises(ConfigError, match="answered with other settings"):
        jobs(cells(config(folder, models=[{"model": "reader", "dtype": "float32"}])), folder / "out")


def test_dry_run_says_what_is_missing(folder) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"models": ["reader"], "arms": ["whole"], "sets": ["OCRBench"], "output": "out"}))
    result = CliRunner().invoke(app, ["evaluate", str(path), "--dry-run", "--vlmevalkit", str(folder)])
    assert isinstance(result.exception, ConfigError) and "is no clone of VLMEvalKit" in str(result.exception)
    path.write_text(yaml.safe_dump({"models": ["reader"], "arms": ["whole"], "sets": ["ocrbench"], "output": "out"}))
    result = CliRunner().invoke(app, ["evaluate", str(path), "--dry-run"])
    assert isinstance(result.exception, ConfigError) and "pip install lmms-eval" in str(result.exception)
