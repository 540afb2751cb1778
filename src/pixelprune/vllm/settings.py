"""The settings of an engine or a request, from ``mm_processor_kwargs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.config import PruneConfig
from ..errors import ConfigError

#: The key in ``mm_processor_kwargs``.
KEY = "pixelprune"


def settings_from(kwargs: Mapping[str, object]) -> PruneConfig | None:
    """The settings in merged ``mm_processor_kwargs``.

    Args:
        kwargs: the engine's, overridden by the request's.

    Returns:
        The settings, or ``None`` where the key is missing or ``null``: prune nothing.

    Raises:
        ConfigError: what is under the key is not an object, or has a setting that is unknown or not allowed, or
            references, which this engine does not take.
    """
    value: Any = kwargs.get(KEY)
    if value is None:
        return None
    config = PruneConfig.from_mapping(value, f'mm_processor_kwargs: "{KEY}"')
    if config.references != "none":
        raise ConfigError(
            f'mm_processor_kwargs: "{KEY}": references={config.references!r} is not served by vLLM; leave it out, and '
            f"each image is pruned by itself"
        )
    return config
