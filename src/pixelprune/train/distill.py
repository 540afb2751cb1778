"""Self-distillation: the teacher sees the whole image, the student the pruned one.

The student learns to answer from the kept blocks as the teacher does from all of them, which says more about a token
than the one right answer does (Hinton, Vinyals and Dean, arXiv 1503.02531).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, PrunedInputError, UnsupportedModelError
from .trainer import AnswerTokens, PruneTrainer, answer_logits


class DistillationTrainer(PruneTrainer):
    """Trains ``alpha * CE + (1 - alpha) * T**2 * KL(teacher || student)`` on answer tokens.

    Both distributions are softened by the temperature T. The factor ``T**2`` makes up for the gradients of the KL
    term shrinking by as much, so that ``alpha`` means the same at every temperature.

    Batches must come from ``ChatCollator(..., teacher=True)``. Logs have the two terms as ``ce`` and ``kl``, ``kl``
    with its factor.

    Args:
        teacher: a frozen model; it is moved to the student's device, put into evaluation mode, and its parameters no
            longer require gradients. It may be another, larger one of the same vocabulary. ``None`` takes the student
            itself with its LoRA adapter switched off, so that there is no second copy in memory.
        alpha: weight of the cross-entropy, 0..1.
        temperature: above 0.
        args, kwargs: as for :class:`~pixelprune.train.PruneTrainer`.

    Raises:
        ConfigError: a setting is not allowed, or there is neither a teacher nor an adapter.
    """

    def __init__(
        self, *args: Any, teacher: Any = None, alpha: float = 0.5, temperature: float = 1.0, **kwargs: Any
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha must be from 0 (the teacher alone) to 1 (the answers alone); got {alpha}")
        if not temperature > 0:
            raise ConfigError(f"temperature must be above 0; got {temperature}")
        super().__init__(*args, **kwargs)
        self.alpha, self.temperature = float(alpha), float(temperature)
        if teacher is None and not hasattr(self.accelerator.unwrap_model(self.model), "disable_adapter"):
            raise ConfigError(
                "a model without an adapter cannot be its own teacher; pass teacher=copy.deepcopy(model), or train "
                "a LoRA adapter"
            )
        if teacher is self.model:
            raise ConfigError("teacher and student are the same object; pass teacher=copy.deepcopy(model)")
        if teacher is not None:
            teacher.requires_grad_(False).eval().to(self.args.device)
        self.teacher = teacher

    def answer_tokens(self, model: nn.Module, inputs: dict[str, Any]) -> AnswerTokens:
        """The weighted sum of both terms for each answer token."""
        if "teacher" not in inputs:
            raise ConfigError("the batch has no teacher's inputs; collate with ChatCollator(..., teacher=True)")
        taught, expected = self._teacher_logits(model, inputs["teacher"])
        logits, targets, rows = answer_logits(model, inputs)
        if not torch.equal(targets, expected):
            raise PrunedInputError("teacher and student have other answer tokens; collate both from the same rows")
        if taught.shape != logits.shape:
            raise UnsupportedModelError(
                f"the teacher's vocabulary has {taught.shape[1]} tokens, the student's {logits.shape[1]}; they must be "
                f"the same"
            )
        ce = F.cross_entropy(logits, targets, reduction="none")
        kl = softened_kl(logits, taught, self.temperature)
        loss = self.alpha * ce + (1 - self.alpha) * kl
        return AnswerTokens(loss, logits.argmax(-1) == targets, rows, {"ce": ce, "kl": kl})

    @torch.no_grad()
    def _teacher_logits(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if self.teacher is not None:
            with self.accelerator.autocast():
                return answer_logits(self.teacher, inputs)[:2]
        training = model.training
        model.eval()  # no dropout, and no recomputation
        try:
            with self.accelerator.unwrap_model(model).disable_adapter():
                return answer_logits(model, inputs)[:2]
        finally:
            model.train(training)


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T**2 * KL(teacher || student)`` of distributions softened by T, float32 ``(tokens,)`` from logits."""
    learned = F.log_softmax(student / temperature, -1)
    wanted = F.log_softmax(teacher / temperature, -1)
    return F.kl_div(learned, wanted, reduction="none", log_target=True).sum(-1) * temperature**2
