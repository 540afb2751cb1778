"""The Hugging Face Trainer with a loss on answers that is right for pruned batches.

Three things differ from the stock class. Logits are computed for answer tokens only: with a vocabulary of 150,000, the
others would take more memory than the model. The loss is averaged over all answer tokens of an optimizer step, over
its micro-batches and processes, which the stock class does not do for Qwen models (they say
``accepts_loss_kwargs = False``, so that it averages the averages). And evaluation is by answer tokens too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments

from ..errors import ConfigError
from ..hf import enable
from ..hf.kept import KEPT, align_kept, read_kept
from ..hf.modality import MODALITIES
from .collator import IGNORE, ChatCollator
from .data import Conversations, MixtureSampler


@dataclass
class AnswerTokens:
    """What a model makes of the answer tokens of a batch.

    Attributes:
        loss: float32 ``(tokens,)``, the loss to be trained, with gradient.
        right: bool ``(tokens,)``: the most likely token is the answer's.
        rows: int64 ``(tokens,)``: the row of the batch that each is in.
        parts: float32 ``(tokens,)`` by name: what the loss is made of, for the log.
    """

    loss: Tensor
    right: Tensor
    rows: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


def answer_logits(model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Run a model and take its predictions of answer tokens.

    Args:
        model: any of the supported models, wrapped or not.
        inputs: a batch of :class:`~pixelprune.train.ChatCollator`.

    Returns:
        Logits float32 ``(tokens, vocabulary)``, the answer tokens int64 ``(tokens,)``, and the rows they are in.
    """
    targets = F.pad(inputs["labels"][:, 1:], (0, 1), value=IGNORE)
    columns = (targets != IGNORE).any(0).nonzero()[:, 0]
    rest = {name: value for name, value in inputs.items() if name not in ("labels", "teacher")}
    # With a cache, transformers would not look for the boundaries of packed rows.
    output = model(**{**rest, "use_cache": False}, logits_to_keep=columns)
    targets = targets[:, columns]
    answered = targets != IGNORE
    return output.logits[answered].float(), targets[answered], answered.nonzero()[:, 0]


class PruneTrainer(Trainer):
    """Supervised fine-tuning on conversations with pruned (or whole) images.

    Takes what :class:`transformers.Trainer` takes. The model is enabled for pruned inputs, batches are never cut along
    their first dimension (``dispatch_batches``), and rows keep their columns (``remove_unused_columns``). A
    :class:`~pixelprune.train.Conversations` dataset is sampled by its weights. Training logs also have
    ``retain_ratio`` (kept image blocks over all), ``tokens_per_second`` (those the language model reads, over all
    processes) and the parts of the loss; evaluation ``eval_loss`` per answer token, ``eval_token_accuracy``, and
    ``eval_exact_match``, the share of rows in which every answer token is the most likely one: those that greedy
    decoding answers word for word.

    Raises:
        ConfigError: several GPUs in one process, ``dispatch_batches``, label smoothing, or a loss function of the
            caller's.
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: ChatCollator | None = None,
        **kwargs: Any,
    ) -> None:
        args = TrainingArguments("out", report_to="none") if args is None else args
        _check(args, kwargs)
        args.remove_unused_columns = False
        _accelerator_config(args).dispatch_batches = False
        if model is not None:
            enable(model)
        super().__init__(model, args, data_collator, compute_metrics=self.summarise, **kwargs)
        # The loss below is over all answer tokens of a step: have them counted, and do not average averages.
        self.model_accepts_loss_kwargs = True
        self._sampler: MixtureSampler | None = None
        self._parts: list[str] = []
        self._meter: dict[str, Tensor] = {}
        self._since = time.perf_counter()
        self.add_callback(EpochAndThroughputCallback(self))

    def answer_tokens(self, model: nn.Module, inputs: dict[str, Any]) -> AnswerTokens:
        """The loss of each answer token; what subclasses replace."""
        logits, targets, rows = answer_logits(model, inputs)
        loss = F.cross_entropy(logits, targets, reduction="none")
        return AnswerTokens(loss, logits.argmax(-1) == targets, rows)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean loss of the step's answer tokens, as this micro-batch's share of it."""
        tokens = self.answer_tokens(model, inputs)
        total = len(tokens.loss) if num_items_in_batch is None else num_items_in_batch
        loss = tokens.loss.sum() / torch.as_tensor(total, device=tokens.loss.device).clamp(min=1)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # Gradients are averaged over processes, and the count is already over all of them.
            loss = loss * self.accelerator.num_processes
        self._measure(inputs, tokens)
        return (loss, tokens) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, Tensor, Tensor]:
        """Sums per row, from which :meth:`summarise` makes metrics; a mean of batch means would not be one of tokens.

        Returns:
            Nothing, float32 ``(rows, columns of the table)``, and a placeholder ``(rows,)`` for the labels.
        """
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            tokens = self.answer_tokens(model, inputs)
        rows = len(inputs["labels"])
        kept, blocks = self._blocks(inputs)
        columns = [torch.ones_like(tokens.loss), tokens.right.float(), tokens.loss, *tokens.parts.values()]
        table = torch.stack(columns, 1).new_zeros(rows, len(columns))
        table.index_add_(0, tokens.rows, torch.stack(columns, 1).float())
        self._parts = list(tokens.parts)  # the names of the table's last columns
        return None, torch.cat([torch.stack([kept, blocks], 1), table], 1), table.new_zeros(rows)

    def summarise(self, prediction: EvalPrediction) -> dict[str, float]:
        """Metrics from the sums per row that :meth:`prediction_step` returns; the Trainer's ``compute_metrics``."""
        table = np.asarray(prediction.predictions, np.float64)
        kept, blocks, count, right, loss, *parts = table.T
        answers = max(float(count.sum()), 1.0)
        metrics = {
            "loss": loss.sum() / answers,
            "token_accuracy": right.sum() / answers,
            "exact_match": (right == count).mean(),
            "rows": len(table),
            **{name: part.sum() / answers for name, part in zip(self._parts, parts, strict=True)},
        }
        if blocks.sum():
            metrics["retain_ratio"] = kept.sum() / blocks.sum()
        return {name: float(value) for name, value in metrics.items()}

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Evaluation does not pack rows, see :meth:`ChatCollator.for_evaluation`."""
        collator = self.data_collator
        if isinstance(collator, ChatCollator) and collator.packing:
            self.data_collator = collator.for_evaluation()
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = collator

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As the stock one, with what was measured since the last log."""
        if "loss" in logs and self._meter:
            # Each name is there on every process: all of them run the same code.
            sums = self.accelerator.reduce(torch.stack(list(self._meter.values())), "sum")
            measured = dict(zip(self._meter, sums.tolist(), strict=True))
            answers, tokens = measured.pop("answers"), measured.pop("tokens")
            kept, blocks = measured.pop("kept"), measured.pop("blocks")
            logs |= {name: value / max(answers, 1) for name, value in measured.items()}
            logs["tokens_per_second"] = tokens / (time.perf_counter() - self._since)
            if blocks:
                logs["retain_ratio"] = kept / blocks
            self._meter = {}
            self._since = time.perf_counter()
        super().log(logs, start_time)

    def _measure(self, inputs: dict[str, Any], tokens: AnswerTokens) -> None:
        """Add to the sums of the next log; on the device, where nothing has to wait for them."""
        mask = inputs.get("attention_mask")
        kept, blocks = self._blocks(inputs)
        sums = {
            "tokens": torch.ones_like(inputs["input_ids"]).sum() if mask is None else mask.sum(),
            "kept": kept.sum(),
            "blocks": blocks.sum(),
            "answers": torch.ones_like(tokens.loss).sum(),
            **{name: values.detach().sum() for name, values in tokens.parts.items()},
        }
        for name, value in sums.items():
            value = value.double() if value.device.type != "mps" else value.float()
            self._meter[name] = self._meter[name] + value if name in self._meter else value

    def _blocks(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Blocks of images and videos per row, float32 ``(rows,)``: those kept, and all."""
        types = inputs["mm_token_type_ids"]
        kept = (types > 0).sum(1).float()
        blocks = torch.zeros_like(kept)
        carried = align_kept(inputs[KEPT].cpu().numpy(), (types > 0).cpu().numpy()) if KEPT in inputs else None
        unit = _vision_config(self.model).spatial_merge_size ** 2
        for modality in MODALITIES:
            if modality.grid in inputs:
                sizes = (inputs[modality.grid].prod(1) // unit).tolist()
                its = (types == modality.token_type).cpu().numpy()
                rows = [item.row for item in read_kept(None if carried is None else carried * its, its, sizes)]
                blocks.index_add_(0, torch.tensor(rows, device=blocks.device), torch.tensor(sizes).to(blocks))
        return kept, blocks

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, Conversations):
            return super()._get_train_sampler(train_dataset)
        self._sampler = dataset.sampler(self.args.seed if self.args.data_seed is None else self.args.data_seed)
        return self._sampler


class EpochAndThroughputCallback(TrainerCallback):
    """Gives the sampler the epoch, which does not reach it through every wrapper; stops the clock of tokens per second
    during evaluation and saving; and logs the last step, which a short run would leave out."""

    def __init__(self, trainer: PruneTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer._sampler is not None:
            self.trainer._sampler.set_epoch(int(state.epoch or 0))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer._since = time.perf_counter()

    on_evaluate = on_save = on_train_begin

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps and args.logging_strategy == "steps":
            control.should_log = True


def _check(args: TrainingArguments, kwargs: dict[str, Any]) -> None:
    if args.n_gpu > 1:
        raise ConfigError(
            f"{args.n_gpu} GPUs in one process would be used through DataParallel, which cuts pixel_values, whose "
            f"rows are patches, apart; start one process per GPU with accelerate launch or torchrun"
        )
    if _accelerator_config(args).dispatch_batches:
        raise ConfigError(
            "dispatch_batches cuts batches along their first dimension, which pixel_values, whose rows are "
            "patches, do not survive; leave it off"
        )
    if args.label_smoothing_factor:
        raise ConfigError(f"label_smoothing_factor is not supported; got {args.label_smoothing_factor}")
    for name, method in (("compute_loss_func", "answer_tokens"), ("compute_metrics", "summarise")):
        if kwargs.pop(name, None) is not None:
            raise ConfigError(f"{name} is not supported; subclass PruneTrainer and replace {method}")


def _accelerator_config(args: TrainingArguments) -> Any:
    return args.accelerator_config  # typed as what may be given for it


def _vision_config(model: Any) -> Any:
    config = model.config if hasattr(model, "config") else model.module.config
    return config.vision_config
