"""The model families that take pruned inputs, by Hugging Face ``model_type``. A new one is a line here."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnsupportedModelError


@dataclass(frozen=True)
class Family:
    """How one family's stock classes are found and which tensors its vision tower derives from the grid.

    Args:
        model_type: ``config.model_type``.
        processor: name of the stock processor class in ``transformers``.
        interpolated: the tower adds a learned position table, resampled to the grid.
        windowed: the tower attends within windows in most layers.
        recurrent: the language model has recurrent (linear attention) layers, which cannot mask tokens out.
    """

    model_type: str
    processor: str
    interpolated: bool = False
    windowed: bool = False
    recurrent: bool = False


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family("qwen2_vl", "Qwen2VLProcessor"),
        Family("qwen2_5_vl", "Qwen2_5_VLProcessor", windowed=True),
        Family("qwen3_vl", "Qwen3VLProcessor", interpolated=True),
        Family("qwen3_vl_moe", "Qwen3VLProcessor", interpolated=True),
        Family("qwen3_5", "Qwen3VLProcessor", interpolated=True, recurrent=True),
        Family("qwen3_5_moe", "Qwen3VLProcessor", interpolated=True, recurrent=True),
    )
}


def family_of(model_type: str | None) -> Family:
    """The family registered for a ``model_type``; any other is refused with the list of those supported."""
    family = FAMILIES.get(model_type or "")
    if family is None:
        raise UnsupportedModelError(
            f"model_type {model_type!r} is not supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    return family
