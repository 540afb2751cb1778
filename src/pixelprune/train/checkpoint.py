"""Which checkpoint a run can resume from, and whether it is the same run."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from ..errors import ConfigError
from .config import TrainConfig, parse_config

#: Settings that may change between two parts of a run: they do not change what is learned.
MUTABLE_ON_RESUME = (
    "output", "data.check", "device", "trainer.logging_steps", "trainer.logging_first_step", "trainer.logging_strategy",
    "trainer.save_steps", "trainer.save_strategy", "trainer.save_total_limit", "trainer.eval_steps",
    "trainer.eval_strategy", "trainer.per_device_eval_batch_size", "trainer.dataloader_num_workers",
    "trainer.dataloader_pin_memory", "trainer.dataloader_prefetch_factor",
)  # fmt: skip

#: What the Trainer writes last into a checkpoint.
STATE = "trainer_state.json"


def last_complete_checkpoint(output: Path) -> Path | None:
    """The latest checkpoint that was written to its end, or ``None``.

    The Trainer writes its state last, so a checkpoint without one, or with half of one, was being written when the
    process was killed.
    """
    found = []
    for folder in output.glob("checkpoint-*"):
        try:
            step = int(folder.name.removeprefix("checkpoint-"))
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if state.get("global_step") == step:
            found.append((step, folder))
    return max(found)[1] if found else None


def is_finished(checkpoint: Path) -> bool:
    """Whether a complete checkpoint is the last of its run."""
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"] > 0)


def guard_settings(output: Path, config: TrainConfig) -> None:
    """Refuse to resume from another run's checkpoints.

    Raises:
        ConfigError: a setting that shapes the training is not what it was when the run began.
    """
    path = output / "run.yaml"
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{output} has checkpoints but no readable run.yaml; choose another output") from error
    # Read as a config, so that a key that is newer than the run has the value that it had without being written.
    before = parse_config(before, str(path)).model_dump(mode="json")
    for key, old, new in _differences(before, config.model_dump(mode="json")):
        if key not in MUTABLE_ON_RESUME:
            raise ConfigError(
                f"{output} holds a run with other settings: {key} was {old!r} and is {new!r}; restore it, or choose "
                f"another output"
            )


def _differences(old: object, new: object, prefix: str = "") -> list[tuple[str, object, object]]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted({*old, *new})
            for difference in _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        ]
    return [] if old == new else [(prefix, old, new)]
