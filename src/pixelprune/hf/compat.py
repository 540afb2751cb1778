"""What :mod:`pixelprune.hf` builds on in transformers, and checks that it is there.

Most of it is keyword arguments, and stock code swallows those that it does not know in ``**kwargs``: a renamed one
would give wrong answers, not an error. So names are checked, when the package is imported and once per model class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedModelError, install_hint

if TYPE_CHECKING:
    from ..models.family import Family

#: The first release whose ``forward`` and ``generate`` both take ``mm_encoder_outputs``, and the last one tested.
OLDEST, NEWEST = (5, 18), (5, 24)

#: Functions of ``transformers.vision_utils``, with the parameters that are passed to them.
VISION_UTILS: dict[str, tuple[str, ...]] = {
    "get_vision_position_ids": ("grid_thw", "spatial_merge_size"),
    "get_vision_interpolation_indices_and_weights": (
        "grid_thw",
        "num_grid_per_side",
        "mode",
        "align_corners",
        "spatial_merge_size",
    ),
    "get_vision_window_index": ("grid_thw", "spatial_merge_size", "window_size", "patch_size"),
}

#: Parameters of the base model's ``forward``. The cache has one of two names, by version.
ENCODED = "mm_encoder_outputs"
FORWARD = ("input_ids", "attention_mask", "position_ids", "pixel_values", "image_grid_thw", ENCODED)
CACHE = ("cache", "past_key_values")

#: Parameters of ``get_rope_index``.
ROPE_INDEX = ("input_ids", "mm_token_type_ids", "image_grid_thw")

#: Keyword arguments that every vision tower takes, those of some kinds of tower, and attributes that are read there.
TOWER = ("grid_thw", "position_ids", "cu_seqlens")
INTERPOLATED = ("interp_indices", "interp_weights")
INTERPOLATED_ATTRIBUTES = ("num_grid_per_side", "interpolation_mode", "interpolation_align_corners")
WINDOWED = ("window_index", "cu_window_seqlens")
WINDOWED_ATTRIBUTES = ("window_size",)


def check_installed() -> None:
    """Look for torch, for transformers, and for the functions of :data:`VISION_UTILS`.

    Raises:
        ImportError: with what was found, what is missing, and what to install.
    """
    found = {}
    for name in ("torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise ImportError(f"pixelprune.hf needs {name}: {install_hint('hf')}") from None
    if tuple(int(part) for part in found["transformers"].split(".")[:2]) < OLDEST:
        raise ImportError(_refusal(["mm_encoder_outputs in forward and generate"]))
    missing = []
    for name, needed in VISION_UTILS.items():
        label = f"transformers.vision_utils.{name}"
        try:
            function = getattr(import_module("transformers.vision_utils"), name)
        except (ImportError, AttributeError):
            missing.append(label)
            continue
        missing += _lacking(inspect.signature(function).parameters, needed, label)
    if missing:
        raise ImportError(_refusal(missing))


def check_model(model: Any, base: Any, family: Family) -> None:
    """Look at a model's classes for what :func:`~pixelprune.hf.enable` builds on. Runs nothing of the model.

    Args:
        model: with or without its language-modelling head.
        base: its base model, which has the vision tower as ``visual``.
        family: its row in the registry.

    Raises:
        UnsupportedModelError: with the version of transformers, what is missing, and what to install.
    """
    tower = base.visual
    missing = [
        *_missing(_stock(model), _stock(base), _stock(tower), family.interpolated, family.windowed),
        *(
            f"the attribute {name} of {_stock(tower).__name__}"
            for wanted, names in (
                (family.interpolated, INTERPOLATED_ATTRIBUTES),
                (family.windowed, WINDOWED_ATTRIBUTES),
            )
            for name in names
            if wanted and not hasattr(tower, name)
        ),
    ]
    if missing:
        raise UnsupportedModelError(_refusal(missing))


def _stock(module: Any) -> type:
    """The class of transformers inside wrappers such as ``torch.compile`` and FSDP."""
    from transformers import PreTrainedModel

    return type(next((part for part in module.modules() if isinstance(part, PreTrainedModel)), module))


@cache
def _missing(model: type, base: type, tower: type, interpolated: bool, windowed: bool) -> tuple[str, ...]:
    """What these classes lack, in words."""
    forward = _parameters(base, "forward")
    missing = _lacking(forward, FORWARD, f"{base.__name__}.forward")
    if not set(CACHE) & set(forward):
        missing.append(f"the parameter {' or '.join(CACHE)} of {base.__name__}.forward")
    missing += _lacking(_parameters(base, "get_rope_index"), ROPE_INDEX, f"{base.__name__}.get_rope_index")
    if hasattr(model, "generate"):
        missing += _lacking(_parameters(model, "generate"), ("inputs", "kwargs"), f"{model.__name__}.generate")
        # It takes these features through **kwargs; its class names them where it expands them for beams.
        methods = (value for each in model.__mro__ for value in vars(each).values() if isinstance(value, FunctionType))
        if not any(ENCODED in _strings(inspect.unwrap(method).__code__) for method in methods):
            missing.append(f"{ENCODED} in {model.__name__}.generate")
    taken = _tower_keywords(tower)
    names = TOWER + INTERPOLATED * interpolated + WINDOWED * windowed
    return (*missing, *(f"the keyword {name} of {tower.__name__}.forward" for name in names if name not in taken))


def _parameters(cls: type, method: str) -> tuple[str, ...]:
    """The parameters of a method, as declared where it does not hand all of its arguments on to the class above."""
    for each in cls.__mro__:
        if method in vars(each):
            parameters = inspect.signature(vars(each)[method]).parameters
            kinds = [parameter.kind for parameter in list(parameters.values())[1:]]
            if kinds != [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
                return tuple(parameters)
    return ()


def _tower_keywords(tower: type) -> set[str]:
    """Keyword arguments that a tower's ``forward`` reads: its parameters, and what it takes out of its ``**kwargs``.

    It does so by name, itself or in functions that it hands them to as ``kwargs``, so the names are strings in the
    code of these.
    """
    names = set(_parameters(tower, "forward"))
    functions = [inspect.unwrap(vars(each)["forward"]) for each in tower.__mro__ if "forward" in vars(each)]
    seen: set[Callable[..., Any]] = set()
    while functions:
        function = functions.pop()
        if function in seen:
            continue
        seen.add(function)
        names |= set(_strings(function.__code__))
        called = (function.__globals__.get(name) for name in function.__code__.co_names)
        functions += [each for each in called if isinstance(each, FunctionType) and "kwargs" in _named(each)]
    return names


def _named(function: FunctionType) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _strings(code: CodeType) -> Iterator[str]:
    """The strings in a function's code and in the functions within it."""
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _strings(constant)


def _lacking(have: Any, needed: tuple[str, ...], label: str) -> list[str]:
    return [f"the parameter {name} of {label}" for name in needed if name not in have]


def _refusal(missing: list[str]) -> str:
    oldest, newest = (".".join(map(str, release)) for release in (OLDEST, NEWEST))
    return (
        f"pixelprune does not fit transformers {version('transformers')}: missing {'; '.join(missing)}. Install "
        f"transformers {oldest} to {newest}, which are tested, or a newer pixelprune"
    )


check_installed()
