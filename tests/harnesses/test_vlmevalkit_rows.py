"""Scores of rows of sets that no test can download, by VLMEvalKit's own classes on small tables."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest

from pixelprune.evaluate import vlmevalkit
from pixelprune.evaluate.sets import KNOWN


@pytest.fixture(scope="module")
def kit(clone):
    vlmevalkit.check_clone(clone)
    sys.path.insert(0, str(clone))
    yield SimpleNamespace(
        dataset=importlib.import_module("vlmeval.dataset"), file=importlib.import_module("vlmeval.smp.file")
    )
    sys.path.remove(str(clone))


def asking(name):
    return SimpleNamespace(cell=SimpleNamespace(set=KNOWN[name]))


def test_ocrbench_row_by_row(kit, tmp_path) -> None:
    category = ["Regular Text Recognition", "Doc-oriented VQA", "Key Information Extraction"]
    table = {"index": [3, 5, 8], "category": category, "answer": ["['STOP']", "['42']", "['Main St']"]}
    file = tmp_path / "pixelprune_OCRBench.xlsx"
    kit.file.dump(pandas.DataFrame({**table, "prediction": ["a stop sign", "41", "Main St"]}), str(file))
    evaluate = kit.dataset.OCRBench.evaluate
    found = evaluate(str(file))
    rows = vlmevalkit._rows(asking("OCRBench"), file, evaluate, {})
    assert rows == pytest.approx({"3": 1, "5": 0, "8": 1})
    # VLMEvalKit divides by the 1,000 rows of the whole set.
    assert vlmevalkit._score(found, asking("OCRBench"), file) * 1000 == pytest.approx(sum(rows.values()))
    assert not list(tmp_path.glob("row*"))


def test_choices_by_exact_matching(kit, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    letters = {"A": ["sun", "cat"], "B": ["moon", "dog"], "C": ["star", "cow"], "D": ["rain", "hen"]}
    table = pandas.DataFrame({"index": [1, 2], "question": ["Which?", "Who?"], **letters, "answer": ["B", "A"]})
    dataset = kit.dataset.ImageMCQDataset.__new__(kit.dataset.ImageMCQDataset)
    dataset.dataset_name, dataset.data = "AI2D_TEST", table
    file = tmp_path / "pixelprune_AI2D_TEST.xlsx"
    kit.file.dump(table.assign(prediction=["B", "C"]), str(file))
    found = dataset.evaluate(str(file), model="exact_matching", nproc=1)
    rows = vlmevalkit._rows(asking("AI2D_TEST"), file, dataset.evaluate, {})
    assert rows == {"1": 1, "2": 0} and vlmevalkit._score(found, asking("AI2D_TEST"), file) == 0.5


def test_relaxed_answers(kit, tmp_path) -> None:
    dataset = kit.dataset.ImageVQADataset.__new__(kit.dataset.ImageVQADataset)
    dataset.dataset_name = "ChartQA_TEST"
    file = tmp_path / "pixelprune_ChartQA_TEST.xlsx"
    table = {"index": [1, 2, 3], "question": ["?"] * 3, "answer": ["100", "Rice", "7"], "split": ["a", "a", "b"]}
    kit.file.dump(pandas.DataFrame({**table, "prediction": ["104", "rice", "9"]}), str(file))
    found = dataset.evaluate(str(file))
    rows = vlmevalkit._rows(asking("ChartQA_TEST"), file, dataset.evaluate, {})
    assert rows == {"1": 1, "2": 1, "3": 0}
    assert vlmevalkit._score(found, asking("ChartQA_TEST"), file) == pytest.approx(2 / 3)


def test_files_of_mmlongbench_and_olmocrbench(kit, tmp_path) -> None:
    """As their evaluations leave them: a column ``score``, and a table of shares."""
    file = tmp_path / "pixelprune_MMLongBench_DOC.xlsx"
    kit.file.dump(pandas.DataFrame({"index": [4, 9], "score": [1.0, 0.25]}), str(file.with_stem(f"{file.stem}_judge")))
    found = pandas.DataFrame({"category": ["overall_f1", "overall_acc"], "num": [2, 2], "avg_score": [0.5, 0.625]})
    assert vlmevalkit._rows(asking("MMLongBench_DOC"), file, None, {"model": "judge"}) == {"4": 1, "9": 0.25}
    assert vlmevalkit._score(found, asking("MMLongBench_DOC"), file) == 0.625
    Path(tmp_path / "olmOCRBench_eval_summary.csv").write_text("type,score\noverall,61.5\ntables,50.0\n")
    assert vlmevalkit._score(None, asking("olmOCRBench"), tmp_path / "x.xlsx") == pytest.approx(0.615)
    assert vlmevalkit._rows(asking("olmOCRBench"), file, None, {}) is None
