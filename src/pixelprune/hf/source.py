"""Where a model's config and its processor's files are: in its folder or repository, or, for an adapter of PEFT such as
`pixelprune train` saves with LoRA, beside the adapter and with the model that it is of.

Stock ``from_pretrained`` loads a model and its adapter from the adapter's folder; stock processors know nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from ..errors import UnsupportedModelError
from ..models.adapter import model_of_adapter
from ..models.registry import family_of

_HUB = ("revision", "cache_dir", "token", "local_files_only", "subfolder")
_OWN = ("revision", "subfolder")  # of these, what does not hold for an adapter's model
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class ModelSource:
    """What a processor is made from.

    Attributes:
        config: the model's config.
        processor: the folder or hub id with the processor's files.
        hub: ``revision``, ``cache_dir`` and the like, for there.
    """

    config: Any
    processor: Any
    hub: dict[str, Any]


def locate(source: Any, options: dict[str, Any]) -> ModelSource:
    """Find the config of a model, or of an adapter's model, and the processor.

    ``AutoConfig`` would take a missing folder for a hub id, and an unknown family for an outdated transformers.

    Args:
        source: a local folder or a hub id, of a model or an adapter.
        options: keywords of ``from_pretrained``; those about the hub are taken out.

    Raises:
        UnsupportedModelError: there is no such folder, it holds no model, or the model's family is not supported.
        OSError: the hub cannot be reached, or does not have it.
    """
    hub = {name: options.pop(name) for name in _HUB if name in options}
    name, path = str(source), Path(str(source))
    if (path.is_absolute() or name.startswith(".") or len(path.parts) > 2) and not path.exists():
        raise UnsupportedModelError(f"there is no folder {name!r}; pass a model's folder or its id on the hub")
    settings, failure = _settings(source, hub)
    model = None if "model_type" in settings else adapted_model(source, hub)
    if model is not None:
        beside = any(_has(source, file, hub) for file in _PROCESSOR_FILES)
        hub_of_model = {key: value for key, value in hub.items() if key not in _OWN}
        settings, failure = _settings(model, hub_of_model)
        if "model_type" not in settings:
            raise UnsupportedModelError(
                f"{name!r} is an adapter of the model {model!r}, whose config.json was not found; correct "
                f"base_model_name_or_path in its adapter_config.json, or start where that path leads to the model"
            ) from failure
        if not beside:
            source, hub = model, hub_of_model
    if failure is not None:
        raise failure
    if "model_type" not in settings:
        raise UnsupportedModelError(f"{name!r} has no config.json with a model_type; pass the model's own folder or id")
    config = CONFIG_MAPPING[family_of(settings["model_type"]).model_type].from_dict(settings)
    return ModelSource(config, source, hub)


def adapted_model(source: Any, hub: dict[str, Any] | None = None) -> str | None:
    """The model that an adapter is of, a folder or a hub id as it was named in training; None if it is no adapter.

    Ask where there is no ``config.json``: what has one is a model, even if an adapter lies beside it.

    Raises:
        UnsupportedModelError: the adapter's config does not name the model.
    """
    path = find_adapter_config_file(str(source), **(hub or {}))
    return None if path is None else model_of_adapter(Path(path))


def _settings(source: Any, hub: dict[str, Any]) -> tuple[dict[str, Any], OSError | None]:
    """What ``config.json`` holds, or nothing and why it cannot be had."""
    try:
        return PreTrainedConfig.get_config_dict(source, **hub)[0], None
    except OSError as error:
        return {}, error


def _has(source: Any, file: str, hub: dict[str, Any]) -> bool:
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    return cached_file(str(source), file, **hub, **quiet) is not None
