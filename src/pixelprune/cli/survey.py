"""``pixelprune survey``: how redundant a whole collection is, as a report."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, install_hint
from . import FAILURE, complain
from ._options import Dpi, setting

if TYPE_CHECKING:
    from ..survey import Survey
    from ..survey.run import Progress

_TABLES = ("parquet", "csv", "none")


def survey(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Folders, globs, images, PDFs, ZIP and TAR archives, Parquet and Arrow files of HF datasets.",
        ),
    ] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Only this many images, drawn at random.")] = None,
    model: Annotated[
        str,
        typer.Option(help="Resize as this model does, and project its costs: a name, or a folder. No downloads."),
    ] = "Qwen3-VL-2B",
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The report; its data go beside it.")] = Path(
        "survey.html"
    ),
    table: Annotated[str, typer.Option(help=f"A row per image beside it: {', '.join(_TABLES)}.")] = "parquet",
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Instead, put two finished surveys (their JSON files) side by side."),
    ] = None,
    metric: Annotated[str, setting("metric")] = "max",
    text_tokens: Annotated[int, typer.Option(min=0, help="Tokens of a prompt beside the image's.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 for as many as there are cores.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
    dpi: Dpi = 150,
) -> None:
    """How much of a whole collection would be dropped, what that saves, and which setting suits it.

    Writes FILE.html, FILE.json and FILE.parquet. Stopped and run again, it resumes. Exit code 2 if anything could
    not be read.
    """
    if out.suffix != ".html":
        raise ConfigError(f"--out must end in .html; got {out}")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    if table not in _TABLES:
        raise ConfigError(f"--table must be one of {', '.join(_TABLES)}; got {table!r}")
    _require("jinja2", "vl_convert", *(["pyarrow"] if table == "parquet" and compare is None else []))
    if compare is not None:
        if inputs:
            raise ConfigError("--compare takes two finished surveys, and no other input")
        _compare(compare, out)
        return
    if not inputs:
        raise ConfigError("name a folder or files to survey")

    from ..core.limits import DEFAULT_LIMITS
    from ..survey import Settings, run

    settings = Settings(
        model=model, metric=metric, dpi=dpi, sample=sample, seed=seed, text_tokens=text_tokens, limits=DEFAULT_LIMITS
    )
    journal = _beside(out, ".partial.jsonl")
    try:
        with _progress() as show:
            result = run(inputs, settings, journal=journal, workers=workers or None, progress=show)
    except KeyboardInterrupt:
        complain(f"stopped; the same command resumes from {journal}")
        raise
    _write(result, out, table)
    for problem in result.problems:
        complain(problem.error)
    if result.problems:
        raise typer.Exit(FAILURE)


def _require(*modules: str) -> None:
    """Before any work: what the report needs at the end."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"survey needs {', '.join(missing)}: {install_hint('survey')}")


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.stem + suffix)


def _compare(paths: tuple[Path, Path], out: Path) -> None:
    from ..survey import Survey
    from ..survey.report import write_comparison

    names = [path.stem for path in paths]
    if names[0] == names[1]:
        names = [str(path) for path in paths]
    write_comparison([Survey.load(path) for path in paths], names, out)
    typer.echo(f"wrote {out}")


def _write(survey: Survey, out: Path, table: str) -> None:
    from ..survey.advice import lattices, of_sequences, recommend, summarize
    from ..survey.report import write_html
    from ..survey.summary import project, spread
    from ..survey.tablefile import write_table

    document = {**survey.to_json(), "summary": summarize(survey)}
    files = [_beside(out, ".json")]
    try:
        files[0].write_text(json.dumps(document, indent=1), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{files[0]}: cannot be written ({error.strerror})") from error
    if survey.rows:
        if table != "none":
            files.append(_beside(out, f".{table}"))
            write_table(survey, files[-1])
        write_html(survey, out)
        files.insert(0, out)
        best = recommend(survey.rows)
        kept, costs = spread(survey.rows, best.key), project(survey.rows, survey.settings, best.key)
        typer.echo(
            f"{len(survey.rows):,} images: {kept.overall:.1%} of all blocks kept at the recommended setting, "
            f"{costs.speedup:.2f}x less work in prefill of {survey.settings.model}, projected"
        )
        typer.echo(best.reason)
        if best.prune:
            advised = [row for row in lattices(survey.rows, survey.settings, best.level) if row.lattice and row.advice]
            for row in advised:
                typer.echo(
                    f"lattice={row.lattice}, to try first {row.advice}, keeps {row.share:.1%}; "
                    "large models have not been measured"
                )
        if (said := of_sequences(survey.sequences)) is not None:
            typer.echo(said)
    typer.echo(f"wrote {', '.join(map(str, files))}")


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar on stderr with rate and time left while it is a terminal; gone when done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", style="cyan"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, rate="")

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield show
