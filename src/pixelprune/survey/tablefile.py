"""A survey's rows as a table for other programs: Parquet or CSV by the file's name."""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import ConfigError, install_hint
from .advice import recommend
from .records import ImageRow, Survey
from .summary import image_speedup

SUFFIXES = (".parquet", ".csv")


def write_table(survey: Survey, path: Path) -> None:
    """One row per image: names and sizes, blocks kept at every measured setting, projected speed-up.

    Raises:
        ConfigError: the file's name ends in neither ``.parquet`` nor ``.csv``, or pyarrow is missing for Parquet.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: a table's name must end in {' or '.join(SUFFIXES)}")
    records = table(survey)
    if path.suffix == ".csv":
        names = list(records[0]) if records else ["name"]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(records)
        return
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError(f"{path}: Parquet needs pyarrow: {install_hint('survey')}") from error
    parquet.write_table(pyarrow.Table.from_pylist(records), path)


def table(survey: Survey) -> list[dict[str, str | float]]:
    """The rows as flat objects; ``kept_pred2d_5`` and ``kept_pred2d_5_lattice_4`` are blocks kept at a level."""
    if not survey.rows:
        return []
    best = recommend(survey.rows).key
    return [_record(row, survey, best) for row in survey.rows]


def _record(row: ImageRow, survey: Survey, best: str) -> dict[str, str | float]:
    return {
        "name": row.name,
        "group": row.group,
        "width": row.width,
        "height": row.height,
        "rows": row.rows,
        "cols": row.cols,
        "blocks": row.blocks,
        "distinct": row.distinct,
        **{f"kept_{key.replace('@', '_').replace('+', '_lattice_')}": kept for key, kept in row.kept.items()},
        "retained_recommended": row.retained(best),
        "projected_speedup_recommended": image_speedup(row, survey.settings, best),
        "read_ms": row.read_ms,
        "resize_ms": row.resize_ms,
        "select_ms": row.select_ms,
    }
