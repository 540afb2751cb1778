"""What a survey says: numbers that follow from the rows, a recommendation with its reason, self-contained pages."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from collection import picture

from pixelprune import PruneConfig
from pixelprune.core.config import threshold_of
from pixelprune.errors import ConfigError
from pixelprune.models.cost import KNOWN_MODELS, compare
from pixelprune.survey import ImageRow, Problem, Settings, Survey, run
from pixelprune.survey.advice import LATTICE_TRAINED, LATTICE_UNTRAINED, lattices, recommend, summarize
from pixelprune.survey.pictures import draw, extremes
from pixelprune.survey.records import CURVE, LATTICES, MEASURED
from pixelprune.survey.report import changes, write_comparison, write_html
from pixelprune.survey.summary import (
    by_folder,
    by_size,
    image_speedup,
    project,
    spread,
)
from pixelprune.viz.charts import PERCENTILES, curve, histogram


def row(name: str = "a", blocks: int = 100, group: str = "", width: int = 320, **kept: int) -> ImageRow:
    """A row of 10 columns that keeps everything but what is said, by keys such as ``pred2d_5``."""
    counts = dict.fromkeys(MEASURED, blocks) | {key.replace("_", "@"): value for key, value in kept.items()}
    return ImageRow(name, group, name, 0, width, 320, blocks // 10, 10, blocks // 2, counts, 30.0, 20.0, 1.0, 10.0)


def exact(share: int, **others: int) -> dict[str, int]:
    """``share`` kept at every level by every method, but for others."""
    return {key.replace("@", "_"): share for key in MEASURED} | others


def test_spread():
    rows = [row(blocks=100, pred2d_0=10), row(blocks=300, pred2d_0=210), row(blocks=100, pred2d_0=50)]
    result = spread(rows, "pred2d@0")
    assert result.overall == 270 / 500
    assert result.mean == pytest.approx((0.1 + 0.7 + 0.5) / 3)
    np.testing.assert_allclose(result.percentiles, np.percentile([0.1, 0.7, 0.5], PERCENTILES))


@pytest.mark.parametrize("model", KNOWN_MODELS)
def test_projection_adds_up_what_the_cost_model_says(model):
    settings = Settings(model=model, text_tokens=20)
    rows = [row(blocks=100, pred2d_0=10), row(blocks=300, pred2d_0=210)]
    costs = [compare(settings.shape, (r.blocks, r.kept["pred2d@0"]), 20) for r in rows]
    result = project(rows, settings, "pred2d@0")
    assert (result.tokens, result.tokens_pruned) == (400, 220)
    full, pruned = (sum(getattr(c, side).total_flops for c in costs) for side in ("full", "pruned"))
    assert (result.flops, result.flops_pruned) == (full, pruned)
    assert result.speedup == full / pruned
    assert result.vit_speedup == sum(c.full.vit_flops for c in costs) / sum(c.pruned.vit_flops for c in costs)
    assert result.llm_speedup == sum(c.full.llm_flops for c in costs) / sum(c.pruned.llm_flops for c in costs)
    assert image_speedup(rows[0], settings, "pred2d@0") == pytest.approx(1 / costs[0].flops_ratio)
    assert project(rows, settings, "raster@0").speedup == 1


@pytest.mark.parametrize(
    "kept, method, level, prune, said",
    [
        (exact(30), "pred2d", 0, True, "Exact pruning keeps 30.0%"),
        (exact(30, pred2d_5=26, pred2d_12=25), "pred2d", 5, True, "Threshold 0.02 keeps 26.0%"),
        (exact(30, pred2d_5=28, pred2d_12=20), "pred2d", 12, True, "off by more than 12 of 255 levels"),
        (exact(30, pred2d_25=1, pred2d_51=1), "pred2d", 0, True, "rebuilt bit for bit"),
        # Fewer tokens are no reason for a method with which answers were worse.
        (
            exact(30, adaptive_0=27),
            "pred2d",
            0,
            True,
            "The method adaptive keeps 27.0%, but the bundled reader pointed worse",
        ),
        (exact(30, serpentine_0=27), "pred2d", 0, True, "serpentine keeps 27.0%, but no model was asked with it"),
        (exact(30, pred2d_12=20), "pred2d", 12, True, "Other methods were not counted"),
        (exact(30, components_0=5), "pred2d", 0, True, "No other method"),
        (exact(99), "pred2d", 0, False, "hardly repeat themselves"),
    ],
)
def test_recommendation(kept, method, level, prune, said):
    best = recommend([row(**kept), row(**kept)])
    assert (best.method, best.level, best.prune) == (method, level, prune)
    assert said in best.reason


def test_short_thresholds_mean_their_levels():
    for level in range(256):
        assert PruneConfig(threshold=threshold_of(level)).level == level
    assert [threshold_of(level) for level in (0, 5, 12, 25, 51)] == [0, 0.02, 0.05, 0.1, 0.2]


def test_lattices_are_counted_and_two_are_advised():
    survey = Survey([], Settings(), [row(pred2d_0=30, **{"pred2d_0+4": 34, "pred2d_0+2": 47})])
    found = {each.lattice: each for each in lattices(survey.rows, survey.settings, 0)}
    assert list(found) == [0, *LATTICES]
    assert (found[0].share, found[4].share, found[2].share) == (0.3, 0.34, 0.47)
    assert found[4].costs == project(survey.rows, survey.settings, "pred2d@0+4")
    assert (
        "never saw a pruned" in found[LATTICE_UNTRAINED].advice and "trained on pruned" in found[LATTICE_TRAINED].advice
    )
    assert summarize(survey)["recommended"]["lattice"] == {"trained": LATTICE_TRAINED, "untrained": LATTICE_UNTRAINED}


def test_groups():
    rows = [row("a", group="x", pred2d_0=10), row("b", group="y"), row("c", group="x", width=32000, pred2d_0=30)]
    folders = {group.name: group for group in by_folder(rows)}
    assert (folders["x"].images, folders["x"].blocks, folders["x"].retained["pred2d@0"]) == (2, 200, 0.2)
    assert (folders["y"].images, folders["y"].retained["pred2d@0"]) == (1, 1.0)
    assert [(group.name, group.images) for group in by_size(rows)] == [
        ("up to 0.5 megapixels", 2),
        ("above 5 megapixels", 1),
    ]


def test_best_and_worst_do_not_overlap():
    rows = [row(str(i), pred2d_0=i) for i in range(1, 101)]
    for count in (1, 2, 5, 100):
        least, most = extremes(Survey([], Settings(), rows[:count]), "pred2d@0")
        names = [r.name for r in least + most]
        assert len(set(names)) == len(names) == min(8, count)
        assert least[0].name == "1" and (not most or most[0].name == str(count))


def test_charts_follow_their_values():
    assert histogram([("", [0.1, 0.11])]) != histogram([("", [0.1, 0.91])])
    band = [(threshold_of(level), (0.1, 0.2, 0.3, 0.4, 0.5)) for level in CURVE]
    pictures = {curve([("x", band)]), curve([("x", band)], (0.1, 0.3)), curve([("x", band)], (0.2, 0.3))}
    assert len(pictures) == 3
    for svg in (*pictures, histogram([("a", [0.5]), ("b", [1.0])])):
        assert svg.startswith("<svg") and 'fill="currentColor"' in svg and "var(--series-1)" in svg


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A survey of real files, whose names try to get out of the page."""
    folder = tmp_path_factory.mktemp("small")
    for number, name in enumerate(["a & b.png", "<script>alert(1)<script>.png", "{{ 7 * 7 }}.png", "ü.png"]):
        picture(number).save(folder / name)
    (folder / "broken <i>.png").write_bytes(b"broken")
    return run([str(folder)], workers=1)


def outside(html: str) -> list[str]:
    """Whatever a page would load."""
    loads = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)|url\(([^)]*)\)|@import\s+(\S+)""", html)
    return [text for found in loads for text in found if text and not text.startswith(("data:", "#"))]


def test_report_holds_everything_itself(small, tmp_path):
    write_html(small, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert outside(html) == []
    assert outside('<img src="https://x/y.png">') == ["https://x/y.png"]
    assert html.count("<svg") == 2 and html.count("data:image/webp") == 4
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html and "{{ 7 * 7 }}" in html
    assert "broken &lt;i&gt;.png: not an image" in html
    best = recommend(small.rows)
    for lattice in lattices(small.rows, small.settings, best.level):
        assert f"<td>{lattice.share:.1%}</td>" in html
    assert f"{spread(small.rows, best.key).overall:.1%}" in html and f"threshold={best.threshold:g}" in html
    assert len(html) < 500_000


def test_pictures_are_left_out_where_files_are_gone(small):
    gone = replace(small.rows[0], source="nowhere.png", name="nowhere.png")
    pictures = draw(small, [gone, small.rows[1]], "pred2d", 0)
    assert [picture.row.name for picture in pictures] == [small.rows[1].name]


def test_comparison(small, tmp_path):
    other = replace(small, rows=[replace(r, kept=dict.fromkeys(r.kept, r.blocks)) for r in small.rows[:3]])
    write_comparison([small, other], ["first", "second"], tmp_path / "compare.html")
    html = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert outside(html) == [] and html.count("<svg") == 2
    assert f"<td>{spread(small.rows, 'pred2d@0').overall:.1%}</td><td>100.0%</td>" in html
    assert [entry["name"] for entry in changes(small, small)] == []
    prunable = {r.name for r in other.rows} & {r.name for r in small.rows if r.retained() < 1}
    assert prunable and {entry["name"] for entry in changes(small, other)} == prunable
    with pytest.raises(ConfigError, match="differ in model, 'Qwen3-VL-2B' and 'Qwen3-VL-8B'"):
        write_comparison([small, replace(other, settings=Settings(model="Qwen3-VL-8B"))], ["a", "b"], Path("x.html"))
    with pytest.raises(ConfigError, match="b: no images in this survey"):
        write_comparison([small, replace(other, rows=[])], ["a", "b"], tmp_path / "x.html")


def test_summary_of_nothing():
    survey = Survey(["x"], Settings(), [], [Problem("x", "x: broken")])
    assert summarize(survey) == {"images": 0, "problems": 1}
    with pytest.raises(ConfigError, match="no image of x could be read"):
        write_html(survey, Path("never.html"))
