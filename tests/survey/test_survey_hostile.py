"""Collections from strangers: what exceeds a limit is named, nothing outside the folder is read, the rest measured."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from collection import picture, png

from pixelprune.core.limits import Limits
from pixelprune.errors import ImageError
from pixelprune.survey import Settings, Survey, run
from pixelprune.survey.report import write_html
from pixelprune.survey.sources import find, open_source

MB = 1 << 20


def write_tar(path: Path, mode: str, members: dict[str, bytes]) -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    if path.name.endswith(".zip"):
        kinds = {"bz2.zip": zipfile.ZIP_BZIP2, "lzma.zip": zipfile.ZIP_LZMA}
        write_zip(path, members, kinds.get(path.name, zipfile.ZIP_DEFLATED))
    else:
        write_tar(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w", members)


def surveyed(folder: Path, **limits: int) -> tuple[set[str], dict[str, str]]:
    """Names of what was measured, and lines of what was not, without the folder."""
    survey = run([str(folder)], Settings(limits=Limits(**limits)), workers=1)
    cut = len(str(folder)) + 1
    return {row.name[cut:] for row in survey.rows}, {p.name[cut:]: p.error[cut:] for p in survey.problems}


# --- archives ------------------------------------------------------------------------------------------------------

ARCHIVES = ("plain.zip", "bz2.zip", "lzma.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz")


@pytest.fixture(scope="module")
def oversized(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    members = {"first.png": png(1), "bomb.png": bytes(3 * MB), "last.png": png(2)}
    for name in ARCHIVES:
        write_archive(folder / name, members)
    return folder


def test_a_member_beyond_the_limit_is_named_and_the_others_read(oversized):
    rows, problems = surveyed(oversized, member_bytes=MB)
    assert rows == {f"{name}#{image}.png" for name in ARCHIVES for image in ("first", "last")}
    assert set(problems) == {f"{name}#bomb.png" for name in ARCHIVES}
    for name, line in problems.items():
        assert line == f"{name}: {3 * MB} bytes unpacked are more than the limit of {MB}"
    _, problems = surveyed(oversized, member_bytes=3 * MB)
    assert all("not an image" in line for line in problems.values())  # the control: read, and then looked at


def test_packed_bytes_of_a_member(tmp_path):
    write_zip(tmp_path / "a.zip", {"a.png": png(1), "b.png": png(2) + bytes(range(256)) * 40})
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        small, large = (info.compress_size for info in archive.infolist())
    assert small < large
    rows, problems = surveyed(tmp_path, packed_bytes=large - 1)
    assert (rows, set(problems)) == ({"a.zip#a.png"}, {"a.zip#b.png"})
    assert f"{large} bytes packed are more than the limit of {large - 1}" in problems["a.zip#b.png"]


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path):
    write_zip(tmp_path / "a.zip", {"bomb.png": bytes(3 * MB)})
    content = (tmp_path / "a.zip").read_bytes()
    size = (3 * MB).to_bytes(4, "little")
    assert content.count(size) == 2
    (tmp_path / "a.zip").write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    rows, problems = surveyed(tmp_path, member_bytes=MB)
    assert not rows and set(problems) == {"a.zip#bomb.png"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_members_beyond_the_limit(tmp_path, name):
    write_archive(tmp_path / name, {"a.png": png(1), "notes.txt": b"", "b.png": png(2), "c.png": png(3)})
    rows, problems = surveyed(tmp_path, members=3)
    assert rows == {f"{name}#a.png", f"{name}#b.png"}
    assert problems == {name: f"{name}: has more than 3 members; those after them are left out"}
    rows, problems = surveyed(tmp_path, members=4)
    assert (len(rows), problems) == (3, {})


def test_a_list_of_members_that_is_too_long_is_not_read(tmp_path):
    names = {f"{number:05d}{'x' * 200}.png": b"" for number in range(6000)}
    write_zip(tmp_path / "a.zip", names, zipfile.ZIP_STORED)
    with pytest.raises(ImageError, match=r"a\.zip: its list of members is longer than \d+ bytes"):
        open_source(tmp_path / "a.zip", tmp_path, Settings(limits=Limits(members=10)))
    assert open_source(tmp_path / "a.zip", tmp_path, Settings()).count == 6000


PEAK = """
import re, sys
from pathlib import Path
from pixelprune.core.limits import Limits
from pixelprune.survey import Settings
from pixelprune.survey.sources import open_source
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
path = Path(sys.argv[1])
before = peak()
try:
    source = open_source(path, path.parent, Settings(limits=Limits(member_bytes=int(sys.argv[2]))))
    items = list(source.read(range(source.count)))
    said = [item.error or len(item.content) for item in items]
except ValueError as error:
    said = [str(error)]
print(peak() - before, *said)
"""


def unpacking(path: Path, limit: int) -> tuple[int, str]:
    """MB of memory that reading an archive takes, and what came of it."""
    command = [sys.executable, "-c", PEAK, str(path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    memory, _, said = done.stdout.strip().partition(" ")
    return int(memory), said


@pytest.mark.parametrize("name", ["a.zip", "bz2.zip", "lzma.zip", "a.tar.gz", "a.tar.xz"])
def test_a_bomb_is_not_unpacked(tmp_path, name):
    write_archive(tmp_path / name, {"bomb.png": bytes(200 * MB)})
    memory, said = unpacking(tmp_path / name, 8 * MB)
    assert memory < 100 and f"{200 * MB} bytes unpacked are more than the limit of {8 * MB}" in said
    if name == "a.zip":
        memory, said = unpacking(tmp_path / name, 200 * MB)
        assert memory >= 200 and said == str(200 * MB)  # the control


def test_a_bomb_in_a_sparse_tar_is_not_unpacked(tmp_path):
    """A few bytes that say to be many: GNU's sparse format."""
    with (tmp_path / "holes.png").open("wb") as file:
        file.truncate(200 * MB)
    subprocess.run(["tar", "-cSf", "a.tar", "holes.png"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.tar").stat().st_size < MB
    memory, said = unpacking(tmp_path / "a.tar", 8 * MB)
    assert memory < 100 and "more than the limit" in said


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_bomb_in_the_headers_of_a_tar_is_not_unpacked(tmp_path, kind):
    """A file's name may be as long as its header says, and tarfile reads it at once."""
    info = tarfile.TarInfo("name")
    info.type, info.size = kind, 200 * MB
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(200 * MB))
    memory, said = unpacking(tmp_path / "a.tar.gz", 8 * MB)
    assert memory < 100 and "bytes of headers; unpack it, and survey the folder" in said


# --- tables --------------------------------------------------------------------------------------------------------


def write_table(path: Path, images: list[dict]) -> None:
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"image": pyarrow.array(images, kind)})
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_table_names_only_images_in_the_folder(tmp_path, name):
    secret, folder = tmp_path / "secret", tmp_path / "data"
    secret.mkdir()
    (folder / "sub").mkdir(parents=True)
    (folder / "tables").mkdir()
    (secret / "s.png").write_bytes(png(1))
    (folder / "tables" / "good.png").write_bytes(png(2))
    (folder / "sub" / "other.png").write_bytes(png(3))
    (folder / "tables" / "out.png").symlink_to(secret / "s.png")
    (folder / "tables" / "way").symlink_to(secret)
    (folder / "tables" / "within.png").symlink_to(folder / "sub" / "other.png")
    (folder / "tables" / "circle").symlink_to(folder / "tables" / "circle")
    good = ["good.png", "./good.png", "within.png"]
    bad = [
        *(str(secret / "s.png"), "../../secret/s.png", "way/../../../secret/s.png", "../sub/other.png"),
        *("out.png", "way/s.png", "..\\..\\secret\\s.png", "C:\\s.png", "\\\\host\\s.png", "/etc/passwd"),
        *("circle/s.png", "zero\0byte.png"),
    ]
    write_table(folder / "tables" / name, [{"bytes": None, "path": path} for path in (*good, *bad)])
    survey = run([str(folder / "tables" / name)], Settings(), workers=1)
    table = str(folder / "tables" / name)
    assert {row.name for row in survey.rows if table in row.name} == {f"{table}#row={number}" for number in (1, 2)}
    survey = run([str(folder)], Settings(), workers=1)
    assert {row.name for row in survey.rows if table in row.name} == {f"{table}#row={number}" for number in (1, 2, 3)}
    lines = {problem.name: problem.error for problem in survey.problems if table in problem.name}
    assert len(lines) == len(bad)
    for number, path in enumerate(bad, 4):
        line = lines[f"{table}#row={number}"]
        assert "\n" not in line and ("is not in the folder that is surveyed" in line or "which is no file" in line), (
            path
        )
        assert repr(path) in line
    write_html(survey, tmp_path / "report.html")
    assert "/etc/passwd" in (tmp_path / "report.html").read_text()  # refused by name


def test_bytes_of_an_image_in_a_table(tmp_path):
    write_table(tmp_path / "t.parquet", [{"bytes": png(1), "path": None}, {"bytes": bytes(9999), "path": None}])
    rows, problems = surveyed(tmp_path, member_bytes=5000)
    assert rows == {"t.parquet#row=1"} and len(png(1)) < 5000
    assert problems == {"t.parquet#row=2": "t.parquet#row=2: 9999 bytes are more than the limit of 5000"}


# --- documents and images ------------------------------------------------------------------------------------------


def test_pages_of_a_tiff_are_surveyed_as_those_of_a_pdf(tmp_path):
    pages = [picture(number) for number in range(20)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    write_zip(tmp_path / "a.zip", {"scan.tif": (tmp_path / "scan.tif").read_bytes()})
    (tmp_path / "page.png").write_bytes(png(7))
    survey = run([str(tmp_path)], Settings(), workers=2)
    rows = {row.name: row for row in survey.rows}
    assert len(rows) == 41 and not survey.problems
    alone = rows[str(tmp_path / "page.png")]
    for name in ("scan.tif", "a.zip#scan.tif"):
        seventh, eighth = (rows[f"{tmp_path / name}#page={number}"] for number in (8, 9))
        assert seventh.kept == alone.kept != eighth.kept
    assert [rows[f"{tmp_path / 'scan.tif'}#page={number}"].index for number in (1, 20)] == [0, 19]
    write_html(survey, tmp_path / "report.html")


def test_pages_beyond_the_limits(tmp_path):
    pages = [picture(number) for number in range(4)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    write_zip(tmp_path / "a.zip", {"scan.tif": (tmp_path / "scan.tif").read_bytes()})
    rows, problems = surveyed(tmp_path, pages=2)
    assert rows == {f"{name}#page={number}" for name in ("scan.tif", "a.zip#scan.tif") for number in (1, 2)}
    assert set(problems) == {"scan.tif", "a.zip#scan.tif"}
    assert all("has more than 2 pages" in line for line in problems.values())
    rows, problems = surveyed(tmp_path, page_pixels=160 * 128 - 1)
    assert not rows and len(problems) == 8


def test_a_survey_with_limits_survives_being_saved(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    survey = run([str(tmp_path)], Settings(limits=Limits(formats=("PNG",), pages=3)), workers=1)
    again = Survey.from_json(survey.to_json())
    assert again == survey and again.settings.limits.pages == 3
    older = survey.to_json()
    del older["settings"]["limits"]
    assert Survey.from_json(older).settings.limits == Limits()


def test_postscript_by_another_name_is_a_problem(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    (tmp_path / "b.png").write_bytes(png(1))
    rows, problems = surveyed(tmp_path)
    assert rows == {"b.png"} and "in a format that is not read" in problems["a.png"]
    assert len(find([str(tmp_path)], Settings()).sources) == 2
