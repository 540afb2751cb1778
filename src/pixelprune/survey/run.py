"""Run a survey: read sources in order, measure on all cores, note what is done."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from pathlib import Path

import numpy as np

from .. import __version__
from ..core.frames import natural
from ..errors import ConfigError
from .items import Item, Source, first_line
from .journal import Journal
from .measure import Outcome, measure_all, start_worker
from .records import ImageRow, Problem, Settings, Survey
from .sequences import measure_sequences
from .sources import Found, find

_CHUNK_ITEMS, _CHUNK_BYTES = 8, 32 << 20

#: Called after every chunk with the number of items that are done, and of all items.
Progress = Callable[[int, int], None]


def run(
    inputs: Sequence[str],
    settings: Settings | None = None,
    *,
    journal: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Survey:
    """Survey images.

    Args:
        inputs: files, folders and globs, as :func:`pixelprune.survey.sources.find` takes them.
        settings: what is measured.
        journal: a file that notes what is done; a second run with the same file resumes where the first stopped. It
            is deleted when the survey is complete.
        workers: processes; as many as there are cores if omitted.
        progress: called with the items done and all items.

    Returns:
        The survey; the same for the same files, but for times.

    Raises:
        ConfigError: nothing to survey, or the journal does not fit.
    """
    settings = settings or Settings()
    workers = workers or _cores()
    if workers < 1:
        raise ConfigError(f"workers must be at least 1; got {workers}")
    found = find(inputs, settings)
    wanted = _sample(found, settings)
    total = sum(map(len, wanted))
    notes = None if journal is None else Journal(journal, settings)
    start = time.perf_counter()
    outcomes: dict[str, Outcome] = {}
    problems = list(found.problems)
    before = dict(notes.done) if notes else {}
    try:
        items = _items(found.sources, wanted, outcomes, before, problems)
        for new in _measured(items, settings, workers):
            outcomes.update((outcome.key, outcome) for outcome in new)
            if notes:
                notes.add(new, time.perf_counter() - start)
            if progress:
                progress(len(outcomes), total)
    except BaseException:
        if notes:
            notes.close()
        raise
    seconds = time.perf_counter() - start + (notes.seconds if notes else 0)
    rows: list[ImageRow] = [row for outcome in outcomes.values() for row in outcome.rows]
    problems += [problem for outcome in outcomes.values() for problem in outcome.problems]
    survey = Survey(
        inputs=list(inputs),
        settings=settings,
        rows=sorted(rows, key=lambda row: natural(row.name)),
        problems=sorted(problems, key=lambda problem: natural(problem.name)),
        skipped=found.skipped,
        seconds=seconds,
        version=__version__,
    )
    survey = measure_sequences(survey)
    if notes:
        notes.remove()
    return survey


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sample(found: Found, settings: Settings) -> list[Sequence[int]]:
    """The items wanted of each source, ascending."""
    counts = [source.count for source in found.sources]
    total = sum(counts)
    if settings.sample is None or settings.sample >= total:
        return [range(count) for count in counts]
    chosen = np.sort(np.random.default_rng(settings.seed).choice(total, settings.sample, replace=False))
    starts = np.concatenate([[0], np.cumsum(counts)])
    return [(chosen[(chosen >= first) & (chosen < end)] - first).tolist() for first, end in pairwise(starts)]


def _items(
    sources: list[Source],
    wanted: list[Sequence[int]],
    outcomes: dict[str, Outcome],
    before: dict[str, Outcome],
    problems: list[Problem],
) -> Iterator[Item]:
    """Items to measure; what the journal has is put into ``outcomes`` instead."""
    for source, indices in zip(sources, wanted, strict=True):
        if not indices:
            continue
        try:
            for item in source.read(indices):
                if item.key in before:
                    outcomes[item.key] = before[item.key]
                else:
                    yield item
        except Exception as error:  # an archive or a table that breaks off, however its library says so
            problems.append(Problem(source.name, f"{source.name}: breaks off ({first_line(error)})"))


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    """A few items at a time: enough to be worth sending, not too many to hold."""
    chunk: list[Item] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += len(item.content or b"")
        if len(chunk) == _CHUNK_ITEMS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _measured(items: Iterator[Item], settings: Settings, workers: int) -> Iterator[list[Outcome]]:
    """Measure on all cores, with two chunks per worker under way."""
    chunks = _chunks(items)
    pool = _pool(settings, workers)
    running: dict[Future[list[Outcome]], list[Item]] = {}
    lost: list[Item] = []
    try:
        while True:
            while len(running) < 2 * workers and not lost and (chunk := next(chunks, None)) is not None:
                try:
                    running[pool.submit(measure_all, chunk, settings)] = chunk
                except BrokenProcessPool:
                    lost += chunk
            done = wait(running, return_when=FIRST_COMPLETED).done if running else set()
            for future in done:
                chunk = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost += chunk
            if not running and lost:
                yield from (_alone(item, settings) for item in lost)
                lost = []
                pool = _pool(settings, workers)
            elif not running and not done:
                return
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _pool(settings: Settings, workers: int) -> ProcessPoolExecutor:
    # Fresh processes: a fork of a process with threads, such as torch's, may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, start_worker, (settings,))


def _alone(item: Item, settings: Settings) -> list[Outcome]:
    """Measure an item that was under way when a process died in one of its own, so that the culprit shows."""
    with _pool(settings, 1) as pool:
        try:
            return pool.submit(measure_all, [item], settings).result()
        except BrokenProcessPool:
            line = f"{item.name}: the process that decoded it died (out of memory, or a fault in the decoder)"
            return [Outcome(item.key, problems=[Problem(item.name, line)])]
