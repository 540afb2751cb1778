"""The entry point: subclasses take the place of vLLM's own classes in its model registry."""

from __future__ import annotations

from typing import Any

from ..models.registry import FAMILIES

#: The architectures that prune, as in a model's ``config.json``. Each is also the name of the subclass.
ARCHITECTURES = tuple(family.vllm.architecture for family in FAMILIES.values() if family.vllm is not None)

#: vLLM's classes for any model of transformers: ours refuse settings instead of ignoring them.
BACKEND = ("TransformersMultiModalForCausalLM", "TransformersMultiModalMoEForCausalLM")


def register() -> None:
    """Register the subclasses; vLLM calls this in each of its processes, maybe more than once.

    They are named by text, so that nothing is imported for other models: a vLLM that lacks what the plugin builds on
    stops the models above from starting, with the reason, and no other model.
    """
    from vllm import ModelRegistry

    package = __name__.rpartition(".")[0]
    for architecture in ARCHITECTURES:
        ModelRegistry.register_model(architecture, f"{__name__}:{architecture}")
    for architecture in BACKEND:
        ModelRegistry.register_model(architecture, f"{package}.unsupported_backend:{architecture}")


def __getattr__(name: str) -> Any:
    """A subclass by its name, which vLLM asks for when such a model starts.

    Raises:
        ImportError: this vLLM lacks something. Checked first, before an import deep inside fails.
    """
    if name not in ARCHITECTURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import compat

    compat.check()
    from . import models

    return getattr(models, name)
