"""``pixelprune inspect`` as people run it: a process, its two streams, its exit code."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from corpus import EXAMPLES
from odd_images import pdf, png_header
from PIL import Image

import pixelprune
from pixelprune import PruneConfig, select
from pixelprune.cli import main
from pixelprune.core.analysis import distinct_ratio
from pixelprune.core.images import open_image
from pixelprune.errors import ImageError, install_hint
from pixelprune.models.resize import ResizeSpec
from pixelprune.viz import PICTURES

COMMAND = [sys.executable, "-c", "from pixelprune.cli import main; main()"]
SLIDE = EXAMPLES / "slide.png"
DASHBOARD = EXAMPLES / "dashboard-dark.png"
FORM = EXAMPLES / "application-form.png"


def run(*arguments, code: int = 0, warns: bool = False, **options) -> subprocess.CompletedProcess[str]:
    """Run the command; every line on stderr must be one of ours."""
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == code, done.stderr
    assert all(line.startswith("pixelprune: ") for line in done.stderr.splitlines()), done.stderr
    assert (code != 0 or warns) == (done.stderr != "")
    return done


def call(*arguments, code: int = 0) -> tuple[str, str]:
    """The same command in this process, for speed; returns what it wrote to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["pixelprune", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
            main()
    assert caught.value.code == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def inspect_json(*arguments, code: int = 0) -> dict:
    return json.loads(call("inspect", "--json", *arguments, code=code)[0])


@pytest.mark.parametrize(
    "options, spec, config",
    [
        ([], ResizeSpec(), PruneConfig()),
        (
            ["--method", "raster", "--metric", "mae", "--threshold", "0.02", "--sliding"],
            ResizeSpec(),
            PruneConfig("raster", "mae", 0.02, anchored=False),
        ),
        (["--model", "Qwen/Qwen2.5-VL-7B-Instruct"], ResizeSpec(14, 2, 3136, 12845056), PruneConfig()),
        (["--block-size", "16", "--max-tokens", "1500"], ResizeSpec(16, 1), PruneConfig(max_tokens=1500)),
        (["--method", "random", "--seed", "3"], ResizeSpec(), PruneConfig("random", seed=3)),
        (["--lattice", "4"], ResizeSpec(), PruneConfig(lattice=4)),
    ],
    ids=["defaults", "rule", "model", "block size and budget", "random", "lattice"],
)
def test_numbers_are_those_of_the_library(options, spec, config):
    document = inspect_json(*options, SLIDE, FORM)
    assert document["version"] == pixelprune.__version__
    assert document["failed"] == []
    settings = document["settings"]
    assert PruneConfig(**{name: settings[name] for name in config.__dataclass_fields__}) == config
    assert settings["block_size"] == spec.block_size
    for path, row in zip((SLIDE, FORM), document["images"], strict=True):
        image = open_image(path)
        pixels = spec.resize(image)
        selection = select(pixels, config, block_size=spec.block_size)
        assert row.pop("milliseconds") > 0
        assert row == {
            "name": str(path),
            "width": image.width,
            "height": image.height,
            "resized_width": pixels.shape[1],
            "resized_height": pixels.shape[0],
            "blocks": selection.num_blocks,
            "alone": selection.num_kept,
            "kept": selection.num_kept,
            "lattice": selection.num_lattice,
            "retained": selection.retain_ratio,
            "references": [],
            "distinct": distinct_ratio(pixels, spec.block_size),
            "level": selection.level,
            "metric": selection.metric,
            "overlay": None,
            "warning": None,
        }
    one, two = document["images"]
    summary = document["summary"]
    assert (summary["images"], summary["failed"]) == (2, 0)
    assert summary["blocks"] == one["blocks"] + two["blocks"]
    assert summary["kept"] == one["kept"] + two["kept"]
    assert summary["retained_overall"] == summary["kept"] / summary["blocks"]
    assert summary["retained_mean"] == pytest.approx((one["retained"] + two["retained"]) / 2)
    assert summary["retained_mean"] != pytest.approx(summary["retained_overall"])


def test_table_in_a_pipe_holds_whole_names_and_a_summary(tmp_path):
    long = tmp_path / ("a-long-name-" * 12 + ".png")
    long.symlink_to(SLIDE)
    lines = run("inspect", long, FORM).stdout.splitlines()
    assert lines[0].split() == ["image", "size", "resized", "blocks", "kept", "retained", "distinct", "ms"]
    rows = inspect_json(long, FORM)["images"]
    for line, row in zip(lines[2:4], rows, strict=True):
        size, resized = f"{row['width']}x{row['height']}", f"{row['resized_width']}x{row['resized_height']}"
        ratios = [f"{row['retained']:.1%}", f"{row['distinct']:.1%}"]
        assert line.split()[:-1] == [row["name"], size, resized, str(row["blocks"]), str(row["kept"]), *ratios]
    kept, blocks = (sum(row[key] for row in rows) for key in ("kept", "blocks"))
    mean = sum(row["retained"] for row in rows) / 2
    assert lines[5].split()[:5] == ["2", "images", str(blocks), str(kept), f"{kept / blocks:.1%}"]
    assert lines[-1] == f"{kept / blocks:.1%} of all blocks retained, {mean:.1%} on average over 2 images"
    assert "\x1b" not in "".join(lines)
    # What a lattice adds has a column of its own, where there is one.
    lines = run("inspect", "--lattice", "4", SLIDE).stdout.splitlines()
    (row,) = inspect_json("--lattice", "4", SLIDE)["images"]
    assert lines[0].split()[3:6] == ["blocks", "kept", "lattice"] and row["lattice"] > 10
    assert lines[2].split()[3:6] == [str(row[key]) for key in ("blocks", "kept", "lattice")]


def on_terminal(columns: int, *arguments) -> list[str]:
    """Lines that stay on a terminal of this many columns, with the progress bar's own lines taken out."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=follower,
        stderr=follower,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(follower)
    output = b""
    try:
        while chunk := os.read(leader, 65536):
            output += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode().replace("\r\n", "\n"))
    return [line.rpartition("\r")[2].rstrip() for line in text.splitlines() if "━" not in line]


def test_table_fits_the_terminal(tmp_path):
    names = [tmp_path / f"{'very-' * 12}long-{number}.png" for number in range(2)]
    for name in names:
        name.symlink_to(EXAMPLES / "dashboard-4k.png")
    at_80, at_160 = (on_terminal(columns, "inspect", *names) for columns in (80, 160))
    assert max(map(len, at_80)) <= 80
    assert sum("…" in line for line in at_80) == 2
    assert all(f"long-{number}.png" in "".join(at_160) for number in range(2))
    assert not any("…" in line for line in at_160)
    at_40 = on_terminal(40, "inspect", *names)
    for lines in (at_80, at_160, at_40):
        table = "\n".join(lines)
        assert table.count("3840x2160 3840x2176   8160") == 2  # numbers are never cut


def test_a_budget_that_loses_content_warns():
    """450 blocks take level 1 of a form, and so much of a dashboard that text goes; the level is then one of mae."""
    done = run("inspect", FORM, DASHBOARD, "--max-tokens", 450, warns=True)
    form, dashboard = inspect_json(FORM, DASHBOARD, "--max-tokens", 450)["images"]
    assert form["level"] == 1 and form["warning"] is None
    assert form["metric"] == "max" and dashboard["metric"] == "mae"
    assert done.stderr == f"pixelprune: {DASHBOARD}: {dashboard['warning']}\n"
    assert f"took threshold {dashboard['level'] / 255:.2g} of mae: what differs by no more" in dashboard["warning"]
    assert f" {dashboard['level']} mae\n" in done.stdout
    (asked,) = inspect_json(DASHBOARD, "--max-tokens", 450, "--threshold", 0.5)["images"]
    assert asked["warning"] is None, "control: a threshold that was asked for"


def test_it_says_where_the_pictures_are(tmp_path):
    assert run("inspect", SLIDE, "--overlay", tmp_path).stdout.splitlines()[-1] == f"wrote 1 picture to {tmp_path}"
    assert run("inspect", SLIDE, FORM, "--overlay", tmp_path).stdout.splitlines()[-1] == (
        f"wrote 2 pictures to {tmp_path}"
    )


def test_overlays(tmp_path):
    mine = tmp_path / "overlays" / "slide.png"
    mine.parent.mkdir()
    other = tmp_path / "other" / "slide.jpg"
    other.parent.mkdir()
    Image.new("RGB", (300, 300), (9, 9, 9)).save(mine)
    Image.new("RGB", (400, 300), (250, 250, 250)).save(other)
    (tmp_path / "pages.pdf").write_bytes(pdf(pages=2))
    before = mine.read_bytes()
    files = [SLIDE, other, mine, tmp_path / "pages.pdf"]
    for _ in range(2):  # a second run replaces its own overlays, and nothing else
        document = inspect_json(*files, "--overlay", mine.parent)
        written = [Path(row["overlay"]).name for row in document["images"]]
        assert written == ["slide-2.png", "slide-3.png", "slide-4.png", "pages-p1.png", "pages-p2.png"]
        assert {path.name for path in mine.parent.iterdir()} == {*written, "slide.png"}
        assert mine.read_bytes() == before
    for row in document["images"]:
        with Image.open(row["overlay"]) as picture:
            assert picture.width == row["resized_width"]
            assert picture.height > row["resized_height"]
    pixels = ResizeSpec().resize(open_image(SLIDE))
    keep = select(pixels).keep.repeat(32, axis=0).repeat(32, axis=1)
    shown = np.asarray(open_image(document["images"][0]["overlay"]))[: pixels.shape[0]]
    unchanged = (shown == pixels).all(axis=2)
    assert unchanged[keep].mean() > 0.9
    assert unchanged[~keep].mean() < 0.05


def test_other_pictures(tmp_path):
    for name, draw in PICTURES.items():
        document = inspect_json(SLIDE, "--overlay", tmp_path / name, "--picture", name, "--threshold", 0.02)
        pixels = ResizeSpec.for_model("qwen3_vl").resize(open_image(SLIDE))
        config = PruneConfig(threshold=0.02)
        expected = draw(pixels, select(pixels, config), config)
        with Image.open(document["images"][0]["overlay"]) as picture:
            assert picture.tobytes() == expected.tobytes()
    _, error = call("inspect", SLIDE, "--picture", "sketch", code=2)
    assert f"--picture must be one of {', '.join(PICTURES)}; got 'sketch'" in error


def test_overlay_folder_is_made_and_must_be_a_folder(tmp_path):
    call("inspect", SLIDE, "--overlay", tmp_path / "a" / "b")
    assert list((tmp_path / "a").rglob("*.png")) == [tmp_path / "a" / "b" / "slide.png"]
    (tmp_path / "file").touch()
    _, error = call("inspect", SLIDE, "--overlay", tmp_path / "file", code=2)
    assert f"--overlay {tmp_path / 'file'}: not a folder" in error


def test_bad_files_among_good_ones(tmp_path):
    whole = SLIDE.read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("hello\n")
    (tmp_path / "empty.png").touch()
    (tmp_path / "huge.png").write_bytes(png_header(30000, 30000))
    (tmp_path / "folder").mkdir()
    Image.new("L", (20000, 40)).save(tmp_path / "strip.png")
    Image.new("1", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "two.pdf").write_bytes(pdf(pages=2))
    bad = [
        tmp_path / name for name in ("cut.png", "text.png", "empty.png", "huge.png", "folder", "strip.png", "missing")
    ]
    arguments = [bad[0], SLIDE, *bad[1:], tmp_path / "dot.png", tmp_path / "two.pdf"]

    done = run("inspect", "--json", *arguments, code=2)
    document = json.loads(done.stdout)
    names = [str(SLIDE), str(tmp_path / "dot.png"), *(f"{tmp_path / 'two.pdf'}#page={page}" for page in (1, 2))]
    assert [row["name"] for row in document["images"]] == names
    assert [failure["name"] for failure in document["failed"]] == [str(path) for path in bad]
    assert done.stderr.splitlines() == [f"pixelprune: {failure['error']}" for failure in document["failed"]]
    assert all(
        line.startswith(f"pixelprune: {path}: ") for line, path in zip(done.stderr.splitlines(), bad, strict=True)
    )
    assert (document["summary"]["images"], document["summary"]["failed"]) == (4, 7)
    dot = document["images"][1]
    assert (dot["width"], dot["resized_width"], dot["blocks"], dot["kept"]) == (1, 256, 64, 1)

    done = run("inspect", *arguments, code=2)
    assert done.stdout.splitlines()[-1].endswith("on average over 4 images, 7 failed")
    assert len(done.stderr.splitlines()) == 7


def test_only_bad_files():
    assert run("inspect", "missing.png", code=2).stderr == "pixelprune: missing.png: no such file\n"
    document = inspect_json("missing.png", code=2)
    assert document["images"] == []
    assert document["summary"]["retained_overall"] is None


def test_an_image_that_is_refused_does_not_stop_the_next(tmp_path, monkeypatch):
    """No image of bytes fails here, so the core is made to refuse."""

    def refuse_wide(image, config, *, block_size):
        if image.shape[1] > image.shape[0] > block_size:
            raise ImageError("too wide for this test")
        return select(image, config, block_size=block_size)

    monkeypatch.setattr("pixelprune.core.sequence.select", refuse_wide)
    (tmp_path / "tall.pdf").write_bytes(pdf())
    out, error = call("inspect", "--json", SLIDE, tmp_path / "tall.pdf", code=2)
    assert error.startswith(f"pixelprune: {SLIDE}: ") and "too wide for this test" in error
    assert [row["name"] for row in json.loads(out)["images"]] == [f"{tmp_path / 'tall.pdf'}#page=1"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "Missing argument 'IMAGE'"),
        (["--colour", SLIDE], "No such option: --colour"),
        (["--method", "best", SLIDE], "method must be one of pred2d, .*; got 'best'"),
        (["--metric", "l7", SLIDE], "metric must be one of max, .*; got 'l7'"),
        (["--threshold", "1.5", SLIDE], "threshold must be a number from 0 to 1 .*; got 1.5"),
        (["--threshold", "nan", SLIDE], "threshold must be a number from 0 to 1 .*; got nan"),
        (["--threshold", "high", SLIDE], "'--threshold'"),
        (["--max-tokens", "0", SLIDE], "max_tokens must be a whole number of at least 1.*; got 0"),
        (["--block-size", "0", SLIDE], "--block-size must be at least 1; got 0"),
        (["--block-size", "5000", SLIDE], r"block of 5000\*\*2 pixels"),
        (["--model", "gpt", SLIDE], "unknown model 'gpt'.*qwen3_vl"),
        (["--seed", "-1", SLIDE], "seed must be a whole number of at least 0; got -1"),
        (["--dpi", "0", SLIDE], "dpi must be a positive number; got 0"),
    ],
)
def test_bad_options_are_one_line(arguments, message):
    out, error = call("inspect", *arguments, code=2)
    assert re.fullmatch(f"pixelprune: .*{message}.*\n", error)
    assert out == ""


def test_help_and_version():
    assert run("--version").stdout == f"pixelprune {pixelprune.__version__}\n"
    assert "inspect" in run().stdout
    assert run().stdout == run("--help").stdout
    text = run("inspect", "--help", env={**os.environ, "COLUMNS": "160"}).stdout
    options = set(re.findall(r"--[a-z-]+", text))
    assert options >= {
        f"--{name.replace('_', '-')}" for name in ("overlay", "json", "sliding", "model", "block_size", "dpi")
    }
    assert options >= {f"--{name.replace('_', '-')}" for name in PruneConfig.__dataclass_fields__}
    assert "No such command 'inspekt'" in run("inspekt", code=2).stderr


def test_help_imports_nothing_heavy():
    script = """
import sys
from pixelprune.cli import main
from pixelprune.errors import ImageError
sys.argv = ["pixelprune", "inspect", "--help"]
try:
    main()
except SystemExit:
    print([name for name in ("numba", "PIL.Image", "torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_pages_of_a_tiff(tmp_path):
    """A page that is refused costs no other."""
    frames = [Image.new("RGB", size, "white") for size in ((64, 64), (64, 64000), (64, 96))]
    frames[0].save(tmp_path / "scan.tif", save_all=True, append_images=frames[1:])
    out, error = call("inspect", tmp_path / "scan.tif", "--json", code=2)
    name = f"{tmp_path / 'scan.tif'}#page="
    assert [image["name"] for image in json.loads(out)["images"]] == [f"{name}1", f"{name}3"]
    assert error.startswith(f"pixelprune: {name}2: ") and len(error.splitlines()) == 1


def test_interrupted_is_quiet(monkeypatch):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("pixelprune.core.images.open_images", interrupt)
    out, error = call("inspect", SLIDE, code=130)
    assert (out, error.strip()) == ("", "")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_packages_of_the_command_line(missing):
    script = f"import sys; sys.modules[{missing!r}] = None; from pixelprune.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"pixelprune: the command line needs {missing}: {install_hint('cli')}\n"


def test_file_names_of_any_bytes(tmp_path):
    name = os.fsdecode(b"\xff [red]x[red] \xc3\xa9.png")
    try:
        (tmp_path / name).symlink_to(SLIDE)
    except OSError:
        pytest.skip("this file system takes no such names")
    done = run("inspect", tmp_path / name, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert r"\udcff [red]x[red] \xe9.png" in done.stdout
    assert inspect_json(tmp_path / name)["images"][0]["name"] == str(tmp_path / name)
