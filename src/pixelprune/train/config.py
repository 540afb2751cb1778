"""The file that describes a training run: every key checked, unknown ones refused with the nearest name."""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from ..core.config import PruneConfig, did_you_mean
from ..errors import ConfigError

Part = Literal["vision", "merger", "language"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFile(_Section):
    """A JSONL file. ``weight``: how often its rows come, in any unit, see :class:`~pixelprune.train.MixtureSampler`."""

    path: str
    weight: float | None = Field(default=None, ge=0)


class Data(_Section):
    """The rows.

    Attributes:
        train, eval: JSONL files; a path alone, or with its weight (of all files or of none).
        skip_bad_rows: leave out rows that cannot be used, and count them; otherwise the first one ends the run.
        check: look at all rows before the run begins.
        last_answer: learn only the last answer of each conversation.
        whole_share: share of the training conversations whose images are not pruned.
        packing: put the rows of a batch behind one another instead of padding them.
        max_length: tokens; a longer conversation is a bad row.
        workers: processes that read and prune images beside the training.
    """

    train: list[Annotated[DataFile, BeforeValidator(lambda file: {"path": file} if isinstance(file, str) else file)]]
    eval: list[str] = []
    skip_bad_rows: bool = False
    check: bool = True
    last_answer: bool = False
    whole_share: float = Field(default=0.0, ge=0, lt=1)
    packing: bool = False
    max_length: int | None = Field(default=None, ge=1)
    workers: int = Field(default=0, ge=0)


class Images(_Section):
    """Least and most pixels of an image, as its processor resizes it; the model's own where not given."""

    min_pixels: int | None = Field(default=None, ge=1)
    max_pixels: int | None = Field(default=None, ge=1)


class Lora(_Section):
    """LoRA adapters on all linear layers of some parts of the model; everything else is frozen.

    Attributes:
        merge: at the end, save the model with its adapter merged into it; otherwise the adapter alone.
    """

    parts: list[Part] = ["language"]
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    merge: bool = False


class Tune(_Section):
    """What is trained, and how it is computed.

    Attributes:
        freeze: parts of the model without gradients.
        lora: adapters instead of the model's own weights.
        dtype: of the weights. float32 with ``bf16`` is mixed precision; bfloat16 alone halves the memory of weights
            and optimizer, at the price of small updates being rounded away.
        bf16: compute in bfloat16 (autocast).
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        attention: as ``attn_implementation`` of ``from_pretrained``.
        liger: Liger kernels: ``auto`` where they are installed and there is a GPU.
        linear_patches: embed patches by a matrix product, see :func:`~pixelprune.train.linear_patches`: ``auto`` on
            CPUs.
    """

    freeze: list[Part] = []
    lora: Lora | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    bf16: bool = False
    gradient_checkpointing: bool = False
    attention: str | None = None
    liger: bool | Literal["auto"] = "auto"
    linear_patches: bool | Literal["auto"] = "auto"


class Distill(_Section):
    """Self-distillation, see :class:`~pixelprune.train.DistillationTrainer`.

    Attributes:
        teacher: another model's folder or id; otherwise the model as it is before training: a frozen copy, or
            with ``lora`` itself with its adapter switched off.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=1.0, gt=0)
    teacher: str | None = None


class Schedule(_Section):
    """Steps. The batch of an optimizer step is ``batch_size * accumulate`` rows per process.

    Attributes:
        epochs: passes over the data; ``max_steps`` counts instead, if given.
        scheduler, optimizer: names that the Hugging Face Trainer knows.
        warmup: steps until the full learning rate, or their share of all steps if below 1.
    """

    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=1, ge=1)
    accumulate: int = Field(default=1, ge=1)
    eval_batch_size: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-5, gt=0)
    scheduler: str = "cosine"
    warmup: float = Field(default=0.0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    optimizer: str = "adamw_torch"
    seed: int = Field(default=0, ge=0)


class Save(_Section):
    """Optimizer steps between logs, checkpoints and evaluations (``null``: only at the end); checkpoints kept."""

    log_every: int = Field(default=10, ge=1)
    every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    eval_every: int | None = Field(default=None, ge=1)


def _prune(value: Any) -> Any:
    return value if isinstance(value, PruneConfig | None) else PruneConfig.from_mapping(value)


class TrainConfig(_Section):
    """A training run.

    Attributes:
        model: a local folder or a hub id.
        output: the folder for checkpoints, logs and the trained model. Run again, it goes on from there.
        prune: see :class:`pixelprune.PruneConfig`; ``null`` trains on whole images.
        device: ``auto`` (a GPU if there is one) or ``cpu``.

    Paths are relative to the working directory; images in a JSONL file to that file's folder.
    """

    model: str
    output: str
    data: Data
    prune: Annotated[PruneConfig | None, BeforeValidator(_prune), PlainSerializer(lambda c: c and c.to_dict())] = (
        PruneConfig()
    )
    images: Images = Images()
    tune: Tune = Tune()
    distill: Distill | None = None
    schedule: Schedule = Schedule()
    save: Save = Save()
    device: Literal["auto", "cpu"] = "auto"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read and check a YAML file.

    Args:
        overrides: ``key=value`` with dots between the names of sections, such as ``schedule.max_steps=10``; values
            are YAML.

    Raises:
        ConfigError: one line with the file, the key, the value seen and what is allowed.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold keys such as model, data and output; got {type(content).__name__}")
    for override in overrides:
        _override(content, override)
    return parse_config(content, str(path))


def parse_config(content: dict[str, Any], where: str = "the config") -> TrainConfig:
    """Check what a YAML file would hold; ``where`` begins the error."""
    try:
        config = TrainConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(_describe(problem) for problem in error.errors())}") from None
    _check(config, where)
    return config


def _check(config: TrainConfig, where: str) -> None:
    weighted = [file.weight is not None for file in config.data.train]
    if not weighted:
        raise ConfigError(f"{where}: data.train: name at least one JSONL file")
    if any(weighted) and not all(weighted):
        raise ConfigError(f"{where}: data.train: give every file a weight, or none")
    if config.data.whole_share and config.prune is None:
        raise ConfigError(f"{where}: data.whole_share does nothing where prune is null; leave one of them out")
    if config.save.every % config.save.log_every:
        raise ConfigError(
            f"{where}: save.every must be a multiple of save.log_every, so that a run that goes on from a checkpoint "
            f"logs the same; got {config.save.every} and {config.save.log_every}"
        )
    if config.tune.lora is not None and config.tune.freeze:
        raise ConfigError(f"{where}: tune.freeze does nothing beside tune.lora, which freezes everything; leave it out")
    if config.save.eval_every is not None and not config.data.eval:
        raise ConfigError(f"{where}: save.eval_every needs data.eval")


def _override(content: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"an override is key=value, such as schedule.max_steps=10; got {text!r}")
    *sections, last = key.split(".")
    for section in sections:
        inner = content.setdefault(section, {})
        if inner is None:
            inner = content[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{text!r}: {section} is no section")
        content = inner
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r}: the value is not valid YAML") from error


def _describe(problem: Any) -> str:
    where, message = [str(part) for part in problem["loc"] if str(part).isidentifier() or isinstance(part, int)], ""
    if problem["type"] == "extra_forbidden":
        *sections, key = problem["loc"]
        return f"unknown key {'.'.join(where)!r}{did_you_mean(key, _keys(TrainConfig, sections))}"
    if problem["type"] == "missing":
        return f"the key {'.'.join(where)!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(where)}: {message}; got {problem['input']!r}" if "got" not in message else (
        f"{'.'.join(where)}: {message}"
    )  # fmt: skip


def _keys(section: Any, names: Sequence[Any]) -> list[str]:
    """The keys of a section that is found by the names on the way to it."""
    for name in names:
        if isinstance(name, str) and name in section.model_fields:
            section = _section_in(section.model_fields[name].annotation) or section
    return list(section.model_fields)


def _section_in(annotation: Any) -> Any:
    """The section class inside a type such as ``Lora | None`` or ``list[DataFile]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list, Annotated):
        return next((found for inner in get_args(annotation) if (found := _section_in(inner))), None)
    return None
