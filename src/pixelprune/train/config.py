"""The file that describes a training run: every key checked, unknown ones refused with the nearest name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from ..configfile import Section, check, read_yaml
from ..core.config import PruneConfig
from ..errors import ConfigError
from .options import check_options, moved_keys

Part = Literal["vision", "merger", "language"]


def _file(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _list(value: Any) -> Any:
    """One file may be given without a list around it."""
    return [value] if isinstance(value, str | dict) else value


class DataFile(Section):
    """A JSONL file. ``weight``: how often its rows come, in any unit, see :class:`~pixelprune.train.MixtureSampler`."""

    path: str
    weight: float | None = Field(default=None, ge=0)


class Data(Section):
    """The rows.

    Attributes:
        train, eval: JSONL files, one or a list; for ``train`` a path alone, or with its weight (of all files or of
            none).
        skip_bad_rows: leave out rows that cannot be used, and count them; otherwise the first one ends the run.
        check: look at all rows before the run begins.
        last_answer: learn only the last answer of each conversation.
        unpruned_fraction: fraction of the training conversations whose images are not pruned.
        packing: put the rows of a batch behind one another instead of padding them.
        max_length: tokens; a longer conversation is a bad row.
    """

    train: Annotated[list[Annotated[DataFile, BeforeValidator(_file)]], BeforeValidator(_list)]
    eval: Annotated[list[str], BeforeValidator(_list)] = []
    skip_bad_rows: bool = False
    check: bool = True
    last_answer: bool = False
    unpruned_fraction: float = Field(default=0.0, ge=0, lt=1)
    packing: bool = False
    max_length: int | None = Field(default=None, ge=1)


class Images(Section):
    """Least and most pixels of an image, as its processor resizes it; the model's own where not given."""

    min_pixels: int | None = Field(default=None, ge=1)
    max_pixels: int | None = Field(default=None, ge=1)


class Lora(Section):
    """LoRA adapters on all linear layers of some parts of the model; everything else is frozen.

    Attributes:
        merge: at the end, save the model with its adapter merged into it; otherwise the adapter alone.
    """

    parts: list[Part] = ["language"]
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    merge: bool = False


class Tune(Section):
    """What is trained, and how it is computed.

    Attributes:
        freeze: parts of the model without gradients.
        lora: adapters instead of the model's own weights.
        dtype: of the weights. float32 with ``trainer.bf16`` is mixed precision; bfloat16 alone halves the memory of
            weights and optimizer, at the price of small updates being rounded away.
        attention: as ``attn_implementation`` of ``from_pretrained``.
        liger: Liger kernels: ``auto`` where they are installed and there is a GPU.
        linear_patches: embed patches by a matrix product, see :func:`~pixelprune.train.linear_patches`: ``auto`` on
            CPUs.
    """

    freeze: list[Part] = []
    lora: Lora | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: str | None = None
    liger: bool | Literal["auto"] = "auto"
    linear_patches: bool | Literal["auto"] = "auto"


class Distill(Section):
    """Self-distillation, see :class:`~pixelprune.train.DistillationTrainer`.

    Attributes:
        teacher: another model's folder or id; otherwise the model as it is before training: a frozen copy, or
            with ``lora`` itself with its adapter switched off.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=1.0, gt=0)
    teacher: str | None = None


def _prune(value: Any) -> Any:
    return value if isinstance(value, PruneConfig | None) else PruneConfig.from_mapping(value)


class TrainConfig(Section):
    """A training run.

    Attributes:
        model: a local folder or a hub id.
        output: the folder for checkpoints, logs and the trained model. A second run resumes from there.
        prune: see :class:`pixelprune.PruneConfig`; ``null`` trains on whole images.
        trainer: options of ``transformers.TrainingArguments`` by their own names; where one is not given,
            :data:`~pixelprune.train.options.DEFAULTS`, else the default of TrainingArguments.
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
    trainer: Annotated[dict[str, Any], BeforeValidator(check_options)] = Field(default={}, validate_default=True)
    device: Literal["auto", "cpu"] = "auto"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read and check a YAML file.

    Args:
        overrides: ``key=value`` with dots between the names of sections, such as ``trainer.max_steps=10``; values
            are YAML.

    Raises:
        ConfigError: one line with the file, the key, the value seen and what is allowed.
    """
    return parse_config(read_yaml(path, overrides, "model, data and output"), str(path))


def parse_config(content: dict[str, Any], where: str = "the config") -> TrainConfig:
    """Check what a YAML file would hold; ``where`` begins the error."""
    moved = moved_keys(content)
    if moved:
        raise ConfigError(f"{where}: {moved}")
    config = check(TrainConfig, content, where)
    _check(config, where)
    return config


def _check(config: TrainConfig, where: str) -> None:
    weighted = [file.weight is not None for file in config.data.train]
    if not weighted:
        raise ConfigError(f"{where}: data.train: name at least one JSONL file")
    if any(weighted) and not all(weighted):
        raise ConfigError(f"{where}: data.train: give every file a weight, or none")
    if config.data.unpruned_fraction and config.prune is None:
        raise ConfigError(f"{where}: data.unpruned_fraction does nothing where prune is null; leave one of them out")
    if config.tune.lora is not None and config.tune.freeze:
        raise ConfigError(f"{where}: tune.freeze does nothing beside tune.lora, which freezes everything; leave it out")
    if config.trainer.get("eval_strategy", "no") != "no" and not config.data.eval:
        raise ConfigError(f"{where}: trainer.eval_strategy and trainer.eval_steps need data.eval")
