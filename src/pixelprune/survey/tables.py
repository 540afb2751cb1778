"""Images in Parquet and Arrow files, as Hugging Face ``datasets`` stores them: bytes in a column, or a path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..core.limits import Limits
from ..errors import ImageError, install_hint
from .items import Item, Source, first_line, stamp

TABLES = (".parquet", ".arrow")
_BATCH = 16


def table_source(path: Path, folder: Path, limits: Limits) -> Source:
    """The rows of a Parquet file, or of an Arrow file as ``save_to_disk`` writes it.

    Columns of images are those whose values are ``{bytes, path}``, and those of bytes named like an image. Rows of
    several images (lists, or several columns) count as several.

    Args:
        path: of the table.
        folder: images that are given by a path, from beside the table on, must be in it. Others are refused unread: a
            table from a stranger must not choose which of the machine's files end up in a report.
        limits: for the bytes of an image.

    Raises:
        ImageError: it is damaged or has no column of images, or pyarrow is missing.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImageError(f"{path}: reading tables needs pyarrow: {install_hint('survey')}") from error
    try:
        schema, count = _open(path)
    except (OSError, pyarrow.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from error
        raise ImageError(f"{path}: the table is damaged or cut off ({first_line(error)})") from error
    columns = [name for name in schema.names if _holds_images(schema.field(name))]
    if not columns:
        raise ImageError(f"{path}: no column of images; its columns are {', '.join(schema.names)}")
    mark = stamp(path)

    def read(wanted: Sequence[int]) -> Iterator[Item]:
        rows = iter(wanted)
        row = next(rows, None)
        for start, batch in _batches(path, columns):
            while row is not None and row < start + batch.num_rows:
                yield from _items(path, folder, limits, mark, row, batch.slice(row - start, 1).to_pylist()[0])
                row = next(rows, None)
            if row is None:
                return

    return Source(str(path), count, read)


def _open(path: Path) -> tuple[Any, int]:
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        reader = _arrow_reader(source)
        return reader.schema, sum(batch.num_rows for batch in reader)


def _batches(path: Path, columns: list[str]) -> Iterator[tuple[int, Any]]:
    """Record batches with the row that each begins at."""
    start = 0
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                yield start, batch
                start += batch.num_rows
        return
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        for batch in _arrow_reader(source):
            yield start, batch.select(columns)
            start += batch.num_rows


def _arrow_reader(source: Any) -> Any:
    """The streaming format, which ``datasets`` writes, or the file format."""
    import pyarrow

    try:
        return pyarrow.ipc.open_stream(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        reader = pyarrow.ipc.open_file(source)
        return _FileBatches(reader)


class _FileBatches:
    """Arrow's file format, read as the streaming one is."""

    def __init__(self, reader: Any) -> None:
        self.schema = reader.schema
        self._reader = reader

    def __iter__(self) -> Iterator[Any]:
        return (self._reader.get_batch(index) for index in range(self._reader.num_record_batches))


def _holds_images(field: Any) -> bool:
    import pyarrow.types as types

    kind = field.type
    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    if types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(index).name for index in range(kind.num_fields)}
    binary = types.is_binary(kind) or types.is_large_binary(kind)
    return binary and any(word in field.name.lower() for word in ("image", "img", "page", "picture", "screenshot"))


def _items(path: Path, folder: Path, limits: Limits, mark: str, row: int, values: dict[str, Any]) -> Iterator[Item]:
    several = len(values) > 1
    for column, value in values.items():
        listed = isinstance(value, list)
        for index, image in enumerate(value if listed else [value]):
            name = f"{path}#row={row + 1}"
            name += f",{column}" if several else ""
            name += f"[{index + 1}]" if listed else ""
            content = image.get("bytes") if isinstance(image, dict) else image
            named = image.get("path") if isinstance(image, dict) and content is None else None
            item = Item(name, str(path), str(path), row, f"{name}|{mark}")
            try:
                if named is not None:
                    yield replace(item, path=_inside(folder, path.parent, named))
                elif image is not None:  # rows without an image are no problem
                    if content and len(content) > limits.member_bytes:
                        raise ImageError(f"{len(content)} bytes are more than the limit of {limits.member_bytes}")
                    yield replace(item, content=content or b"")
            except ImageError as error:
                yield replace(item, error=f"{name}: {error}")


def _inside(folder: Path, beside: Path, named: str) -> Path:
    """The file that a row names.

    Raises:
        ImageError: it is not in the folder.
    """
    kinds = (PurePosixPath(named), PureWindowsPath(named))
    way_out = any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in kinds)
    try:
        file = beside / named
        if not way_out and file.resolve().is_relative_to(folder.resolve()):
            return file
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, or links in a circle
        raise ImageError(f"names {named!r}, which is no file ({error})") from error
    raise ImageError(f"names {named!r}, which is not in the folder that is surveyed ({folder}); it is not read")
