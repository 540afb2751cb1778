"""The proof asks as a user would: many questions about one encoded image are answered as each alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from docs import lattice_table
from pixelprune import PruneConfig
from pixelprune import reader as bundled
from recipes.tiny_reader import budgets, evaluate, table
from recipes.tiny_reader.shared import Reading

SIDES, QUESTIONS = (192, 288), 2


@pytest.fixture(scope="module")
def loaded():
    return evaluate.load(str(bundled.path()))


def alone(loaded, variant, image, text):
    """Plain ``generate``: one question, nothing shared."""
    model, processor = loaded
    inputs = evaluate.inputs_of(processor, variant.processor_prune, image, text)
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=48, do_sample=False)
    return processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def together(loaded, variant, image, texts, **sizes):
    """All questions at once, as the evaluation asks; the answers and how many blocks were seen of how many."""
    reading = Reading(*loaded, image, texts, **sizes)
    kept = evaluate.kept_of(variant, loaded[1], image, reading.rows * reading.columns)
    return reading.ask(kept), len(kept), reading.rows * reading.columns


@pytest.mark.parametrize("prune", [None, PruneConfig(), PruneConfig("raster", threshold=0.05, lattice=3)], ids=str)
def test_questions_that_share_an_image_are_answered_as_each_alone(loaded, prune) -> None:
    variant = evaluate.Variant("any", "base", prune)
    for number in range(3):
        sheet, asked = evaluate.sheet_of(number, SIDES, QUESTIONS)
        texts = [question.text for question in asked]
        answers, kept, total = together(loaded, variant, sheet.image, texts)
        assert answers == [alone(loaded, variant, sheet.image, text) for text in texts]
        assert kept == total if prune is None else kept < total
        # Control: the same questions of another page are answered otherwise.
        other, _ = evaluate.sheet_of(number + 10, SIDES, QUESTIONS)
        assert together(loaded, variant, other.image, texts)[0] != answers


@pytest.mark.parametrize("lattice", [0, 4])
def test_the_rivals_see_what_they_are_said_to_see(loaded, lattice) -> None:
    """Resized: about as many tokens as pruning keeps; random: exactly as many; padded: not resized."""
    processor = loaded[1]
    ways = {way.name: way for way in [*evaluate.variants(["base"]), *evaluate.lattice_variants(["base"])]}
    sheet, asked = evaluate.sheet_of(1, SIDES, QUESTIONS)
    seen = {}
    pred2d, rival = f"pred2d, lattice {lattice}", f"random, lattice {lattice}"
    resized = f"resized, lattice {lattice}"
    for name in ("whole", pred2d, "pred2d 0, padded", rival, resized):
        image, sizes = evaluate.prepare(sheet, ways[name], processor)
        _, kept, total = together(loaded, ways[name], image, [asked[0].text], **sizes)
        seen[name] = (kept, total, image.size)
    assert seen["whole"][0] == seen["whole"][1]
    assert seen[rival][:2] == seen[pred2d][:2]
    assert 0.7 * seen[pred2d][0] <= seen[resized][0] <= seen[pred2d][0]
    width, height = seen["pred2d 0, padded"][2]
    assert width % 32 == height % 32 == 0 and 0 <= width - sheet.width < 32 and 0 <= height - sheet.height < 32


def test_blocks_that_were_asked_about_are_not_run_again_and_others_are(loaded, monkeypatch) -> None:
    sheet, asked = evaluate.sheet_of(1, SIDES, QUESTIONS)
    reading = Reading(*loaded, sheet.image, [asked[0].text])
    runs = []
    run = reading._ask
    monkeypatch.setattr(reading, "_ask", lambda kept: runs.append(1) or run(kept))
    counts = []
    for prune in (PruneConfig(), None, PruneConfig("random"), PruneConfig(threshold=1e-6)):
        before = len(runs)
        variant = evaluate.Variant("any", "base", prune)
        reading.ask(evaluate.kept_of(variant, loaded[1], sheet.image, reading.rows * reading.columns))
        counts.append(len(runs) - before)
    # At threshold 0 and just above it pred2d keeps the same blocks; whole and random see others.
    assert counts == [1, 1, 1, 0]


def test_the_table_counts_groups_and_goes_on(tmp_path) -> None:
    lines = [
        {"variant": "whole", "page": n, "kept": 10, "total": 10, "tasks": ["text", "point"], "right": [True, n > 0]}
        for n in range(4)
    ]
    lines += [{**line, "variant": "pred2d 0", "kept": 5, "right": [False, True]} for line in lines]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = table.table(tmp_path).splitlines()
    assert rows[2].startswith("| whole | 100.0% | 100.0% (51.0%-100.0%) | 75.0% (30.1%-95.4%) |")
    assert rows[3].startswith("| pred2d 0 | 50.0% | 0.0% (0.0%-49.0%) | 100.0% ")
    assert rows[-1] == "Questions: 4 reading, 4 grounding."
    # Shares are of the page's own blocks, whatever a padded image has, in any order and also where nobody saw it whole.
    padded = [{**line, "variant": "padded", "kept": 6, "total": 12} for line in lines[:4]]
    for given, expected in (([*padded, *lines], "60.0%"), ([*lines, *padded], "60.0%"), (padded, "50.0%")):
        (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, given)))
        assert f"| padded | {expected} |" in table.table(tmp_path)


def lines_of(name, right):
    """A page for each list of right answers to readings, as lines of an evaluation."""
    return [
        {"variant": name, "page": n, "kept": 5, "total": 10, "tasks": ["text"] * len(each), "right": each}
        for n, each in enumerate(right)
    ]


def test_differences_are_paired_by_question_and_their_intervals_by_page(tmp_path) -> None:
    """Against a bootstrap over pages, which is slower and needs no formula."""
    rng = np.random.default_rng(5)
    counts = rng.integers(1, 7, 120)
    # Pages differ much, and the two variants much less on each: what pairing is for.
    chance = rng.random(120)
    theirs = [(rng.random(n) < c).tolist() for n, c in zip(counts, chance, strict=True)]
    ours = [[right or rng.random() < 0.15 for right in page] for page in theirs]
    found = table.difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    gained = np.array([sum(a) - sum(b) for a, b in zip(ours, theirs, strict=True)])
    draws = rng.integers(0, 120, (4000, 120))
    means = gained[draws].sum(1) / counts[draws].sum(1)
    assert found.mean == pytest.approx(gained.sum() / counts.sum())
    assert found.half == pytest.approx(1.96 * means.std(), rel=0.08)
    # Control: taken as unpaired shares, the same answers have a far wider interval.
    low, high = table.wilson(sum(map(sum, ours)), int(counts.sum()))
    assert high - low > 2.5 * found.half

    lines = [*lines_of("whole", theirs), *lines_of("pred2d, lattice 4", ours)]
    for line in lines:
        line["tasks"].append("point")
        line["right"].append(True)
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = table.table(tmp_path, paired=True).splitlines()
    assert f"| +{found.mean * 100:.1f} ± {found.half * 100:.1f} |" in rows[3] and "| +0.0 ± 0.0 |" in rows[2]
    table.main([str(tmp_path), "--json", str(tmp_path / "numbers.json")])
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    row = numbers["variants"]["pred2d, lattice 4"]
    assert numbers["pages"] == 120 and numbers["questions"]["reading"] == counts.sum()
    assert row["reading"]["difference"] == {"mean": round(found.mean, 6), "half": round(found.half, 6)}
    assert row["kept"] == 0.5


def test_what_is_timed_takes_turns_and_medians_count(monkeypatch) -> None:
    """With a clock of our own: each round of a page runs every way once, and what the processor does is inside."""
    ways = evaluate.lattice_variants(["base"])[:3]
    log, spent = [], iter([9, 9, 9, 8, 2, 1, 8, 4, 4, 8, 2, 1, 80, 4, 2] * 2)

    def first_token(model, inputs):
        log.append(len(inputs()["pixel_values"]))
        return next(spent) / 1000

    monkeypatch.setattr(evaluate, "first_token", first_token)
    times = evaluate.clock(ways, {"base": str(bundled.path())}, SIDES, count=2, rounds=4)
    assert [way.name for way in ways] == list(times) == ["whole", "pred2d, lattice 0", "pred2d, lattice 6"]
    # Median of 8, 8, 8, 80; of 2, 4, 2, 4; of 1, 4, 1, 2. The first round, of 9, does not count.
    assert [times[way.name]["first_token_ms"] for way in ways] == pytest.approx([8, 3, 1.5])
    assert [times[way.name]["speedup"] for way in ways] == pytest.approx([1, 8 / 3, 8 / 1.5])
    turns = np.array(log).reshape(2, 5, 3)
    assert (
        (turns == turns[:, :1]).all()
        and (turns[..., 0] > turns[..., 2]).all()
        and (turns[..., 2] > turns[..., 1]).all()
    )
    kept = turns[:, 0].sum(0)
    assert [times[way.name]["timed_kept"] for way in ways] == pytest.approx((kept / kept[0]).tolist())


def test_budgets_are_met_in_every_way_and_a_page_in_black_and_white_is_one(loaded) -> None:
    results = budgets.score(0, 1, "bilevel")
    by_name = {result["variant"]: result for result in results}
    exact = by_name["exact"]["kept"]
    assert by_name["whole"]["kept"] == by_name["whole"]["total"] > exact
    for share in budgets.SHARES:
        for way in (*budgets.METRICS, "resized"):
            assert 1 <= by_name[f"{share:.0%}, {way}"]["kept"] <= max(4, share * exact)
    # What levels of max leave of a page in black and white is what select has another metric for.
    assert by_name["90%, max"]["kept"] == 1 < 0.7 * exact < by_name["90%, mae"]["kept"]
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    pixels[:16] //= 4
    black_and_white = budgets.bilevel(pixels)
    assert set(np.unique(black_and_white)) == {0, 255} and (black_and_white[:16] == 0).mean() > 0.9
    assert len(np.unique(budgets.bilevel(np.full((32, 32, 3), 9, np.uint8)))) == 1


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    page = lattice_table.PAGE.read_text(encoding="utf-8")
    assert lattice_table.written(page) == page
    # Control: a number that is changed by hand is written over.
    row = next(line for line in page.splitlines() if line.startswith("| `pred2d`, lattice 4 |"))
    assert lattice_table.written(page.replace(row, row.replace("lattice 4 | 5", "lattice 4 | 6"))) == page
