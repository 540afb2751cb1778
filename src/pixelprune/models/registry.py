"""The model families that take pruned inputs: one row each, by Hugging Face ``model_type``.

A row holds every fact about a family that the rest of the package needs. Rows are in one file per maker of models.
"""

from __future__ import annotations

import re

from ..errors import UnsupportedModelError
from .cohere import COHERE
from .family import Family
from .glm import GLM
from .qwen import QWEN
from .refused import REFUSED

#: The rows by ``model_type``.
FAMILIES: dict[str, Family] = {family.model_type: family for family in (*QWEN, *GLM, *COHERE)}


def family_of(model_type: str | None) -> Family:
    """The family registered for a ``model_type``; any other is refused, with the reason where there is one, and the
    list of those supported."""
    family = FAMILIES.get(model_type or "")
    if family is None:
        reason = REFUSED.get(model_type or "")
        because = f", because {reason}" if reason else ""
        raise UnsupportedModelError(
            f"model_type {model_type!r} is not supported{because}; supported are {', '.join(sorted(FAMILIES))}"
        )
    return family


def family_named(name: str) -> Family | None:
    """The family of a model by its name on the hub, ``owner/name`` or ``name``; None if no family matches."""
    if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", name):
        return None
    model = name.split("/")[-1].lower()
    matches = [(match.end(), family) for family in FAMILIES.values() if (match := re.match(family.hub_names, model))]
    return max(matches, key=lambda found: found[0])[1] if matches else None
