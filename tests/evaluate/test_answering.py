"""The journal: nothing is asked twice, and a killed cell resumes at its next row."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from pixelprune.errors import ConfigError
from pixelprune.evaluate.answering import Answerer, Question, Reply, Seen, read_replies


class Echo:
    """An engine that answers with the question, and fails from some row on."""

    def __init__(self, asked, fails_at=None):
        self.asked, self.fails_at = asked, fails_at

    def answer(self, questions):
        rows = [question.row for question in questions]
        if self.fails_at in rows:
            raise RuntimeError("out of memory")
        self.asked.append(rows)
        return [
            Reply(question.row.upper(), [Seen(3, 9, 96, 96, digest) for digest in question.digests], 2, 0.5)
            for question in questions
        ]


def question(row, text="What?", colour="white", tokens=8):
    parts = [{"type": "image", "image": Image.new("RGB", (40, 30), colour)}, {"type": "text", "text": text}]
    return Question(row, [{"role": "user", "content": parts}], tokens)


def answerer(path, asked, head=None, batch=2, fails_at=None):
    return Answerer(path / "journal.jsonl", head or {"arm": "exact"}, lambda: Echo(asked, fails_at), batch)


def test_rows_are_asked_in_batches_and_never_twice(tmp_path) -> None:
    asked = []
    names = list("abcde")
    first = answerer(tmp_path, asked)
    assert [reply.text for reply in first.answer(map(question, names))] == ["A", "B", "C", "D", "E"]
    assert asked == [["a", "b"], ["c", "d"], ["e"]]
    assert first.answer([question("c"), question("a")])[0].text == "C" and len(asked) == 3
    first.close()
    again = answerer(tmp_path, asked)
    assert [reply.text for reply in again.answer(map(question, names))] == ["A", "B", "C", "D", "E"] and len(asked) == 3
    replies = read_replies(tmp_path / "journal.jsonl")
    assert list(replies) == names and replies["a"].images[0].kept == 3
    assert replies["a"].cluster == replies["b"].cluster


def test_killed_in_a_line_it_resumes_at_that_row(tmp_path) -> None:
    asked = []
    with pytest.raises(RuntimeError):
        answerer(tmp_path, asked, fails_at="e").answer(map(question, "abcdef"))
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # of row d
    asked.clear()
    done = answerer(tmp_path, asked)
    assert [reply.text for reply in done.answer(map(question, "abcdef"))] == list("ABCDEF")
    assert asked == [["d", "e"], ["f"]]
    assert [json.loads(line)["row"] for line in path.read_text().splitlines()[1:]] == list("abcdef")


@pytest.mark.parametrize("other", [{"text": "Which?"}, {"colour": "black"}, {"tokens": 9}])
def test_another_question_under_the_same_name_is_asked(tmp_path, other) -> None:
    asked = []
    answerer(tmp_path, asked).answer([question("a")])
    answerer(tmp_path, asked).answer([question("a", **other)])
    assert asked == [["a"], ["a"]]


def test_a_journal_of_something_else_is_refused(tmp_path) -> None:
    answerer(tmp_path, []).answer([question("a")])
    with pytest.raises(ConfigError, match="answered with other settings; delete its folder"):
        answerer(tmp_path, [], head={"arm": "random"})
    (tmp_path / "journal.jsonl").write_text("no journal")
    with pytest.raises(ConfigError, match="not the journal of a cell"):
        answerer(tmp_path, [])


def test_no_engine_is_made_where_nothing_is_missing(tmp_path) -> None:
    answerer(tmp_path, []).answer([question("a")])

    def fail():
        raise AssertionError("an engine was made")

    assert Answerer(tmp_path / "journal.jsonl", {"arm": "exact"}, fail, 1).answer([question("a")])[0].text == "A"
