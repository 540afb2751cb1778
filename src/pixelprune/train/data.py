"""JSONL files as a dataset: rows are read from disk when they are needed, whatever the files' size.

In memory are eight bytes a row, where its line begins. So any order costs the same, a run can resume anywhere, and
several processes can share the work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from ..errors import ConfigError, DataError, ImageError, PixelPruneError
from .rows import Conversation, parse_line

logger = logging.getLogger(__name__)

#: Bad rows that are reported one by one; more are only counted.
MOST_REPORTS = 20


@dataclass(frozen=True)
class JsonlFile:
    """Where the rows of a file are.

    Attributes:
        path: the file; images with relative paths are looked for beside it.
        offsets: int64 ``(rows,)``, the byte at which each row's line begins. Empty lines are no rows.
        lines: int64 ``(rows,)``, line numbers from 1.
    """

    path: Path
    offsets: NDArray[np.int64]
    lines: NDArray[np.int64]

    @classmethod
    def scan(cls, path: str | Path) -> JsonlFile:
        """Find the rows of a file, reading it once from end to end.

        Raises:
            DataError: it cannot be read, or has no rows.
        """
        path = Path(path)
        offsets, lines, here = [], [], 0
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        offsets.append(here)
                        lines.append(number)
                    here += len(line)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        if not offsets:
            raise DataError(f"{path}: no rows in it; one JSON object per line is wanted")
        return cls(path, np.array(offsets, np.int64), np.array(lines, np.int64))

    def __len__(self) -> int:
        return len(self.offsets)

    def where(self, row: int) -> str:
        """``file:line`` of a row."""
        return f"{self.path}:{self.lines[row]}"

    def read(self, row: int) -> Conversation:
        """One row, checked; a :class:`~pixelprune.errors.DataError` if it is bad."""
        # Opened anew each time: worker processes would share the position in an open file.
        with self.path.open("rb") as file:
            file.seek(int(self.offsets[row]))
            return parse_line(file.readline(), self.where(row), self.path.parent)

    def only(self, good: NDArray[np.bool_]) -> JsonlFile:
        """The same file with some of its rows."""
        return JsonlFile(self.path, self.offsets[good], self.lines[good])


class Conversations(Dataset[Any]):
    """The rows of one or more JSONL files, one after the other.

    Args:
        paths: the files.
        prepare: what is made of a row when it is taken, such as a collator's ``encode``, which reads the images; by
            default the :class:`~pixelprune.train.Conversation` itself. Runs in the data loader's worker processes.
        weights: see :class:`MixtureSampler`.
        skip_bad_rows: leave out rows that cannot be used, report them, and count them in :attr:`skipped`. Otherwise
            the first one is an error.
        check: parse every row now and look whether its images are there, so that a bad row ends the run before it
            begins and not in the night. Without it rows are checked as they are taken, for files so large that
            parsing them takes too long.

    Attributes:
        files: the files, without the bad rows that were found.

    A row that turns out bad only when it is taken (its image is damaged, it is too long) is replaced by the next
    good one under ``skip_bad_rows``, so that batches keep their size on every process.

    Raises:
        DataError: a file cannot be read, a row is bad (unless skipped), or no good row is left.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        prepare: Callable[[Conversation], Any] | None = None,
        weights: Sequence[float] | None = None,
        skip_bad_rows: bool = False,
        check: bool = True,
    ) -> None:
        if not paths:
            raise ConfigError("no data files; name at least one JSONL file")
        self.prepare, self.skip_bad_rows = prepare, skip_bad_rows
        self._met: set[str] = set()
        # In shared memory, because workers count too.
        skipped: Any = torch.zeros((), dtype=torch.int64)
        self._skipped: torch.Tensor = skipped.share_memory_()
        files = [JsonlFile.scan(path) for path in paths]
        self.files = [self._checked(file) for file in files] if check else files
        self._ends = np.cumsum([len(file) for file in self.files])
        self.weights = weights
        self.sampler()  # so that weights that cannot be are refused here

    @property
    def skipped(self) -> int:
        """Bad rows left out so far, those met by worker processes included (each worker counts what it meets)."""
        return int(self._skipped)

    def sampler(self, seed: int = 0, *, shuffle: bool = True) -> MixtureSampler:
        """The order in which to go through the rows, by their weights."""
        return MixtureSampler([len(file) for file in self.files], self.weights, seed=seed, shuffle=shuffle)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        for step in range(len(self)):
            file, row = self._place((index + step) % len(self))
            try:
                conversation = file.read(row)
                return conversation if self.prepare is None else self.prepare(conversation)
            except (DataError, ImageError) as error:  # others are no fault of the row
                self._bad(error, file.where(row))
        raise DataError(f"no good row in {', '.join(str(file.path) for file in self.files)}")

    def _place(self, index: int) -> tuple[JsonlFile, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.files[number], index - (int(self._ends[number - 1]) if number else 0)

    def _checked(self, file: JsonlFile) -> JsonlFile:
        good = np.ones(len(file), bool)
        with file.path.open("rb") as lines:
            for row, offset in enumerate(file.offsets):
                lines.seek(int(offset))
                try:
                    parse_line(lines.readline(), file.where(row), file.path.parent)
                except DataError as error:
                    self._bad(error, file.where(row))
                    good[row] = False
        if not good.any():
            raise DataError(f"{file.path}: not one of its {len(file)} rows can be used")
        return file.only(good)

    def _bad(self, error: PixelPruneError, where: str) -> None:
        """Stop at a bad row, or report and count it, the first time that it is met."""
        message = str(error) if where in str(error) else f"{where}: {error}"
        if not self.skip_bad_rows:
            raise DataError(f"{message} (skip_bad_rows leaves such rows out)") from error
        if where in self._met:
            return
        self._met.add(where)
        self._skipped += 1
        if len(self._met) <= MOST_REPORTS:
            logger.warning("skipped %s", message)
        elif len(self._met) == MOST_REPORTS + 1:
            logger.warning("skipped %s; from here on bad rows are only counted", message)


class MixtureSampler(Sampler[int]):
    """The order of an epoch over several files, a fixed function of seed and epoch.

    Args:
        sizes: rows of each file.
        weights: how often a row comes from each file, in any unit; by default every row comes once per epoch. With
            weights, an epoch has as many rows as there are, and a file with more than its share has rows left for
            later epochs, one with less is gone through several times. Between two visits of a row, all others of
            its file are visited.
        seed: of the order.
        shuffle: otherwise file after file, in the order of the lines.
    """

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float] | None = None, *, seed: int = 0, shuffle: bool = True
    ) -> None:
        if weights is not None and (len(weights) != len(sizes) or min(weights) < 0 or not sum(weights) > 0):
            raise ConfigError(
                f"weights must be one number of at least 0 per file, not all 0; got {list(weights)} for "
                f"{len(sizes)} files"
            )
        self.sizes, self.seed, self.shuffle, self.epoch = list(sizes), seed, shuffle, 0
        total = sum(sizes)
        self.counts = self.sizes if weights is None else _shares(total, np.asarray(weights, float))

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is of, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[int]:
        starts = np.cumsum([0, *self.sizes[:-1]])
        draws = [
            start + self._draw(number, self.epoch * count, count)
            for number, (start, count) in enumerate(zip(starts, self.counts, strict=True))
        ]
        order: NDArray[np.int64] = np.concatenate(draws)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        yield from order.tolist()

    def _draw(self, number: int, begin: int, count: int) -> NDArray[np.int64]:
        """``count`` rows of a file after ``begin`` earlier ones, from one shuffled pass over it after the other."""
        size = self.sizes[number]
        passes = range(begin // size, (begin + count - 1) // size + 1) if count else range(0)
        orders = [
            np.random.default_rng([self.seed, number, turn, 1]).permutation(size) if self.shuffle else np.arange(size)
            for turn in passes
        ]
        return np.concatenate([*orders, np.empty(0, np.int64)])[begin % size :][:count].astype(np.int64)


def _shares(total: int, weights: NDArray[np.float64]) -> list[int]:
    """Whole numbers that sum to ``total`` in proportion to the weights (largest remainders)."""
    exact = weights / weights.sum() * total
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return [int(count) for count in counts]
