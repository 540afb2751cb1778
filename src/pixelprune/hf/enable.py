"""Let one model instance take pruned inputs. Nothing is patched but that instance, and that can be undone.

Two places are used. A forward pre-hook on the base model encodes kept patches and hands the features over as
``mm_encoder_outputs``, for ``forward``, training and everything built on it. ``generate`` encodes by itself, before
it expands beams, with no word of positions; so the instance gets a ``generate`` that encodes first and then calls
its class's own.
"""

from __future__ import annotations

import inspect
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import PrunedInputError, UnsupportedModelError
from ..models.family import Family
from ..models.registry import family_of
from .compat import check_model
from .inputs import place, pruned_vision, read_vision
from .kept import KEPT
from .verify import verify_tower

M = TypeVar("M", bound=nn.Module)

_MARK = "_pixelprune_hook"


def enable(model: M) -> M:
    """Let a model take what :class:`~pixelprune.hf.PrunedProcessor` returns.

    Inputs that are not pruned go the stock way, untouched. A second call does nothing.

    Args:
        model: a stock model of a supported family, with or without its language-modelling head; or one wrapped by peft,
            ``torch.compile``, ``DistributedDataParallel`` or ``DataParallel``.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: its family is not supported, this version of transformers lacks something, or its
            vision tower does not honour precomputed inputs.
    """
    inner, base, family = _unwrap(model)
    own = inner.__dict__.get("generate")
    if own is not None and getattr(own, "func", None) is not _generate:
        raise UnsupportedModelError("this instance has a generate() of its own; enable() the model before wrapping it")
    if _MARK not in base.__dict__:
        check_model(inner, base, family)
        verify_tower(base, family)
        base.__dict__[_MARK] = (
            base.register_forward_pre_hook(_encode_before_forward, with_kwargs=True),
            base.visual.register_forward_pre_hook(_refuse_pruned_pixels, with_kwargs=True),
        )
    if hasattr(inner, "generate"):
        # A partial, because copies and pickles of the model then hold one that belongs to them.
        inner.__dict__.setdefault("generate", partial(_generate, inner))
    return model


def disable(model: M) -> M:
    """Undo :func:`enable`. Does nothing on a model that is not enabled."""
    inner, base, _ = _unwrap(model)
    for hook in base.__dict__.pop(_MARK, ()):
        hook.remove()
    if getattr(inner.__dict__.get("generate"), "func", None) is _generate:
        del inner.__dict__["generate"]
    return model


def is_enabled(model: nn.Module) -> bool:
    """Whether this instance takes pruned inputs."""
    return _MARK in _unwrap(model)[1].__dict__


def _unwrap(model: Any) -> tuple[Any, Any, Family]:
    """The stock model inside, its base model, and its family."""
    while True:
        if hasattr(model, "get_base_model"):  # peft
            model = model.get_base_model()
        elif "_orig_mod" in getattr(model, "_modules", {}):  # torch.compile
            model = model._orig_mod
        elif isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        else:
            break
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise UnsupportedModelError(f"enable() takes a transformers model; got {type(model).__name__}")
    family = family_of(getattr(model.config, "model_type", None))
    base = model.base_model
    if not isinstance(getattr(base, "visual", None), nn.Module):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no vision tower; load it with AutoModelForImageTextToText"
        )
    return model, base, family


def _encode_before_forward(base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Forward pre-hook of the base model: replace pruned pixels by their features, and place the kept tokens."""
    names = _parameters(base.__class__)
    call = _with_one_cache_name({**dict(zip(names, args, strict=False)), **kwargs}, names)
    kept: Any = call.pop(KEPT, None)
    input_ids: Any = call.get("input_ids")
    vision = pruned_vision(base, call, input_ids, kept)
    if vision is None:
        return None if call.keys() == kwargs.keys() else ((), call)
    if call.get("position_ids") is None:
        if _cached(call):
            raise PrunedInputError(
                "pruned pixel_values after a cache need the position_ids of their tokens: compute them for the whole "
                "conversation with processor.position_ids(inputs), or call generate, which does so"
            )
        call["position_ids"] = place(base, input_ids, call, vision)
    encoded = {**(call.get("mm_encoder_outputs") or {})}
    for part in vision:
        encoded[part.modality.name] = part.encoded(base)
        call[part.modality.pixels] = None
    set_rope_deltas(base, call["position_ids"])
    return (), {**call, "mm_encoder_outputs": encoded}


@torch.no_grad()
def _generate(self: Any, *args: Any, **kwargs: Any) -> Any:
    """``generate`` of an enabled instance: encode pruned pixels, then the class's own ``generate``."""
    generate, base = type(self).generate, self.base_model
    kwargs = _with_one_cache_name(kwargs, _parameters(base.__class__))
    kept: Any = kwargs.pop(KEPT, None)
    input_ids: Any = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
    vision = pruned_vision(base, kwargs, input_ids, kept)
    cached = _cached(kwargs)
    if vision is None:
        # On a cache even whole images are encoded here: stock code would encode those in the cache again, and fail.
        vision = read_vision(base, kwargs, input_ids, kept) if cached and input_ids is not None else []
        if not vision:
            return generate(self, *args, **kwargs)
    if kwargs.get("position_ids") is None:
        kwargs["position_ids"] = place(base, input_ids, kwargs, vision)
    encoded = {**(kwargs.get("mm_encoder_outputs") or {})}
    for part in vision:
        # What has its tokens in the cache already needs no encoding.
        new = [number for number, item in enumerate(part.items) if item.tokens[0] >= cached]
        if any(item.tokens[0] < cached <= item.tokens[-1] for item in part.items):
            raise PrunedInputError(
                f"the cache ends inside {part.modality.article} {part.modality.name}, at token {cached}; let it end "
                f"between {part.modality.name}s"
            )
        if new:
            encoded[part.modality.name] = part.only(new).encoded_by_row(base)
        del kwargs[part.modality.pixels], kwargs[part.modality.grid]
    if encoded:
        kwargs["mm_encoder_outputs"] = encoded
    set_rope_deltas(base, kwargs["position_ids"])
    return generate(self, *args, **kwargs)


def _refuse_pruned_pixels(tower: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook of the tower: stock code, such as ``get_image_features``, takes whole images only."""
    names = _parameters(tower.__class__)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    pixels, grid = given.get(names[0]), given.get("grid_thw")
    if given.get("position_ids") is not None or grid is None or pixels is None:
        return
    rows, patches = pixels.shape[:-1].numel(), int(grid.prod(-1).sum())
    if rows != patches:
        raise PrunedInputError(
            f"the vision tower got {rows} patches for a grid of {patches}: pruned pixel_values "
            f"are encoded by forward() and generate() of an enabled model, from the processor's whole output; other "
            f"methods, such as get_image_features, need whole images (processor.prune = None)"
        )


@cache
def _parameters(cls: type[Any]) -> tuple[str, ...]:
    """The names that ``forward`` of a class takes."""
    return tuple(inspect.signature(cls.forward).parameters)[1:]


def _with_one_cache_name(kwargs: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """transformers 5.24 calls ``cache`` what was ``past_key_values``: take either, pass on what this version has."""
    ours, other = ("cache", "past_key_values") if "cache" in names else ("past_key_values", "cache")
    if other not in kwargs:
        return kwargs
    rest = {name: value for name, value in kwargs.items() if name != other}
    return {**rest, ours: kwargs[other] if rest.get(ours) is None else rest[ours]}


def _cached(kwargs: dict[str, Any]) -> int:
    """Tokens in the cache that is passed."""
    cache = kwargs.get("cache", kwargs.get("past_key_values"))
    return 0 if cache is None else int(cache.get_seq_length())


def set_rope_deltas(base: Any, position_ids: Tensor) -> None:
    """What the model's own position code leaves behind, for later calls without position_ids.

    How far M-RoPE positions are ahead of text positions at the end of each row; padding, at 0, never is the largest.
    """
    if len(position_ids) != 4:
        raise PrunedInputError(
            f"position_ids of pruned inputs must be (4, batch, length), text positions first; got "
            f"{tuple(position_ids.shape)}. Leave them out: an enabled model computes them"
        )
    text, vision = position_ids[0].amax(1), position_ids[1:].amax((0, 2))
    base.rope_deltas = (vision - text)[:, None]
