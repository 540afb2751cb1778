"""``pixelprune inspect --sequence``: what each image keeps alone, with references, and from where."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from corpus import EXAMPLES
from PIL import Image, ImageOps
from test_cli_inspect import call, inspect_json, run

from pixelprune import PruneConfig, select, select_sequence
from pixelprune.core.frames import frame_files, is_video, open_video
from pixelprune.core.images import open_image, open_images
from pixelprune.errors import ImageError
from pixelprune.models.resize import ResizeSpec
from pixelprune.viz import overlay, token_grid

SCREEN, PHONE = EXAMPLES / "dashboard-dark.png", EXAMPLES / "phone.png"
SPEC = ResizeSpec()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five frames: a screen, a word typed into it, a phone's, the screen again, and typed again."""
    folder = tmp_path_factory.mktemp("history")
    screen, phone = open_image(SCREEN), open_image(PHONE)
    typed = screen.copy()
    box = (400, 320, 520, 350)
    typed.paste(ImageOps.invert(typed.crop(box)), box)
    for number, image in zip((1, 2, 3, 9, 10), (screen, typed, phone, screen, typed), strict=True):
        image.save(folder / f"frame-{number}.png")
    return folder


def frames(history: Path) -> list[Path]:
    return [history / f"frame-{number}.png" for number in (1, 2, 3, 9, 10)]


@pytest.mark.parametrize(
    "options, config",
    [
        (["--sequence"], PruneConfig(references="previous")),
        (["--references", "first+previous"], PruneConfig(references="first+previous")),
        (["--sequence", "--references", "any", "--threshold", "0.02"], PruneConfig(threshold=0.02, references="any")),
        (["--sequence", "--max-tokens", "600"], PruneConfig(max_tokens=600, references="previous")),
        (["--sequence", "--lattice", "4"], PruneConfig(lattice=4, references="previous")),
        ([], PruneConfig()),
    ],
    ids=["previous", "first", "any", "budget", "lattice", "none"],
)
def test_numbers_are_those_of_the_core(history, options, config):
    document = inspect_json(*options, *frames(history))
    expected = select_sequence([SPEC.resize(open_image(path)) for path in frames(history)], config)
    assert document["settings"]["references"] == config.references
    for row, report, alone in zip(document["images"], expected.reports(), expected.alone, strict=True):
        assert (row["alone"], row["kept"], row["level"]) == (report.alone, report.kept, alone.level)
        assert {each["image"]: each["blocks"] for each in row["references"]} == report.references
        assert row["retained"] == report.kept / report.total
    summary = document["summary"]
    assert (summary["kept"], summary["alone"]) == (expected.num_kept, sum(each.num_kept for each in expected.alone))
    drops = [row["kept"] < row["alone"] for row in document["images"]]
    everywhere = config.references in ("any", "first+previous")
    assert drops == ([False] * 5 if config.references == "none" else [False, True, False, everywhere, True])
    phone = document["images"][2]
    if config.references != "none":
        assert phone["kept"] == select(SPEC.resize(open_image(PHONE)), config).num_kept, "of another size: alone"


def test_table_says_alone_with_references_and_from_where(history):
    lines = run("inspect", "--sequence", *frames(history)[:2]).stdout.splitlines()
    first, second = inspect_json("--sequence", *frames(history)[:2])["images"]
    assert lines[0].split() == ["image", "size", "resized", "blocks", "alone", "kept", "retained", "ms", "from"]
    words = lines[3].split()
    assert words[:2] == ["2", "frame-2.png"] or words[1].endswith("frame-2.png")
    assert words[4:7] == ["2040", str(second["alone"]), str(second["kept"])]
    assert words[-3:] == [str(second["alone"] - second["kept"]), "of", "1"]
    assert lines[2].split()[5:7] == [str(first["alone"])] * 2 and " of " not in lines[2]
    alone, kept = first["alone"] + second["alone"], first["kept"] + second["kept"]
    assert lines[-1] == f"{kept / 4080:.1%} of all blocks retained, {alone / 4080:.1%} without references"
    # Not more than three images are named.
    many = run("inspect", "--references", "any", *([frames(history)[0], frames(history)[1]] * 2)).stdout.splitlines()
    assert "from" in many[0] and many[5].split()[-2] == "of"


def test_a_folder_of_numbered_frames_is_read_in_their_order(history, tmp_path):
    whole = inspect_json("--sequence", history)
    assert [Path(row["name"]).name for row in whole["images"]] == [path.name for path in frames(history)]
    one_by_one = inspect_json("--sequence", *frames(history))
    assert [row["kept"] for row in whole["images"]] == [row["kept"] for row in one_by_one["images"]]
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in frames(history)[:2]:
        (mixed / path.name).write_bytes(path.read_bytes())
    (mixed / "frame-1b.png").write_bytes(b"text")
    (mixed / "notes.txt").write_text("no frame")
    (mixed / ".hidden.png").write_bytes(b"text")
    out, error = call("inspect", "--sequence", "--json", mixed, code=2)
    assert error.startswith(f"pixelprune: {mixed / 'frame-1b.png'}: not an image") and error.count("\n") == 1
    assert '"kept"' in out and frame_files(mixed)[0].name == "frame-1.png"
    for arguments, message in (
        (["--sequence", tmp_path / "none"], "no image in this folder"),
        ([history], "a directory, not an image"),
    ):
        (tmp_path / "none").mkdir(exist_ok=True)
        _, error = call("inspect", *arguments, code=2)
        assert message in error and error.count("\n") == 1


def test_pages_of_a_pdf_are_a_sequence(tmp_path):
    page = open_image(EXAMPLES / "slide.png")
    page.save(tmp_path / "pages.pdf", save_all=True, append_images=[page], resolution=150)
    document = inspect_json("--sequence", tmp_path / "pages.pdf")
    pages = [SPEC.resize(image) for _, image in open_images(tmp_path / "pages.pdf")]
    expected = select_sequence(pages, PruneConfig(references="previous"))
    assert [row["kept"] for row in document["images"]] == [len(kept) for kept in expected.kept_indices]
    assert document["summary"]["kept"] < document["summary"]["alone"]


@pytest.mark.parametrize("name, draw", [("overlay", overlay), ("grid", token_grid)])
def test_pictures_show_what_an_earlier_image_shows(history, tmp_path, name, draw):
    config = PruneConfig(references="previous")
    pixels = [SPEC.resize(open_image(path)) for path in frames(history)[:2]]
    document = inspect_json("--sequence", *frames(history)[:2], "--overlay", tmp_path, "--picture", name)
    for row, page, image in zip(document["images"], pixels, select_sequence(pixels, config).images, strict=True):
        with Image.open(row["overlay"]) as picture:
            expected = draw(page, image.alone, config, shown_before=image.shown_before)
            assert picture.tobytes() == expected.tobytes()
            if image.number:
                assert picture.tobytes() != draw(page, image.alone, config).tobytes(), "control"


def test_pictures_of_an_image_by_itself_are_refused():
    _, error = call("inspect", "--sequence", SCREEN, "--picture", "flow", code=2)
    assert "--picture of a sequence must be one of overlay, grid; got 'flow'" in error
    _, error = call("inspect", "--sequence", SCREEN, "--method", "random", code=2)
    assert "predicts nothing" in error


class FakeVideo:
    """What PyAV opens: frames at 10 a second."""

    def __init__(self, images: list[Image.Image], streams: int = 1) -> None:
        self.streams = SimpleNamespace(video=[None] * streams)
        self._images = images

    def __enter__(self) -> FakeVideo:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def decode(self, video: int):
        for number, image in enumerate(self._images):
            yield SimpleNamespace(
                time=number / 10, width=image.width, height=image.height, to_image=lambda image=image: image
            )


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    images = [Image.fromarray(np.full((64, 64, 3), level, np.uint8)) for level in range(12)]
    fake = ModuleType("av")
    fake.FFmpegError = type("FFmpegError", (Exception,), {})

    def opened(path: str) -> FakeVideo:
        if "broken" in path:
            raise fake.FFmpegError("Invalid data")
        return FakeVideo(images, streams="silent" not in path)

    fake.open = opened
    monkeypatch.setitem(sys.modules, "av", fake)
    for name in ("screen.mp4", "broken.mp4", "silent.mp4"):
        (tmp_path / name).write_bytes(b"video")
    return tmp_path / "screen.mp4"


def test_frames_of_a_video_are_taken_twice_a_second(video):
    assert is_video("A.MP4") and not is_video("a.png")
    names, images = zip(*open_video(video), strict=True)
    assert names == tuple(f"{video}#time={seconds}" for seconds in ("0.00", "0.50", "1.00"))
    assert [np.asarray(image)[0, 0, 0] for image in images] == [0, 5, 10]
    rows = inspect_json("--sequence", video)["images"]
    assert [row["name"] for row in rows] == list(names) and rows[1]["kept"] == 1
    for name, message in (("broken", "cannot be decoded (Invalid data)"), ("silent", "there is no video in this file")):
        _, error = call("inspect", "--sequence", video.with_name(f"{name}.mp4"), code=2)
        assert message in error and error.count("\n") == 1


def test_a_video_needs_its_library(video, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    _, error = call("inspect", "--sequence", video, code=2)
    assert error.count("\n") == 1 and "reading a video needs PyAV: pip install av; or extract its frames" in error
    with pytest.raises(ImageError, match="needs PyAV"):
        next(open_video(video))
