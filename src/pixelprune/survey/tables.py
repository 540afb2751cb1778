"""Images in Parquet and Arrow files, as Hugging Face ``datasets`` stores them: bytes in a column, or a path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageError, install_hint
from .sources import Item, Source, stamp

_BATCH = 16


def table_source(path: Path) -> Source:
    """The rows of a Parquet file, or of an Arrow file as ``save_to_disk`` writes it.

    Columns of images are those whose values are ``{bytes, path}``, and those of bytes named like an image. Rows of
    several images (lists, or several columns) count as several.

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
        raise ImageError(f"{path}: the table is damaged or cut off ({_first_line(error)})") from error
    columns = [name for name in schema.names if _holds_images(schema.field(name))]
    if not columns:
        raise ImageError(f"{path}: no column of images; its columns are {', '.join(schema.names)}")
    mark = stamp(path)

    def read(wanted: Sequence[int]) -> Iterator[Item]:
        rows = iter(wanted)
        row = next(rows, None)
        for start, batch in _batches(path, columns):
            while row is not None and row < start + batch.num_rows:
                yield from _items(path, mark, row, batch.slice(row - start, 1).to_pylist()[0])
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


def _items(path: Path, mark: str, row: int, values: dict[str, Any]) -> Iterator[Item]:
    several = len(values) > 1
    for column, value in values.items():
        listed = isinstance(value, list)
        for index, image in enumerate(value if listed else [value]):
            name = f"{path}#row={row + 1}"
            name += f",{column}" if several else ""
            name += f"[{index + 1}]" if listed else ""
            content = image.get("bytes") if isinstance(image, dict) else image
            file = image.get("path") if isinstance(image, dict) and content is None else None
            if file is not None:
                yield Item(name, str(path), str(path), row, f"{name}|{mark}", path=path.parent / file)
            elif image is not None:  # rows without an image are no problem
                yield Item(name, str(path), str(path), row, f"{name}|{mark}", content=content or b"")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
