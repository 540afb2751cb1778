"""A collection as people have them: folders, a PDF, archives, tables, and files that are broken."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from odd_images import pdf
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (160, 128)) -> Image.Image:
    """Flat areas, some nearly alike, and noise: every setting keeps another number of blocks."""
    generator = np.random.default_rng(seed)
    tones = np.repeat(generator.integers(0, 4, (4, 5)) * 60 + generator.integers(0, 6, (4, 5)), 3).reshape(4, 5, 3)
    pixels = tones.astype(np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    pixels[:32, :32] = generator.integers(0, 256, (32, 32, 3))
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


def make_collection(folder: Path) -> tuple[set[str], set[str]]:
    """Fill a folder. Returns the names of what can be read, and of what cannot."""
    good, bad = set(), set()
    (folder / "scans" / "deep").mkdir(parents=True)
    for number in range(6):
        for place in ("scans", "scans/deep"):
            path = folder / place / f"page {number}.png"
            path.write_bytes(png(len(good)))
            good.add(str(path))
    for name, content in {"cut.png": png(0)[:300], "text.jpg": b"not an image", "empty.png": b""}.items():
        (folder / "scans" / name).write_bytes(content)
        bad.add(str(folder / "scans" / name))
    (folder / "scans" / "notes.txt").write_text("passed over")
    (folder / "scans" / ".hidden.png").write_bytes(b"passed over unseen")
    (folder / "report.pdf").write_bytes(pdf(pages=11))
    good |= {f"{folder / 'report.pdf'}#page={number}" for number in range(1, 12)}
    (folder / "locked.pdf").write_bytes(pdf(locked=True))
    bad.add(str(folder / "locked.pdf"))

    with zipfile.ZipFile(folder / "pages.zip", "w") as archive:
        archive.writestr("in/a.png", png(20))
        archive.writestr("__MACOSX/in/a.png", b"passed over")
        archive.writestr("broken.png", png(21)[:200])
        archive.writestr("two.pdf", pdf(pages=2))
    good |= {f"{folder / 'pages.zip'}#{name}" for name in ("in/a.png", "two.pdf#page=1", "two.pdf#page=2")}
    bad.add(f"{folder / 'pages.zip'}#broken.png")
    for ending in ("tar", "tar.gz"):
        with tarfile.open(folder / f"pages.{ending}", "w:gz" if ending == "tar.gz" else "w") as archive:
            for name in ("one.png", "sub/two.png"):
                content = png(30 + len(good))
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
                good.add(f"{folder / f'pages.{ending}'}#{name}")
    (folder / "cut.zip").write_bytes((folder / "pages.zip").read_bytes()[:100])
    bad.add(str(folder / "cut.zip"))

    good |= write_tables(folder)
    (folder / "numbers.parquet").write_bytes(b"PAR1 no table PAR1")
    bad.add(str(folder / "numbers.parquet"))
    return good, bad


def write_tables(folder: Path) -> set[str]:
    """A Parquet and an Arrow file as Hugging Face ``datasets`` lays images out."""
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}}}
    schema = pyarrow.schema(
        [("image", image), ("label", pyarrow.int64())], metadata={"huggingface": json.dumps(features)}
    )
    rows = [{"image": {"bytes": png(50 + i), "path": None}, "label": i} for i in range(3)]
    rows.append({"image": None, "label": 3})  # a row without an image is no problem
    table = pyarrow.Table.from_pylist(rows, schema)
    pyarrow.parquet.write_table(table, folder / "train.parquet", row_group_size=2)
    with pyarrow.ipc.new_stream(folder / "data.arrow", schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return {f"{folder / name}#row={row}" for name in ("train.parquet", "data.arrow") for row in (1, 2, 3)}
