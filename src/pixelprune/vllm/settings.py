"""The settings of an engine or a request, from ``mm_processor_kwargs``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..core.config import PruneConfig
from ..errors import ConfigError, PixelPruneError

#: The key in ``mm_processor_kwargs``.
KEY = "pixelprune"


def settings_from(kwargs: Mapping[str, object]) -> PruneConfig | None:
    """The settings in merged ``mm_processor_kwargs``.

    Args:
        kwargs: the engine's, overridden by the request's.

    Returns:
        The settings, or ``None`` where the key is missing or ``null``: prune nothing.

    Raises:
        ConfigError: what is under the key is not an object, or has a setting that is unknown or not allowed; or the key
            is inside another one, such as ``images_kwargs``.
    """
    for name, scope in kwargs.items():
        if name != KEY and isinstance(scope, Mapping) and KEY in scope:
            raise ConfigError(f'mm_processor_kwargs: "{KEY}" is inside "{name}"; write it beside "{name}" instead')
    value: Any = kwargs.get(KEY)
    if value is None:
        return None
    return PruneConfig.from_mapping(value, f'mm_processor_kwargs: "{KEY}"')


@contextmanager
def ends_the_start() -> Iterator[None]:
    """Around a check of the engine's settings: an error ends the start of the engine.

    Raises:
        RuntimeError: with the message of the error. vLLM takes a ``ValueError``, which ours are, for a model without a
            processor, and starts without images.
    """
    try:
        yield
    except PixelPruneError as error:
        raise RuntimeError(str(error)) from error
