"""Say in one line what is missing, before an import deep inside fails."""

from importlib.metadata import PackageNotFoundError, version

from ..errors import install_hint

#: The first release whose ``forward`` and ``generate`` both take ``mm_encoder_outputs``.
LEAST_TRANSFORMERS = (5, 18)


def check() -> None:
    """Raise ImportError unless torch and a transformers that is new enough are installed."""
    found = {}
    for name in ("torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise ImportError(f"pixelprune.hf needs {name}: {install_hint('hf')}") from None
    if tuple(int(part) for part in found["transformers"].split(".")[:2]) < LEAST_TRANSFORMERS:
        least = ".".join(map(str, LEAST_TRANSFORMERS))
        raise ImportError(f"pixelprune.hf needs transformers {least} or newer; found {found['transformers']}")


check()
