"""Adapters of PEFT, such as `pixelprune train` saves with LoRA: files beside which there is no model, only its name."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import UnsupportedModelError

ADAPTER_CONFIG = "adapter_config.json"


def model_of_adapter(path: Path) -> str:
    """The model that an adapter is of, a folder or a hub id as it was named in training.

    Args:
        path: the adapter's ``adapter_config.json``.

    Raises:
        UnsupportedModelError: it does not name the model.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModelError(f"{path} is not JSON: {error}") from None
    model = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    if not isinstance(model, str) or not model:
        raise UnsupportedModelError(
            f"{path} must name the adapter's model in base_model_name_or_path, a folder or a hub id; got {model!r}"
        )
    return model
