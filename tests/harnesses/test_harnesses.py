"""Both harnesses for real: five arms on two sets, killed in the middle, against the recipe's own evaluation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rows as held_out
import yaml

from pixelprune.evaluate.answering import read_replies
from pixelprune.evaluate.cell import read_result

ROWS = held_out.ROWS
ROOT = Path(__file__).parents[2]
SETS = ("reading", "pointing")


def config(folder, output, harness, clone, **changes):
    """A configuration file, for the bundled reader in float32."""
    content = {
        "models": [{"model": "reader", "dtype": "float32", "point_prompt": "{question}"}],
        "arms": list(held_out.ARMS.values()),
        "sets": [{"name": name, "questions": str(folder / f"{name}.jsonl"), "harness": harness} for name in SETS],
        "output": str(output),
        "device": "cpu",
        "processes": 2,
        "batch_size": 4,
        "max_new_tokens": 48,
    }
    if harness == "vlmevalkit":
        content["vlmevalkit"] = str(clone)
    path = output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(content | changes))
    return path


def command(*arguments):
    return [sys.executable, "-m", "pixelprune", "evaluate", *map(str, arguments)]


def environment():
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}


def evaluate(*arguments):
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), timeout=2400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines_in(output):
    return sum(max(0, len(path.read_bytes().splitlines()) - 1) for path in output.rglob("journal.jsonl"))


@pytest.fixture(scope="session")
def finished(asked, harness, clone, tmp_path_factory):
    """A run that was killed with -9 when it had answered a part, and then run again."""
    output = tmp_path_factory.mktemp(harness) / "out"
    path = config(asked[0], output, harness, clone)
    process = subprocess.Popen(command(path), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while lines_in(output) < ROWS // 2 and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2)  # its cells end by themselves
    before = lines_in(output)
    time.sleep(2)
    assert lines_in(output) == before and ROWS // 2 <= before < 2 * 5 * ROWS
    printed = evaluate(path)
    return path, output, before, printed


def name_of(harness, kind, place):
    if harness == "vlmevalkit":
        return str(place)
    return f"{'DocVQA' if kind == 'reading' else 'ScreenSpot'}_{kind}/{place}"


@pytest.mark.parametrize("arm", held_out.ARMS)
@pytest.mark.parametrize("kind", SETS)
def test_answers_counts_and_scores_are_the_recipes(finished, asked, harness, kind, arm) -> None:
    folder = finished[1] / "reader" / kind / arm.replace(" ", "-")
    result, expected = read_result(folder), asked[2][kind, arm]
    names = [name_of(harness, kind, place) for place in range(ROWS)]
    assert sorted(result.replies) == sorted(names)
    replies = [result.replies[name] for name in names]
    assert [reply.text for reply in replies] == [answer.text for answer in expected]
    assert [reply.images[0].kept for reply in replies] == [answer.kept for answer in expected]
    scores = {row.name: row.score for row in result.rows}
    right = [scores[name] for name in names]
    if kind == "pointing":
        assert right == [float(answer.right) for answer in expected]
        assert result.score == pytest.approx(sum(right) / ROWS)
    else:
        # ANLS, which takes no notice of case and gives a part for a part: full where the recipe says right.
        assert all(score == 1 for score, answer in zip(right, expected, strict=True) if answer.right)
        wrong = [row.answer.lower().split() for row in asked[1][kind]]
        full = [text.text.lower().split() == want for text, want in zip(replies, wrong, strict=True)]
        assert [score == 1 for score in right] == full
        assert result.score == pytest.approx(sum(right) / ROWS, abs=1e-6)


def test_other_arms_answers_would_be_noticed(asked) -> None:
    """Control: of the comparison above. Rows of one arm are not those of another."""
    expected = asked[2]
    texts = {arm: [answer.text for answer in expected["reading", arm]] for arm in held_out.ARMS}
    assert (
        texts["random"] != texts["whole"] != texts["resized"] != texts["random"] and texts["random"] != texts["exact"]
    )
    kept = {arm: [answer.kept for answer in expected["reading", arm]] for arm in held_out.ARMS}
    assert kept["exact"] != kept["lattice 4"] and kept["exact"] != kept["whole"]


def test_run_again_it_asks_nothing_and_the_table_is_the_same(finished) -> None:
    path, output, before, printed = finished
    table, journals = (output / "table.json").read_text(), lines_in(output)
    assert journals == 2 * 5 * ROWS and f"{2 * 5 * ROWS - before:,} answers to go" in printed
    again = evaluate(path)
    assert "10 finished; 0 answers to go" in again
    assert (output / "table.json").read_text() == table and lines_in(output) == journals
    lines = json.loads(table)
    by_arm = {(line["set"], line["arm"]): line for line in lines}
    assert by_arm["reading", "random"]["against"]["high"] < 0 < by_arm["reading", "random"]["kept"] < 1
    assert by_arm["reading", "whole"]["kept"] == 1 and by_arm["reading", "whole"]["against"] is None
    assert by_arm["reading", "exact"]["interval"]["clusters"] < ROWS
    assert not any(line["note"] for line in lines)
    assert "<svg" in (output / "report.html").read_text()


def test_one_row_at_a_time_answers_alike(finished, asked, harness, clone, tmp_path) -> None:
    output = tmp_path / "out"
    limit = 20
    path = config(asked[0], output, harness, clone, arms=["whole", "exact"], batch_size=1)
    evaluate(path, "--limit", limit)
    for kind in SETS:
        single = read_replies(output / "reader" / kind / "exact" / "journal.jsonl")
        batched = read_replies(finished[1] / "reader" / kind / "exact" / "journal.jsonl")
        assert len(single) == limit
        assert all(single[name].text == batched[name].text for name in single)
