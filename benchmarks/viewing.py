"""How long it takes to see what is dropped: a survey of many files, and the explorer's picture as its slider moves.

The survey reads hard links to the given images, round after round, until there are ``--files``; ``decoding`` is the
same with as many processes that only decode each file. For the explorer each image is loaded once; then every position
of the slider is timed, from the settings to the picture and the numbers as the page gets them.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import common

from pixelprune.app.document import Page
from pixelprune.app.view import TOP_LEVEL, Choice, look, numbers_html, picture_html
from pixelprune.core.images import open_image
from pixelprune.survey import run
from pixelprune.survey.summary import times

PAGES = ("application-form.png", "paper.png", "tax-form.png")  # 1275 x 1650: a page at 150 dots per inch
SCREENS = ("docs-page.png", "dashboard-dark.png")  # 1920 x 1080


def main(arguments: list[str] | None = None) -> None:
    options = common.parser(__doc__, repeats=1)
    options.add_argument("--files", type=int, default=600, help="that are surveyed (%(default)s)")
    args = options.parse_args(arguments)
    pages = args.images or [common.EXAMPLES / name for name in PAGES]
    screens = args.images or [common.EXAMPLES / name for name in SCREENS]
    facts = common.machine()
    print(common.machine_line(facts), flush=True)
    surveys = [survey(pages, args.files) for _ in range(args.repeats)]
    print(f"\nA survey of {args.files} files\n")
    print(common.table(surveys, SURVEY_COLUMNS), flush=True)
    pictures = [follow(path) for path in screens]
    print("\nThe explorer's picture after its slider moves\n")
    print(common.table(pictures, PICTURE_COLUMNS))
    common.save(args.json, facts, survey=surveys, explorer=pictures)


SURVEY_COLUMNS = {
    "files": "{files}",
    "processes": "{processes}",
    "decoding, files per second": "{decoded:.1f}",
    "survey, files per second": "{surveyed:.1f}",
    "selecting and counting, of its work": "{share:.1%}",
}
PICTURE_COLUMNS = {
    "image": "{image}",
    "size": "{width} x {height}",
    "positions": "{positions}",
    "ms, median": "{median:.0f}",
    "ms, worst": "{worst:.0f}",
}


def survey(paths: list[Path], count: int) -> dict[str, Any]:
    """Files per second of a survey on all cores and of decoding alone, and the share of the work that is ours."""
    processes = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        kept = [Path(shutil.copy(path, Path(folder) / f"first-{n}{path.suffix}")) for n, path in enumerate(paths)]
        (Path(folder) / "files").mkdir()
        links = []
        for number in range(count):
            original = kept[number % len(kept)]
            links.append(Path(folder) / "files" / f"{number:05d}{original.suffix}")
            links[-1].hardlink_to(original)
        with ProcessPoolExecutor(processes) as pool:
            list(pool.map(decode, links[: 2 * processes]))
            start = time.perf_counter()
            list(pool.map(decode, links, chunksize=8))
            decoded = count / (time.perf_counter() - start)
        start = time.perf_counter()
        result = run([str(Path(folder) / "files")], workers=processes)
        surveyed = count / (time.perf_counter() - start)
    assert len(result.rows) == count
    share = times(result.rows)["measure_share"]
    return {"files": count, "processes": processes, "decoded": decoded, "surveyed": surveyed, "share": share}


def decode(path: Path) -> int:
    return open_image(path).width


def follow(path: Path) -> dict[str, Any]:
    """Milliseconds from the slider to the picture, over all of its positions."""
    page = Page(path.name, open_image(path))
    positions = range(TOP_LEVEL + 1)
    spent = []
    for level in (0, *positions):  # the first once more: loading and resizing are not counted
        start = time.perf_counter()
        choice = Choice(level)
        view = look(page, choice)
        html = picture_html(page, choice, view) + numbers_html(choice, view)
        spent.append((time.perf_counter() - start) * 1e3)
        assert "blocks kept" in html
    return {
        "image": path.name,
        "width": page.image.width,
        "height": page.image.height,
        "positions": len(positions),
        "median": statistics.median(spent[1:]),
        "worst": max(spent[1:]),
    }


if __name__ == "__main__":
    common.run(main)
