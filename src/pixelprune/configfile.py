"""Files that describe a run, in YAML: read, changed by the command line, and checked with errors of one line."""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from .core.config import did_you_mean
from .errors import ConfigError


class Section(BaseModel):
    """A part of such a file: unknown keys are refused, and values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Model = TypeVar("_Model", bound=Section)


def read_yaml(path: str | Path, overrides: Sequence[str], keys: str) -> dict[str, Any]:
    """A YAML file's mapping, with changes.

    Args:
        overrides: ``key=value`` with dots between the names of sections, such as ``trainer.max_steps=10``; values
            are YAML.
        keys: some that it must hold, for the error.

    Raises:
        ConfigError: it cannot be read, is not YAML, or holds no mapping; or an override is none.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold keys such as {keys}; got {type(content).__name__}")
    for override in overrides:
        _override(content, override)
    return content


def check(model: type[_Model], content: dict[str, Any], where: str) -> _Model:
    """The content as an object; ``where`` begins the error.

    Raises:
        ConfigError: one line with the key, the value seen and what is allowed.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe(problem, model) for problem in error.errors())
        raise ConfigError(f"{where}: {problems}") from None


def _override(content: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"an override is key=value, such as trainer.max_steps=10; got {text!r}")
    *sections, last = key.split(".")
    for section in sections:
        inner = content.setdefault(section, {})
        if inner is None:
            inner = content[section] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{text!r}: {section} is no section")
        content = inner
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r}: the value is not valid YAML") from error


def _describe(problem: Any, model: type[Section]) -> str:
    where, message = [str(part) for part in problem["loc"] if str(part).isidentifier() or isinstance(part, int)], ""
    if problem["type"] == "extra_forbidden":
        *sections, key = problem["loc"]
        return f"unknown key {'.'.join(where)!r}{did_you_mean(key, _keys(model, sections))}"
    if problem["type"] == "missing":
        return f"the key {'.'.join(where)!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    seen = "" if problem["type"] == "value_error" else f"; got {problem['input']!r}"  # ours say what they saw
    return f"{'.'.join(where)}: {message}{seen}"


def _keys(section: Any, names: Sequence[Any]) -> list[str]:
    """The keys of a section that is found by the names on the way to it."""
    for name in names:
        if isinstance(name, str) and name in section.model_fields:
            section = section_in(section.model_fields[name].annotation) or section
    return list(section.model_fields)


def section_in(annotation: Any) -> Any:
    """The section class inside a type such as ``Lora | None`` or ``list[DataFile]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list, Annotated):
        return next((found for inner in get_args(annotation) if (found := section_in(inner))), None)
    return None
