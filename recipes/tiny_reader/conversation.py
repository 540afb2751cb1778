"""Many questions about one page as one sequence: each sees the page and itself, where it would stand alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from pixelprune import PruneConfig, select

from . import fonts, pages
from .page import Page
from .tasks import Question, Task

PREFIX = "<|im_start|>user\n<|vision_start|>"
MIDDLE = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Batch:
    """Pages of one size with packed questions. ``ids`` and what follows are (batch, length)."""

    images: NDArray[np.uint8]  # (batch, height, width, 3)
    kept: NDArray[np.int64]  # (batch, blocks): the blocks of each page that are seen, -1 behind them
    characters: NDArray[np.int64]  # dense labels, see canvas.Canvas.labels
    ids: NDArray[np.int64]
    wanted: NDArray[np.int64]  # the answer token to be predicted at each place, -1 elsewhere
    segment: NDArray[np.int64]  # 0: the page; n: question n; -1: padding
    positions: NDArray[np.int64]  # (3, batch, length)
    task: NDArray[np.int64]  # (batch, questions): index into tasks.TASKS, -1 where there is none


TASKS: tuple[Task, ...] = get_args(Task)


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from .model import tokenizer

    return tokenizer()


# How often each task is drawn for training: what takes the model longest to learn, most often.
SHARES: dict[Task, int] = {"value": 2, "cell": 4, "line": 2, "state": 2, "text": 4, "point": 6}


def choose(page: Page, rng: random.Random, count: int, shares: dict[Task, int] | None = None) -> list[Question]:
    """Questions of a page, the next one's task drawn by ``shares``, or each task with the same chance."""
    by_task: dict[str, list[Question]] = {}
    for question in page.questions:
        by_task.setdefault(question.task, []).append(question)
    for group in by_task.values():
        rng.shuffle(group)
    chosen = []
    while by_task and len(chosen) < count:
        task = rng.choice([task for task in by_task for _ in range(shares[task] if shares else 1)])
        chosen.append(by_task[task].pop())
        if not by_task[task]:
            del by_task[task]
    return chosen


def image_positions(start: int, rows: int, columns: int) -> NDArray[np.int64]:
    """M-RoPE coordinates of an image's merged blocks, (3, rows * columns): time, height, width."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.stack([np.full_like(row, start), row + start, column + start])


def blocks(sheet: Page, rng: random.Random, pruned: float) -> NDArray[np.int64]:
    """The blocks that are kept of a page: all, or, with the probability ``pruned``, those of some usual setting."""
    if pruned and rng.random() < pruned:
        config = PruneConfig(
            rng.choice(("pred2d", "pred2d", "adaptive", "raster")), threshold=rng.choice((0, 0, 0.02, 0.05))
        )
        return select(np.asarray(sheet.image), config, block_size=32).kept_indices
    return np.arange(sheet.width // 32 * (sheet.height // 32))


def pack(sheets: list[Page], chosen: list[list[Question]], kept: list[NDArray[np.int64]]) -> Batch:
    """Lay out pages of one size, what is kept of each, and their questions."""
    tok = _tokenizer()
    width, height = sheets[0].width, sheets[0].height
    rows, columns = height // 32, width // 32
    head = tok(PREFIX, add_special_tokens=False).input_ids
    pad, image, end = (tok.convert_tokens_to_ids(t) for t in ("<|endoftext|>", "<|image_pad|>", "<|vision_end|>"))
    start = len(head)
    after = start + max(rows, columns)
    grid = image_positions(start, rows, columns)
    lines = []
    for questions, seen in zip(chosen, kept, strict=True):
        prefix = [*head, *[image] * len(seen), end]
        coordinates = np.concatenate([np.tile(np.arange(start), (3, 1)), grid[:, seen], np.full((3, 1), after)], axis=1)
        ids, wanted, segment, places = list(prefix), [-1] * len(prefix), [0] * len(prefix), [coordinates]
        for number, question in enumerate(questions, 1):
            asked = tok(question.text + MIDDLE, add_special_tokens=False).input_ids
            answer = tok(question.answer + "<|im_end|>", add_special_tokens=False).input_ids
            ids += asked + answer
            wanted += [-1] * (len(asked) - 1) + answer + [-1]
            segment += [number] * (len(asked) + len(answer))
            places.append(np.tile(after + 1 + np.arange(len(asked) + len(answer)), (3, 1)))
        lines.append((ids, wanted, segment, np.concatenate(places, axis=1)))
    length = max(len(line[0]) for line in lines)
    most = max(len(questions) for questions in chosen)

    def padded(index: int, value: int) -> NDArray[np.int64]:
        return np.array([line[index] + [value] * (length - len(line[index])) for line in lines])

    widest = max(map(len, kept))
    positions = [np.pad(line[3], ((0, 0), (0, length - line[3].shape[1]))) for line in lines]
    task = [[TASKS.index(q.task) for q in qs] + [-1] * (most - len(qs)) for qs in chosen]
    return Batch(
        np.stack([np.asarray(sheet.image) for sheet in sheets]),
        np.stack([np.pad(seen, (0, widest - len(seen)), constant_values=-1) for seen in kept]),
        np.stack([sheet.labels() for sheet in sheets]),
        padded(0, pad),
        padded(1, -1),
        padded(2, -1),
        np.stack(positions, axis=1),
        np.array(task),
    )


def make(
    seed: int,
    count: int,
    width: int,
    height: int,
    questions: int,
    split: fonts.Split = "train",
    sizes: tuple[int, int] = (18, 26),
    pruned: float = 0.0,
) -> Batch:
    """A batch that depends on its arguments alone."""
    rng = random.Random(seed)
    sheets = [pages.as_seen(rng, width, height, split, sizes) for _ in range(count)]
    chosen = [choose(sheet, rng, questions, SHARES) for sheet in sheets]
    return pack(sheets, chosen, [blocks(sheet, rng, pruned) for sheet in sheets])
