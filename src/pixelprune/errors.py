"""The errors PixelPrune raises. All are ``ValueError``: the input was wrong, and the message says what to do."""

from __future__ import annotations

#: Where the package comes from until it is on PyPI.
REPOSITORY = "https://github.com/pixelprune/pixelprune"


def install_hint(extra: str) -> str:
    """The command that installs an extra, such as ``hf``, for messages about a package that is missing."""
    return f'pip install "pixelprune[{extra}] @ git+{REPOSITORY}"'


class PixelPruneError(ValueError):
    """Base class of every error that PixelPrune raises on purpose."""


class ConfigError(PixelPruneError):
    """A setting has a value that is not allowed."""


class ImageError(PixelPruneError):
    """An image has a shape, type or content that cannot be used."""


class BudgetError(PixelPruneError):
    """The lattice alone has more blocks than ``max_tokens``."""


class SelectionError(PixelPruneError):
    """A selection is not consistent, or what should hold one does not."""


class UnsupportedModelError(PixelPruneError):
    """The model's family, or this copy of it, cannot take pruned inputs."""


class PrunedInputError(PixelPruneError):
    """Pruned inputs do not fit together: counts, positions or grids disagree."""


class DataError(PixelPruneError):
    """A row of a data file cannot be used, or there are none that can."""
