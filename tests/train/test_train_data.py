"""Files of rows as a dataset: any row from disk, bad rows reported and counted, several files mixed by weight."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from train_kit import answer, row, rows, user, write

from pixelprune.errors import ConfigError, DataError
from pixelprune.train import Conversations, MixtureSampler, parse_row


def expected(made: list[Any], folder: Path) -> list[Any]:
    return [parse_row(given, folder=folder).messages for given in made]


def test_rows_of_several_files_in_order(pictures: Path) -> None:
    made = rows(11)
    first = write(pictures / "first.jsonl", made[:4])
    second = write(pictures / "second.jsonl", ["", *made[4:7], "   ", *made[7:], ""])
    data = Conversations([first, second])
    assert len(data) == 11
    assert [data[index].messages for index in range(11)] == expected(made, pictures)
    assert data[10].messages != data[9].messages  # control
    assert data[7].where == f"{second}:6" and data[-1].where == f"{second}:9"
    with pytest.raises(IndexError):
        data[11]


def test_only_offsets_are_in_memory(pictures: Path) -> None:
    """A file of 60 MB as a dataset holds 16 bytes a row, and any row is there at once."""
    path = pictures / "large.jsonl"
    filler = "x" * 200_000
    with path.open("w") as file:
        for number in range(300):
            file.write(json.dumps(row(user(filler), answer(str(number)))) + "\n")
    data = Conversations([path], check=False)
    assert sum(file.offsets.nbytes + file.lines.nbytes for file in data.files) == 300 * 16
    assert data[299].messages[1]["content"][0]["text"] == "299"
    assert data[17].messages[1]["content"][0]["text"] == "17"


def bad_file(folder: Path) -> Path:
    made: list[Any] = rows(6)
    lines = [made[0], "{", made[1], row(user("gone.png"), answer("a")), *made[2:], row(user("no answer"))]
    return write(folder / "bad.jsonl", lines)


def test_a_bad_row_stops(pictures: Path) -> None:
    path = bad_file(pictures)
    with pytest.raises(DataError, match=r"bad\.jsonl:2: not valid JSON .* \(skip_bad_rows leaves such rows out\)"):
        Conversations([path])
    lazy = Conversations([path], check=False)
    assert lazy[0].messages == expected(rows(1), pictures)[0]
    with pytest.raises(DataError, match=r"bad\.jsonl:4: there is no image .*gone\.png"):
        lazy[3]


def test_bad_rows_are_skipped_when_asked_for(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = bad_file(pictures)
    with caplog.at_level(logging.WARNING):
        data = Conversations([path], skip_bad_rows=True)
    assert data.skipped == 3 and len(data) == 6
    assert [data[index].messages for index in range(6)] == expected(rows(6), pictures)
    for line in (2, 4, 9):
        assert any(f"bad.jsonl:{line}: " in record.message for record in caplog.records)
    assert len(caplog.records) == 3


def test_a_row_that_turns_out_bad_is_replaced_by_the_next(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its number stays, so that batches do; it is counted once."""
    path = bad_file(pictures)
    data = Conversations([path], skip_bad_rows=True, check=False)
    made = expected(rows(6), pictures)
    with caplog.at_level(logging.WARNING):
        assert [data[index].messages for index in range(9)] == [made[i] for i in (0, 1, 1, 2, 2, 3, 4, 5, 0)]
        assert data.skipped == 3
        assert data[1].messages == made[1]
    assert data.skipped == 3 and len(caplog.records) == 3


def test_bad_rows_met_by_workers_are_counted(pictures: Path) -> None:
    data = Conversations([bad_file(pictures)], skip_bad_rows=True, check=False, prepare=lambda c: c.where)
    loader: Any = torch.utils.data.DataLoader(data, batch_size=3, num_workers=1, collate_fn=list)
    seen = [where.rsplit(":")[-1] for batch in loader for where in batch]
    assert seen == ["1", "3", "3", "5", "5", "6", "7", "8", "1"]
    assert data.skipped == 3


def test_many_bad_rows_are_counted_not_listed(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(pictures / "many.jsonl", [*["{"] * 50, rows(1)[0]])
    with caplog.at_level(logging.WARNING):
        assert Conversations([path], skip_bad_rows=True).skipped == 50
    assert len(caplog.records) == 21 and "only counted" in caplog.records[-1].message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "nothing.jsonl: cannot be read (No such file or directory)"),
        ([""], "nothing.jsonl: no rows in it"),
        (["{", "["], "nothing.jsonl: not one of its 2 rows can be used"),
    ],
)
def test_files_without_rows(lines: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "nothing.jsonl"
    if lines is not None:
        write(path, lines)
    with pytest.raises(DataError) as caught:
        Conversations([path], skip_bad_rows=True)
    assert message in str(caught.value)
    with pytest.raises(ConfigError, match="name at least one"):
        Conversations([])


def epochs(sampler: MixtureSampler, count: int) -> list[list[int]]:
    result = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        result.append(list(sampler))
    return result


def test_without_weights_every_row_comes_once_per_epoch() -> None:
    first, second = epochs(MixtureSampler([5, 7], seed=3), 2)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second and first != list(range(12))
    assert [first, second] == epochs(MixtureSampler([5, 7], seed=3), 2), "the same seed gives the same order"
    assert first != epochs(MixtureSampler([5, 7], seed=4), 1)[0]
    assert epochs(MixtureSampler([5, 7], shuffle=False), 1)[0] == list(range(12))


def test_weights_share_an_epoch_and_visit_rows_evenly() -> None:
    sampler = MixtureSampler([10, 90], weights=[3, 1])
    assert sampler.counts == [75, 25] and len(sampler) == 100
    seen: Counter[int] = Counter()
    for epoch in epochs(sampler, 4):
        assert sum(index < 10 for index in epoch) == 75
        seen.update(epoch)
    assert {seen[index] for index in range(10)} == {30}, "300 draws of 10 rows"
    assert {seen[index] for index in range(10, 100)} == {1, 2}, "100 draws of 90 rows: none three times"
    none = MixtureSampler([4, 6], weights=[0, 2.5])
    assert len(list(none)) == 10
    assert min(none) >= 4


@pytest.mark.parametrize("weights", [[1], [-1, 2], [0, 0]])
def test_weights_that_mean_nothing(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="one number of at least 0 per file"):
        MixtureSampler([3, 4], weights)
