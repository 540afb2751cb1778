"""What a run will take, before it starts: answers, hours of a GPU, and what is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnsupportedModelError
from ..models.cost import prefill_cost
from ..models.shape import ModelShape
from .run import Job

#: The assumptions, which the estimate prints: blocks of an image, the share of them that pruning keeps, tokens of an
#: answer, and useful operations of a GPU in a second.
BLOCKS, KEPT, ANSWER, SPEED = 1500, 0.5, 16, 100e12


@dataclass(frozen=True)
class Plan:
    """What a run has before it.

    Attributes:
        cells, finished: all, and those that are skipped.
        rows: answers that are missing.
        gpu_hours: of prefill and decoding at :data:`SPEED`; models of unknown shape are left out.
        unknown: these models.
        models: hub ids that are downloaded unless they are in the cache.
        sets: names of the sets whose harness downloads them.
    """

    cells: int
    finished: int
    rows: int
    gpu_hours: float
    unknown: list[str]
    models: list[str]
    sets: list[str]

    def lines(self) -> list[str]:
        """In words."""
        words = [
            f"{self.cells} cells, {self.finished} finished; {self.rows:,} answers to go",
            f"about {self.gpu_hours:.1f} GPU hours at {SPEED / 1e12:.0f} TFLOP/s of useful work, with {BLOCKS:,} "
            f"blocks an image, {KEPT:.0%} of them kept where they are pruned, and {ANSWER} tokens an answer"
            + (f"; without {', '.join(self.unknown)}, whose shape is not known here" if self.unknown else ""),
        ]
        if self.models:
            words.append(f"downloads, unless cached: the weights of {', '.join(self.models)}")
        if self.sets:
            words.append(f"downloads by the harness, unless cached: {', '.join(self.sets)}")
        return words


def plan(jobs: Sequence[Job]) -> Plan:
    """What is missing of the jobs."""
    missing = [job for job in jobs if job.result is None]
    operations, unknown = 0.0, []
    for job in missing:
        name = job.cell.loading["model"]
        try:
            shape = ModelShape.from_config(name)
        except UnsupportedModelError:
            unknown.append(job.cell.model_name)
            continue
        blocks = BLOCKS if job.cell.arm.prune is None else int(BLOCKS * KEPT)
        cost = prefill_cost(shape, blocks, 64)
        # A token of the answer costs as a token of the prompt does; its attention is left out.
        row = cost.vit_flops + cost.llm_flops + ANSWER * cost.llm_linear_flops / cost.tokens
        operations += (job.rows - job.answered) * row
    return Plan(
        len(jobs),
        len(jobs) - len(missing),
        sum(job.rows - job.answered for job in missing),
        operations / SPEED / 3600,
        list(dict.fromkeys(unknown)),
        list(dict.fromkeys(j.cell.loading["model"] for j in missing if not Path(j.cell.loading["model"]).is_dir())),
        list(dict.fromkeys(job.cell.set.name for job in missing if job.cell.questions is None)),
    )
