"""The ``trainer`` section of a training file: options of ``transformers.TrainingArguments``, by their own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..core.config import did_you_mean

#: What an option is where the file does not give it, if that is not TrainingArguments' own default.
DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "cosine",
    "optim": "adamw_torch",
    "seed": 0,
    "logging_steps": 10,
    "logging_first_step": True,
    "save_steps": 500,
    "save_total_limit": 2,
}

#: Options that are set from another key, or that a run decides itself.
OURS = {
    "output_dir": "the key output",
    "use_cpu": "the key device",
    "remove_unused_columns": "the trainer, which needs every column",
    "report_to": "the run: it logs to its terminal and to TensorBoard",
    "disable_tqdm": "the run, which shows its own progress",
    "resume_from_checkpoint": "the run, which resumes from its last complete checkpoint",
    "use_liger_kernel": "the key tune.liger",
}

#: Where settings of earlier versions are now, by the key in the file.
MOVED = {
    "schedule.epochs": "trainer.num_train_epochs",
    "schedule.max_steps": "trainer.max_steps",
    "schedule.batch_size": "trainer.per_device_train_batch_size",
    "schedule.accumulate": "trainer.gradient_accumulation_steps",
    "schedule.eval_batch_size": "trainer.per_device_eval_batch_size",
    "schedule.learning_rate": "trainer.learning_rate",
    "schedule.scheduler": "trainer.lr_scheduler_type",
    "schedule.warmup": "trainer.warmup_steps",
    "schedule.weight_decay": "trainer.weight_decay",
    "schedule.max_grad_norm": "trainer.max_grad_norm",
    "schedule.optimizer": "trainer.optim",
    "schedule.seed": "trainer.seed",
    "save.log_every": "trainer.logging_steps",
    "save.every": "trainer.save_steps",
    "save.keep": "trainer.save_total_limit",
    "save.eval_every": "trainer.eval_steps",
    "tune.bf16": "trainer.bf16",
    "tune.gradient_checkpointing": "trainer.gradient_checkpointing",
    "data.workers": "trainer.dataloader_num_workers",
    "data.whole_share": "data.unpruned_fraction",
}

#: Options of which zero or less would end the run with an error of torch's.
_AT_LEAST_ONE = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "logging_steps",
    "save_steps", "eval_steps", "save_total_limit",
)  # fmt: skip


def moved_keys(content: Mapping[str, Any]) -> str | None:
    """Names keys of earlier versions in a file, and where each is now; ``None`` if there are none."""
    found = []
    for old, new in MOVED.items():
        section, _, key = old.partition(".")
        if isinstance(content.get(section), Mapping) and key in content[section]:
            found.append(f"{old} is now {new}")
    if not found:
        sections = [name for name in ("schedule", "save") if name in content]
        found = [f"the section {name} is now trainer, with the names of TrainingArguments" for name in sections]
    return "; ".join(found) or None


def check_options(options: Any) -> dict[str, Any]:
    """The options with their defaults, each of the type that TrainingArguments states.

    Raises:
        ValueError: it is not a mapping, or an option is unknown, set elsewhere or of another type.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"must hold options of TrainingArguments, such as max_steps: 100; got {options!r}")
    adapters = _adapters()
    checked = {**DEFAULTS}
    if options.get("eval_steps") is not None:
        checked["eval_strategy"] = "steps"
    for name, value in options.items():
        if name in OURS:
            raise ValueError(f"{name} is set by {OURS[name]}; leave it out")
        if name not in adapters:
            raise ValueError(f"TrainingArguments has no option {name!r}{_suggestion(name, adapters)}")
        try:
            typed = adapters[name].validate_python(value)
        except ValidationError as error:
            raise ValueError(f"{name}: {error.errors()[0]['msg']}; got {value!r}") from None
        if name in _AT_LEAST_ONE and typed is not None and typed <= 0:
            raise ValueError(f"{name} must be more than 0; got {value!r}")
        # The values of its enumerations stay words, so that run.yaml can hold them.
        checked[name] = getattr(typed, "value", typed)
    return checked


def _suggestion(name: object, known: Mapping[str, Any]) -> str:
    text = did_you_mean(name, known)
    return text if "did you mean" in text else "; see the documentation of transformers.TrainingArguments"


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    from transformers import TrainingArguments

    hints = get_type_hints(TrainingArguments)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(TrainingArguments) if field.init}
