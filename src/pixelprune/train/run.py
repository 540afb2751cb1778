"""A training run from its config: load, train or resume, evaluate, save."""

from __future__ import annotations

import copy
import gc
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from rich.console import Console
from transformers import PrinterCallback, ProgressCallback, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback

from ..errors import ConfigError
from ..hf.chat import load_model, load_processor
from ..models.resize import ResizeSpec
from .checkpoint import STATE, guard_settings, is_finished, last_complete_checkpoint
from .collator import ChatCollator
from .config import TrainConfig
from .data import Conversations
from .distill import DistillationTrainer
from .model import add_lora, apply_liger, freeze, linear_patches
from .progress import RichProgress
from .trainer import PruneTrainer


@dataclass(frozen=True)
class Result:
    """What a run ends with.

    Attributes:
        steps: optimizer steps, those before a resumption included.
        metrics: of the final evaluation; empty without ``data.eval``.
        skipped: rows left out as bad, on this process.
        output: where the trained model is.
    """

    steps: int
    metrics: dict[str, float]
    skipped: int
    output: Path


def train(config: TrainConfig, console: Console | None = None) -> Result:
    """Run it, or resume it from its last complete checkpoint.

    Leaves in ``config.output``: the trained model in Hugging Face form with its processor, ``checkpoint-*`` folders,
    ``tensorboard``, ``metrics.json`` with the last training log and the final evaluation, ``trainer_state.json`` with
    all logs, and ``run.yaml`` with every setting.

    Raises:
        PixelPruneError: a setting, the model or a row of the data cannot be used.
    """
    console = Console(stderr=True) if console is None else console
    output = Path(config.output)
    progress = RichProgress(console)
    trainer = build_trainer(config)
    checkpoint = last_complete_checkpoint(output)
    if checkpoint is not None:
        guard_settings(output, config)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        output.mkdir(parents=True, exist_ok=True)
        (output / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        trainer.add_callback(_tensorboard(output / "tensorboard", checkpoint))
        if checkpoint is not None:
            console.print(f"resuming from {checkpoint}", highlight=False, soft_wrap=True)
    trainer.add_callback(progress)
    try:
        if checkpoint is not None and is_finished(checkpoint):
            # The Trainer would take one more step.
            trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
            trainer._load_from_checkpoint(str(checkpoint))
        else:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        metrics = trainer.evaluate() if config.data.eval else {}
    finally:
        progress.close()
    _save(trainer, config, output, metrics)
    datasets: list[Any] = [trainer.train_dataset, trainer.eval_dataset]
    skipped = sum(data.skipped for data in datasets if data is not None)
    return Result(trainer.state.global_step, metrics, skipped, output)


def is_first_process() -> bool:
    """Whether this process is the one that writes and prints, also after training."""
    return PartialState().is_main_process


def leave_process_group() -> None:
    """Wait for the other processes and end what `train` began with them; one that just exits may be aborted.

    For whoever started the processes only: nothing can be shared with them afterwards.
    """
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
    # The trainer's reference cycles still hold the group, and its threads must be gone before the interpreter is.
    gc.collect()


def build_trainer(config: TrainConfig) -> PruneTrainer:
    """Everything that a run needs, from its config."""
    args = _arguments(config)  # first: it starts the process group, and knows the device
    processor = _processor(config)
    load = partial(load_model, dtype=config.tune.dtype, attention=config.tune.attention)
    model: Any = load(config.model)
    if model._hf_peft_config_loaded:
        raise ConfigError(
            f"model: {config.model} is an adapter, and training starts from a whole model; "
            f"tune.lora.merge: true saves one at the end of a run"
        )
    teacher = None
    if config.distill is not None and config.distill.teacher is not None:
        teacher = load(config.distill.teacher)
    elif config.distill is not None and config.tune.lora is None:
        teacher = copy.deepcopy(model)
    on = args.device.type == "cpu" if config.tune.linear_patches == "auto" else config.tune.linear_patches
    for each in (model, teacher):
        if each is not None:
            linear_patches(each, on)
            apply_liger(each, config.tune.liger)
    lora = config.tune.lora
    if lora is None:
        freeze(model, config.tune.freeze)
    else:
        torch.manual_seed(config.trainer["seed"])
        model = add_lora(model, lora.parts, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout)
    data = config.data
    collator = ChatCollator(
        processor,
        packing=data.packing,
        max_length=data.max_length,
        teacher=config.distill is not None,
        last_answer=data.last_answer,
        unpruned_fraction=data.unpruned_fraction,
    )
    rows: dict[str, Any] = {"skip_bad_rows": data.skip_bad_rows, "check": data.check}
    weights = [file.weight for file in data.train if file.weight is not None]
    own: dict[str, Any] = {} if config.distill is None else {
        "teacher": teacher, "alpha": config.distill.alpha, "temperature": config.distill.temperature
    }  # fmt: skip
    trainer_class = PruneTrainer if config.distill is None else DistillationTrainer
    trainer = trainer_class(
        model,
        args,
        collator,
        train_dataset=Conversations(
            [file.path for file in data.train], weights=weights or None, prepare=collator.encode, **rows
        ),
        eval_dataset=Conversations(data.eval, prepare=collator.for_evaluation().encode, **rows) if data.eval else None,
        processing_class=processor,
        **own,
    )
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    return trainer


def _processor(config: TrainConfig) -> Any:
    processor = load_processor(config.model)
    processor.prune = config.prune
    images = config.images
    if images.min_pixels is not None or images.max_pixels is not None:
        spec = ResizeSpec.from_processor(processor.image_processor.to_dict())
        least, most = images.min_pixels or spec.min_pixels, images.max_pixels or spec.max_pixels
        if least > most:
            raise ConfigError(f"images: min_pixels {least} is more than max_pixels {most}")
        processor.image_processor.size = {"shortest_edge": least, "longest_edge": most}
    return processor


def _on_accelerator(config: TrainConfig) -> bool:
    """Whether the run is on a GPU or its like; without one the Trainer refuses bf16 unless use_cpu is set."""
    return config.device != "cpu" and torch.accelerator.is_available()


def _arguments(config: TrainConfig) -> TrainingArguments:
    options = dict(config.trainer)
    known = TrainingArguments.__dataclass_fields__
    # transformers 5.23 calls it activation checkpointing, and the old name will go.
    for name in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
        newer = name.replace("gradient", "activation")
        if name in options and newer in known:
            options[newer] = options.pop(name)
    for name in ("gradient_checkpointing", "activation_checkpointing"):
        if options.get(name):
            options.setdefault(f"{name}_kwargs", {"use_reentrant": False})
    options.setdefault("dataloader_pin_memory", _on_accelerator(config) and torch.cuda.is_available())
    # A batch without images leaves the vision tower without gradients on one process.
    options.setdefault("ddp_find_unused_parameters", True)
    try:
        return TrainingArguments(
            config.output, use_cpu=not _on_accelerator(config), report_to="none", disable_tqdm=True, **options
        )
    except (ValueError, KeyError, ImportError) as error:
        raise ConfigError(f"the Hugging Face Trainer refuses these settings: {error}") from error


def _tensorboard(folder: Path, checkpoint: Path | None) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    # What was logged after the checkpoint is logged again, and hidden where it was logged first.
    step = None if checkpoint is None else int(checkpoint.name.split("-")[1]) + 1
    writer: Any = SummaryWriter
    callback = TensorBoardCallback(writer(str(folder), purge_step=step))
    callback.logging_dir = str(folder)  # the final evaluation comes when the writer is closed, and opens another
    return callback


def _save(trainer: PruneTrainer, config: TrainConfig, output: Path, metrics: dict[str, float]) -> None:
    if config.tune.lora is not None and config.tune.lora.merge:
        if trainer.is_world_process_zero():
            processor: Any = trainer.processing_class
            trainer.accelerator.unwrap_model(trainer.model).merge_and_unload().save_pretrained(output)
            processor.save_pretrained(output)
    else:
        trainer.save_model()
    trainer.save_state()
    if trainer.is_world_process_zero():
        (output / "metrics.json").write_text(json.dumps({**_training(trainer), **metrics}, indent=1) + "\n")


def _training(trainer: PruneTrainer) -> dict[str, float]:
    """The steps, and what was logged of the last of them, with ``train_`` before the names."""
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    last = {name: value for name, value in logged[-1].items() if name not in ("step", "epoch")} if logged else {}
    return {"steps": trainer.state.global_step, **{f"train_{name}": value for name, value in last.items()}}
