"""The entry point: subclasses take the place of vLLM's classes of the families; all other models refuse settings."""

from __future__ import annotations

from typing import Any

from ..models.registry import FAMILIES

#: The architectures that prune, as in a model's ``config.json``. Each is also the name of the subclass.
ARCHITECTURES = tuple(family.vllm.architecture for family in FAMILIES.values() if family.vllm is not None)


def register() -> None:
    """Register the subclasses; vLLM calls this in each of its processes, maybe more than once.

    They are named by text, so that nothing is imported for other models: a vLLM that lacks what the plugin builds on
    stops the models above from starting, with the reason, and no other model. Other models refuse settings, unless
    vLLM lacks what that takes; then its log says so.
    """
    from vllm import ModelRegistry
    from vllm.logger import init_logger

    from . import compat

    for architecture in ARCHITECTURES:
        ModelRegistry.register_model(architecture, f"{__name__}:{architecture}")
    if missing := compat.find_missing(needed=compat.NEEDED_TO_REFUSE):
        init_logger("vllm.pixelprune").warning(
            "pixelprune does not fit vLLM %s: models that it does not prune ignore its settings. Missing: %s",
            compat.installed_version(),
            "; ".join(missing),
        )
        return
    from . import refusal

    refusal.install()


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
