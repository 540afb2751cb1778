"""The settings of an engine or a request, from ``mm_processor_kwargs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.config import PruneConfig
from ..errors import ConfigError

#: The key in ``mm_processor_kwargs``.
KEY = "pixelprune"

#: What may stand under the key.
NAMES = ("method", "metric", "threshold", "anchored", "max_tokens", "seed")


def settings_from(kwargs: Mapping[str, object]) -> PruneConfig | None:
    """The settings in merged ``mm_processor_kwargs``.

    Args:
        kwargs: the engine's, overridden by the request's.

    Returns:
        The settings, or ``None`` where the key is missing or ``null``: prune nothing.

    Raises:
        ConfigError: what stands under the key is no object, or has a setting that is unknown or not allowed.
    """
    value = kwargs.get(KEY)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ConfigError(
            f'mm_processor_kwargs: "{KEY}" must be an object such as {{"threshold": 0}}, or null to prune nothing; '
            f"got {value!r}"
        )
    unknown = [str(name) for name in value if name not in NAMES]
    if unknown:
        raise ConfigError(
            f'mm_processor_kwargs: "{KEY}" has no setting {", ".join(unknown)}; there are {", ".join(NAMES)}'
        )
    try:
        return PruneConfig(**{str(name): setting for name, setting in value.items()})
    except ConfigError as error:
        raise ConfigError(f'mm_processor_kwargs: "{KEY}": {error}') from None


def identity(settings: PruneConfig) -> dict[str, Any]:
    """What makes two settings the same to a cache: plain values by name."""
    return {
        "method": settings.method,
        "metric": settings.metric,
        "threshold": float(settings.threshold),
        "anchored": settings.anchored,
        "max_tokens": -1 if settings.max_tokens is None else int(settings.max_tokens),
        "seed": int(settings.seed),
    }
