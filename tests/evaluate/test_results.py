"""From finished cells to the table and the report; and what is read from VLMEvalKit's files."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from pixelprune.errors import ConfigError
from pixelprune.evaluate import table, vlmevalkit
from pixelprune.evaluate.answering import Answerer, Question, Reply, Seen
from pixelprune.evaluate.arms import Arm
from pixelprune.evaluate.cell import Asking, Cell, write_json
from pixelprune.evaluate.lmms_eval_run import row_score
from pixelprune.evaluate.report import write_html
from pixelprune.evaluate.run import Job
from pixelprune.evaluate.sets import KNOWN

ROWS = 12


class Sees:
    """An engine that keeps so many of 10 blocks."""

    def __init__(self, kept):
        self.kept = kept

    def answer(self, questions):
        return [Reply("x", [Seen(self.kept, 10, 32, 32, each.digests[0])], 1, 0.25) for each in questions]


def cell_of(arm):
    return Cell("m", {"model": "m", "dtype": "auto"}, "transformers", Arm.parse(arm), KNOWN["docvqa_val"])


def filled(folder, arm, kept, scores):
    """A finished cell with two questions a page."""
    cell = cell_of(arm)
    job = Job(cell, folder / arm, ROWS)
    job.folder.mkdir(parents=True)
    write_json(job.folder / "cell.json", cell.to_dict())
    answerer = Answerer(job.folder / "journal.jsonl", cell.head, lambda: Sees(kept), 5)
    pages = [Image.new("RGB", (8, 8), (number // 2, 0, 0)) for number in range(ROWS)]
    content = [[{"role": "user", "content": [{"type": "image", "image": page}]}] for page in pages]
    answerer.answer(Question(f"r{number}", messages, 8) for number, messages in enumerate(content))
    rows = {f"r{number}": float(score) for number, score in enumerate(scores)}
    Asking(cell, job.folder).finish(sum(scores) / ROWS, rows)
    return job


@pytest.fixture
def work(tmp_path):
    right = [1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    return [
        filled(tmp_path, "whole", 10, right),
        filled(tmp_path, "exact", 4, right),
        filled(tmp_path, "random", 4, [0] * ROWS),
        Job(cell_of("resized"), tmp_path / "none", ROWS),
    ]


def test_the_table_has_every_finished_cell(work) -> None:
    whole, exact, random = table.lines(work, "whole")
    assert (whole.score, whole.kept, whole.against, whole.rows) == (0.75, 1.0, None, ROWS)
    assert (exact.kept, exact.against.mean, exact.verdict) == (0.4, 0, "within noise")
    assert (random.against.mean, random.verdict) == (-0.75, "worse") and random.interval.clusters == ROWS // 2
    assert random.against.low < random.against.high < 0 and exact.seconds == 0.25
    text = table.markdown([whole, exact, random]).splitlines()
    assert (
        text[2].startswith("| m | docvqa_val | whole | 75.0 |") and "| 40.0 | +0.0 | +0.0 to +0.0 | within" in text[3]
    )


def test_a_score_that_rows_do_not_give_is_noted(work) -> None:
    path = work[1].folder / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "score": 0.8}))
    assert table.lines(work, "whole")[1].note == "the mean over rows is 75.0%"
    path.write_text(json.dumps({"score": 0.8, "rows": None, "limit": None}))
    line = table.lines(work, "whole")[1]
    assert line.interval is line.against is None and line.note == "the harness gives no scores of rows"
    assert (line.kept, table.cells_of(line)[4]) == (0.4, "–")


def test_another_limit_is_not_finished(work) -> None:
    assert work[0].result is not None and work[0].answered == ROWS
    limited = Job(Cell(**{**work[0].cell.__dict__, "limit": 5}), work[0].folder, 5)
    assert limited.result is None and limited.answered == 5


def test_the_report_has_table_chart_and_questions(work, tmp_path) -> None:
    write_html(work, table.lines(work, "whole"), "whole", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<svg" in text and "36 answers in 3 of 4 cells" in text and "within noise" in text
    assert "docvqa_val: random" in text and "http" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("sample", "score"),
    [({"m": 0.5}, 0.5), ({"m": True}, 1.0), ({"m": {"score": 1}}, 1.0), ({"m": {"correct": False}}, 0.0)],
)
def test_scores_of_rows_in_lmms_eval(sample, score) -> None:
    assert row_score(sample, "m") == score


def test_rows_without_scores_are_refused() -> None:
    with pytest.raises(ConfigError, match="no m of a row; they have"):
        row_score({"m": {"pred": "x"}}, "m")


def test_numbers_of_a_table_of_vlmevalkit() -> None:
    assert vlmevalkit._numbers("[np.float64(0.25), 1.0]") == [0.25, 1.0]
    assert vlmevalkit._numbers([True, False]) == [1, 0] and vlmevalkit._numbers("[1e-05]") == [1e-05]


def test_what_vlmevalkit_asks_and_a_prompt_in_its_place(tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    parts = [
        {"role": "system", "type": "text", "value": "You click."},
        {"type": "image", "value": str(tmp_path / "p.png")},
        {"type": "text", "value": "OK?"},
    ]
    system, user = vlmevalkit.messages(parts, None)
    assert system["content"][0]["text"] == "You click."
    assert [part["type"] for part in user["content"]] == [
        "image",
        "text",
    ]
    (only,) = vlmevalkit.messages(parts, "Click OK.")
    assert only["content"][1]["text"] == "Click OK." and only["role"] == "user"
    with pytest.raises(ConfigError, match="with video"):
        vlmevalkit.messages([{"type": "video", "value": "v"}], None)


def test_a_clone_is_checked_for_what_is_built_on(tmp_path) -> None:
    with pytest.raises(ConfigError, match="is no clone of VLMEvalKit; git clone"):
        vlmevalkit.check_clone(tmp_path)
    for name, needed in vlmevalkit._BUILT_ON.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\n".join(needed))
    vlmevalkit.check_clone(tmp_path)
    for name, needed in vlmevalkit._BUILT_ON.items():
        (tmp_path / name).write_text("\n".join(needed[1:]))
        with pytest.raises(ConfigError, match=f"check out {vlmevalkit.COMMIT}"):
            vlmevalkit.check_clone(tmp_path)
        (tmp_path / name).write_text("\n".join(needed))
