"""One cell of the table, a model with one arm on one set: what it is, its folder, and what it found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .answering import Answerer, Engine, Question, Reply, read_replies
from .arms import Arm
from .points import Scale, to_unit
from .sets import KnownSet
from .statistics import Row

#: What a GUI model is asked where a configuration gives nothing else, for models that answer in JSON.
POINT_PROMPT = 'Locate the element: {question}\nAnswer with its point alone, in JSON: {{"point_2d": [x, y]}}'


@dataclass(frozen=True)
class Cell:
    """A model with one arm on one set.

    Attributes:
        model_name: in tables.
        loading: the fields of :class:`~pixelprune.evaluate.transformers_engine.Loading`.
        engine: ``transformers`` or ``vllm``.
        arm: what the model sees.
        set: what it is asked.
        questions: for a set of the user's own, its file.
        prompt: what it is asked, with ``{question}`` in it; ``None`` leaves it to the harness.
        max_new_tokens: of an answer; ``None`` leaves it to lmms-eval.
        points: the scale of the model's points.
        limit: only the first rows; ``None`` for all.
        batch_size: rows at a time.
        vlmevalkit: the folder of the clone.
        judge: options of VLMEvalKit's ``run.py`` for a judge.
    """

    model_name: str
    loading: dict[str, Any]
    engine: str
    arm: Arm
    set: KnownSet
    questions: str | None = None
    prompt: str | None = None
    max_new_tokens: int | None = None
    points: Scale = "thousand"
    limit: int | None = None
    batch_size: int = 1
    vlmevalkit: str | None = None
    judge: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> dict[str, Any]:
        """What answers depend on, as the head of the journal; the rows' keys have the questions and their lengths."""
        loading = {name: value for name, value in self.loading.items() if name not in ("device", "options")}
        return {"loading": loading, "engine": self.engine, "arm": self.arm.to_dict(), "set": self.set.name}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "arm": self.arm.to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Cell:
        """What :meth:`to_dict` gave."""
        known = {**value["set"], "needs": tuple(value["set"]["needs"])}
        return cls(**{**value, "arm": Arm.from_dict(value["arm"]), "set": KnownSet(**known)})


class Asking:
    """A cell at work: asks, rewrites points for the harness, and writes the result.

    Args:
        cell: what is asked by what.
        folder: of the cell.
    """

    def __init__(self, cell: Cell, folder: Path) -> None:
        self.cell, self.folder = cell, folder

    @cached_property
    def answerer(self) -> Answerer:
        """Opened when it is needed."""
        return Answerer(self.folder / "journal.jsonl", self.cell.head, self._engine, self.cell.batch_size)

    def prompt(self, question: str) -> str | None:
        """What is asked in place of the harness's own text; None leaves that."""
        return None if self.cell.prompt is None else self.cell.prompt.format(question=question)

    def max_new_tokens(self, otherwise: int) -> int:
        """Of an answer; ``otherwise`` where the cell leaves it to the harness."""
        return self.cell.max_new_tokens or otherwise

    def ask(self, questions: Iterable[Question], point_form: str) -> list[str]:
        """The answers, points rewritten into the form that the harness reads.

        Args:
            point_form: with ``{x}`` and ``{y}``, from 0 to 1.
        """
        return [self.text(reply, point_form) for reply in self.answerer.answer(questions)]

    def text(self, reply: Reply, point_form: str) -> str:
        """The text of a reply as the harness takes it."""
        if self.cell.set.kind != "point":
            return reply.text
        seen = reply.images[-1]
        point = to_unit(reply.text, self.cell.points, seen.width, seen.height)
        # What has no point stays as it is: the harness then counts it as wrong.
        return reply.text if point is None else point_form.format(x=f"{point[0]:.6f}", y=f"{point[1]:.6f}")

    def finish(self, score: float, rows: Mapping[str, float] | None) -> None:
        """Write the result; the cell is then done.

        Args:
            score: the harness's, 0 to 1.
            rows: the score of each row, 0 to 1; ``None`` where there is none.
        """
        result = {"limit": self.cell.limit, "score": score, "rows": rows}
        write_json(self.folder / "result.json", result)

    def _engine(self) -> Engine:
        from .transformers_engine import Loading, TransformersEngine

        loading = Loading(**self.cell.loading)
        if self.cell.engine == "vllm":
            from .vllm_engine import VllmEngine

            return VllmEngine(loading, self.cell.arm)
        return TransformersEngine(loading, self.cell.arm)


@dataclass(frozen=True)
class Result:
    """What a finished cell found.

    Attributes:
        score: the harness's, 0 to 1.
        rows: of each row, where there are scores of rows.
        replies: to each row, by name.
        limit: of rows, when it was finished.
    """

    score: float
    rows: list[Row] | None
    replies: dict[str, Reply]
    limit: int | None

    @property
    def kept(self) -> float | None:
        """Blocks that the model saw of all blocks of the images; None where there was no image."""
        images = [image for reply in self.replies.values() for image in reply.images]
        total = sum(image.total for image in images)
        return sum(image.kept for image in images) / total if total else None

    @property
    def seconds(self) -> float:
        """Seconds of a row, in the mean."""
        return sum(reply.seconds for reply in self.replies.values()) / max(1, len(self.replies))


def read_result(folder: Path) -> Result | None:
    """The result of a cell; None if it is not finished."""
    try:
        content = json.loads((folder / "result.json").read_text())
    except FileNotFoundError:
        return None
    replies = read_replies(folder / "journal.jsonl")
    rows = content["rows"]
    if rows is not None:
        replies = {name: replies[name] for name in rows}
        rows = [Row(name, score, replies[name].cluster) for name, score in rows.items()]
    return Result(content["score"], rows, replies, content["limit"])


def write_json(path: Path, content: Any) -> None:
    """Write a file at once or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.replace(path)
