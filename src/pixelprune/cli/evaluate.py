"""``pixelprune evaluate``: models whole and pruned on the field's own sets, as a config file says."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, install_hint
from . import FAILURE, complain

if TYPE_CHECKING:
    from ..evaluate.run import Job
    from ..evaluate.run import Progress as State


def evaluate(
    config: Annotated[Path, typer.Argument(help="A YAML file; docs/evaluation.md lists its keys.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change: batch_size=4")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each set, for a first look.")] = None,
    vlmevalkit: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of a clone of VLMEvalKit.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and print what a run would take; load no model.")
    ] = False,
) -> None:
    """Score models with whole and with pruned images in lmms-eval and VLMEvalKit.

    Every model, arm and set is a cell with a process of its own. Run again after an interruption, it resumes. Writes
    table.md, table.json and report.html into the output folder. Exit code 2 if a cell failed.
    """
    try:
        from ..evaluate.config import cells, load_config
        from ..evaluate.run import jobs, run
    except ImportError as error:
        if error.name is None or error.name.startswith("pixelprune"):
            raise
        raise ConfigError(f"evaluate needs {error.name.partition('.')[0]}: {install_hint('evaluate')}") from error
    changes = list(overrides or ())
    changes += [f"limit={limit}"] if limit is not None else []
    changes += [f"vlmevalkit={json.dumps(str(vlmevalkit))}"] if vlmevalkit is not None else []
    settings = load_config(config, changes)
    output = Path(settings.output).expanduser().resolve()
    work = jobs(cells(settings), output)
    _check(work)
    from ..evaluate.estimate import plan

    for line in plan(work).lines():
        typer.echo(line)
    if dry_run:
        return
    output.mkdir(parents=True, exist_ok=True)
    try:
        with _progress() as show:
            failures = run(work, processes=settings.processes, progress=show)
    except KeyboardInterrupt:
        complain(f"stopped; the same command resumes from {output}")
        raise
    _write(work, settings.baseline, output)
    for failure in failures:
        cell = failure.job.cell
        complain(f"{cell.model_name}, {cell.set.name}, {cell.arm.name}: {failure.reason}")
    if failures:
        raise typer.Exit(FAILURE)


def _check(work: list[Job]) -> None:
    """Before any work: that the harnesses and what they need are there."""
    missing = [name for name in ("jinja2", "vl_convert") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"evaluate needs {', '.join(missing)}: {install_hint('evaluate')}")
    sets = {job.cell.set.name: job.cell for job in work}
    if any(cell.engine == "vllm" for cell in sets.values()) and importlib.util.find_spec("vllm") is None:
        raise ConfigError(f"engine vllm needs vLLM: {install_hint('vllm')}")
    for cell in sets.values():
        if cell.set.harness == "lmms-eval" and importlib.util.find_spec("lmms_eval") is None:
            raise ConfigError(f"{cell.set.name} is asked by lmms-eval, which is missing: pip install lmms-eval==0.7.3")
        if cell.set.harness == "vlmevalkit":
            from ..evaluate.vlmevalkit import check_clone

            check_clone(Path(str(cell.vlmevalkit)))
        needed = [name for name in cell.set.needs if importlib.util.find_spec(name) is None]
        if needed:
            raise ConfigError(f"{cell.set.name} needs {', '.join(needed)}; docs/evaluation.md says where from")


def _write(work: list[Job], baseline: str, output: Path) -> None:
    from rich.console import Console

    from ..evaluate import table
    from ..evaluate.report import write_html

    found = table.lines(work, baseline)
    if not found:
        return
    files = [output / "table.md", output / "table.json", output / "report.html"]
    try:
        files[0].write_text(table.markdown(found), encoding="utf-8")
        files[1].write_text(json.dumps([line.to_dict() for line in found], indent=1), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written ({error.strerror})") from error
    write_html(work, found, baseline, files[2])
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    console.print(_rich_table(found))
    typer.echo(f"wrote {', '.join(map(str, files))}")


def _rich_table(found: list[Any]) -> Any:
    from rich import box
    from rich.table import Table

    from ..evaluate.table import HEADINGS, cells_of

    shown = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False, header_style="bold")
    for place, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="left" if place < 3 or not heading else "right", no_wrap=place > 2)
    for line in found:
        shown.add_row(*cells_of(line))
    return shown


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar on stderr with what is at work and the time left, while it is a terminal; gone when done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.fields[cells]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", style="cyan"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, cells="")

        def show(state: State) -> None:
            words = f"cell {min(state.done + 1, state.cells)} of {state.cells}"
            bar.update(
                task, completed=state.answered, total=state.rows, cells=words, description="; ".join(state.running)
            )

        yield show
