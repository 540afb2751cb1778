"""Options that several commands share. Those of the selection come from the fields of PruneConfig."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import typer

from ..core.config import SETTINGS, PruneConfig

Dpi = Annotated[float, typer.Option(help="Pixels per inch for the pages of a PDF.")]


def setting(name: str) -> Any:
    """The option for a setting."""
    metadata = next(field.metadata for field in fields(PruneConfig) if field.name == name)
    option = f"--{name.replace('_', '-')}"
    return typer.Option(f"{option}/--{metadata['off']}" if "off" in metadata else option, help=metadata["help"])


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for each setting, in the place of its parameter ``config``, a PruneConfig."""
    types = get_type_hints(PruneConfig)
    options = []
    for field in fields(PruneConfig):
        # Strings, not choices: PruneConfig alone says what is allowed.
        kind: Any = str if get_origin(types[field.name]) is Literal else types[field.name]
        annotation = Annotated[kind, setting(field.name)]
        options.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)
        )
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        each
        for parameter in signature.parameters.values()
        for each in (options if parameter.name == "config" else [parameter])
    ]

    @wraps(command)
    def with_config(**values: Any) -> None:
        settings = {name: values.pop(name) for name in SETTINGS}
        command(config=PruneConfig.from_mapping(settings), **values)

    with_config.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_config.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_config
