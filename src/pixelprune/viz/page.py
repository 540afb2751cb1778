"""Reports as one HTML file with everything in it, which opens from disk, prints, and needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError, install_hint


def render(package: str, name: str, globals_: dict[str, Any] | None = None, **values: object) -> str:
    """A page from a template, which may extend ``base.html``, the frame and style that all reports share.

    Args:
        package: whose folder ``templates`` has it.
        name: of the template there.
        globals_: for it and the templates that it imports.
        values: for it.

    Raises:
        ConfigError: jinja2 is missing.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ConfigError(f"the report needs jinja2: {install_hint('survey')}") from error
    loaders = [jinja2.PackageLoader(each, "templates") for each in (package, __package__)]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": lambda ratio: f"{ratio:.1%}",
        "amount": lambda value: f"{value:,}",
        "flops": lambda value: _scaled(value, "FLOP"),
        "bytes": lambda value: _scaled(value, "B"),
        "seconds": _seconds,
    }
    environment.globals |= globals_ or {}
    return environment.get_template(name).render(**values)


def write(path: Path, html: str) -> None:
    """Write a page.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def _scaled(value: float, unit: str) -> str:
    """Three digits and a prefix: 12.3 TFLOP."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 1000 or prefix == "E":
            break
        value /= 1000
    return f"{value:.3g} {prefix}{unit}"


def _seconds(value: float) -> str:
    if value < 90:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
