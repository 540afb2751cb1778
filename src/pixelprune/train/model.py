"""What of a model is trained: frozen parts, LoRA adapters; and a patch embedding that is quick on a CPU."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, UnsupportedModelError
from ..models.registry import family_of

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

#: Parts of a model that can be frozen, or given an adapter: the vision tower without its mergers, the mergers, which
#: project to the language model, and the language model with its head.
PARTS = ("vision", "merger", "language")


def freeze(model: M, parts: Iterable[str]) -> M:
    """Take the gradients from parts of a model.

    Args:
        model: a stock Qwen-style model.
        parts: some of ``vision``, ``merger`` and ``language``.

    Raises:
        ConfigError: a part does not exist, or nothing is left to train.
    """
    for part in parts:
        for name, parameter in model.named_parameters():
            if _part_of(model, name) == _known(part):
                parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"with {', '.join(parts)} frozen nothing is left to train; freeze less, or train an adapter")
    return model


def add_lora(model: Any, parts: Iterable[str], *, rank: int = 16, alpha: int = 32, dropout: float = 0.0) -> Any:
    """A peft model with LoRA adapters on all linear layers of some parts; everything else is frozen.

    Args:
        model: a stock Qwen-style model.
        parts: some of ``vision``, ``merger`` and ``language``. Experts of mixture models are no linear layers, and get
            none; nor does the output head.
        rank, alpha, dropout: as in peft: an adapter adds ``alpha / rank * B A x``.

    Raises:
        ConfigError: a part does not exist, or has no linear layer.
    """
    from peft import LoraConfig, get_peft_model

    wanted = {_known(part) for part in parts}
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
        and _part_of(model, f"{name}.") in wanted
    ]  # fmt: skip
    if not layers:
        raise ConfigError(f"no linear layers for LoRA in {', '.join(sorted(wanted)) or 'no part'}")
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=_pattern(layers))
    return get_peft_model(model, config)


def _known(part: str) -> str:
    if part not in PARTS:
        raise ConfigError(f"unknown part {part!r} of a model; known are {', '.join(PARTS)}")
    return part


def _part_of(model: Any, name: str) -> str:
    """The part that a parameter, or a module with a dot behind it, belongs to."""
    family_of(getattr(getattr(model, "config", None), "model_type", None))
    if re.search(r"(^|\.)visual\.", name):
        return "merger" if re.search(r"\.visual\.(merger|deepstack_merger_list)\.", f".{name}") else "vision"
    return "language"


def _pattern(layers: list[str]) -> str:
    """One expression that matches these module names: adapters' configs hold it, and a list would be long."""
    shapes = sorted({re.sub(r"\.\d+(?=\.|$)", ".#", name) for name in layers})
    return "|".join(re.escape(shape).replace(r"\#", r"\d+") for shape in shapes)


def apply_liger(model: Any, wanted: bool | Literal["auto"]) -> bool:
    """Let a model instance compute with Liger's kernels, by Liger's own patch of it.

    Args:
        wanted: ``"auto"`` where they are installed and there is a GPU; if they do not fit the installed transformers,
            that is said in a warning. ``True`` makes that an error.

    Returns:
        Whether they are used.

    Raises:
        ConfigError: ``True``, and they cannot be used.
    """
    found = importlib.util.find_spec("liger_kernel") is not None
    if not wanted or (wanted == "auto" and not (found and torch.cuda.is_available())):
        return False
    if not found:
        raise ConfigError("Liger kernels are not installed: pip install liger-kernel, or leave them off")
    try:
        from transformers.integrations.liger import apply_liger_kernel

        # Logits are computed for answers only, which leaves nothing for the fused loss to save.
        apply_liger_kernel(model, {"fused_linear_cross_entropy": False})
    except (ImportError, AttributeError, TypeError) as error:
        message = f"the installed Liger kernels do not fit this transformers ({error})"
        if wanted is True:
            raise ConfigError(f"{message}; install others, or leave them off") from error
        logger.warning("training without Liger: %s", message)
        return False
    return True


class PatchLinear(nn.Module):
    """A convolution whose kernel is as large as its input, as the matrix product that it is.

    Takes over the convolution's parameters, under the same names: optimizers and checkpoints see no difference.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.__dict__["convolution"] = convolution  # not as a submodule, whose parameters would appear twice

    def forward(self, patches: Tensor) -> Tensor:
        """``(patches, channels, frames, height, width)`` to ``(patches, hidden, 1, 1, 1)``."""
        hidden = F.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return hidden[:, :, None, None, None]


def linear_patches(model: M, on: bool = True) -> M:
    """Let one model instance embed patches with a matrix product instead of a convolution, or undo that.

    The result is the same up to rounding. On CPUs the convolution is several times slower, backward above all.

    Raises:
        UnsupportedModelError: the patch embedding is not a convolution of single patches.
    """
    outer: Any = model
    inner = outer.get_base_model() if hasattr(outer, "get_base_model") else outer
    embedding = inner.base_model.visual.patch_embed
    projection = embedding.proj
    if not on:
        embedding.proj = projection.convolution if isinstance(projection, PatchLinear) else projection
    elif not isinstance(projection, PatchLinear):
        if (
            not isinstance(projection, nn.Conv3d)
            or projection.kernel_size != projection.stride
            or any(projection.padding)
        ):
            raise UnsupportedModelError(f"the patch embedding {type(projection).__name__} is no convolution of patches")
        embedding.proj = PatchLinear(projection)
    return model
