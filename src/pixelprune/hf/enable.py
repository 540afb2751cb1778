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
from .encode import encode_kept
from .kept import KEPT, KeptImage, read_kept
from .positions import pruned_positions
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
    images = _pruned_images(base, call, input_ids, kept)
    if images is None:
        return None if call.keys() == kwargs.keys() else ((), call)
    if call.get("position_ids") is None:
        if _cached(call):
            raise PrunedInputError(
                "pruned pixel_values after a cache need the position_ids of their tokens: compute them for the whole "
                "conversation with processor.position_ids(inputs), or call generate, which does so"
            )
        call["position_ids"] = _place(base, input_ids, call, images)
    encoded = {**(call.get("mm_encoder_outputs") or {})}
    encoded["image"] = _encode(base, call["pixel_values"], call["image_grid_thw"], images)
    set_rope_deltas(base, call["position_ids"])
    return (), {**call, "pixel_values": None, "mm_encoder_outputs": encoded}


@torch.no_grad()
def _generate(self: Any, *args: Any, **kwargs: Any) -> Any:
    """``generate`` of an enabled instance: encode pruned pixels, then the class's own ``generate``."""
    generate, base = type(self).generate, self.base_model
    kwargs = _with_one_cache_name(kwargs, _parameters(base.__class__))
    kept: Any = kwargs.pop(KEPT, None)
    input_ids: Any = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
    images = _pruned_images(base, kwargs, input_ids, kept)
    cached = _cached(kwargs)
    if images is None:
        if not cached or input_ids is None or kwargs.get("pixel_values") is None or kwargs["image_grid_thw"] is None:
            return generate(self, *args, **kwargs)
        # On a cache even whole images are encoded here: stock code would encode those in the cache again, and fail.
        images = _read(base, input_ids, kwargs["image_grid_thw"], kwargs["pixel_values"], kept)
    if kwargs.get("position_ids") is None:
        kwargs["position_ids"] = _place(base, input_ids, kwargs, images)

    # Images whose tokens are in the cache already need no encoding.
    new = [i for i, image in enumerate(images) if image.tokens[0] >= cached]
    if any(image.tokens[0] < cached <= image.tokens[-1] for image in images):
        raise PrunedInputError(f"the cache ends inside an image, at token {cached}; let it end between images")
    pixel_values, grid = kwargs.pop("pixel_values"), kwargs.pop("image_grid_thw")
    pieces = torch.split(pixel_values, [len(image.kept) * _merge_size(base) ** 2 for image in images])
    if new:
        features = _encode(base, torch.cat([pieces[i] for i in new]), grid[new], [images[i] for i in new])
        kwargs["mm_encoder_outputs"] = {
            **(kwargs.get("mm_encoder_outputs") or {}),
            "image": _one_per_row(features, [images[i].row for i in new]),
        }
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


def _pruned_images(base: Any, kwargs: dict[str, Any], input_ids: Any, kept: Any) -> list[KeptImage] | None:
    """The images of a call in which patches are missing; ``None`` where nothing is pruned."""
    _check_positions(kwargs.get("position_ids"), input_ids, kwargs.get("inputs_embeds"))
    pixel_values, grid = kwargs.get("pixel_values"), kwargs.get("image_grid_thw")
    if pixel_values is None or grid is None:
        return None
    if kept is not None and (pixel_values.ndim != 2 or grid.ndim != 2):
        raise PrunedInputError(
            f"pixel_values must be (patches, values) and image_grid_thw (images, 3); got {tuple(pixel_values.shape)} "
            f"and {tuple(grid.shape)}. Join them along their first dimension, do not stack them"
        )
    rows, patches = pixel_values.shape[:-1].numel(), int(grid.prod(-1).sum())
    if rows != patches:
        if kept is None:
            raise PrunedInputError(
                f"pixel_values has {rows} rows but image_grid_thw is of {patches} patches, and {KEPT}, "
                f"which says which of them are kept, is missing; pass the processor's whole output to the model"
            )
        if input_ids is None:
            raise PrunedInputError("pruned pixel_values need input_ids beside them; got inputs_embeds or nothing")
    if kept is None or input_ids is None:
        return None
    images = _read(base, input_ids, grid, pixel_values, kept)
    return None if all(image.is_whole for image in images) else images


def _merge_size(base: Any) -> int:
    return int(base.config.vision_config.spatial_merge_size)


def _check_positions(position_ids: Any, input_ids: Any, inputs_embeds: Any) -> None:
    """Positions of another shape than the tokens would be broadcast or cut in silence."""
    tokens = inputs_embeds if input_ids is None else input_ids
    if position_ids is None or tokens is None or position_ids.ndim < 3:
        return
    batch, length = tokens.shape[:2]
    # Stock generate passes one axis where all are equal.
    if len(position_ids) not in (1, 3, 4) or tuple(position_ids.shape[1:]) != (batch, length):
        raise PrunedInputError(
            f"position_ids must be (4, batch, length) = (4, {batch}, {length}); got {tuple(position_ids.shape)}. Leave "
            f"them out: an enabled model computes them"
        )


def _read(base: Any, input_ids: Tensor, grid: Tensor, pixels: Tensor, kept: Tensor | None) -> list[KeptImage]:
    unit = _merge_size(base) ** 2
    is_image = (input_ids == base.config.image_token_id).cpu().numpy()
    blocks = (grid.prod(-1) // unit).tolist()
    images = read_kept(None if kept is None else kept.cpu().numpy(), is_image, blocks)
    patches = sum(len(image.kept) for image in images) * unit
    if patches != len(pixels):
        raise PrunedInputError(
            f"{KEPT} is of {patches} patches but pixel_values has {len(pixels)} rows; pass the processor's whole "
            f"output to the model"
        )
    return images


def _encode(base: Any, pixels: Tensor, grid: Tensor, images: list[KeptImage]) -> Any:
    return encode_kept(base.visual, family_of(base.config.model_type), pixels, grid, [image.kept for image in images])


def _place(base: Any, input_ids: Tensor, kwargs: dict[str, Any], images: list[KeptImage]) -> Tensor:
    """``position_ids`` of a call, beside its ``input_ids``."""
    mask = kwargs.get("attention_mask")
    positions = pruned_positions(
        base.get_rope_index,
        input_ids.cpu().numpy(),
        mask.cpu().numpy().astype(bool) if mask is not None and mask.shape == input_ids.shape else None,
        base.config.image_token_id,
        kwargs["image_grid_thw"].cpu().numpy(),
        images,
    )
    return torch.from_numpy(positions).to(input_ids.device)


def _one_per_row(features: Any, rows: list[int]) -> Any:
    """Join the images of each row, so that expanding rows for beams cannot reorder images within one."""

    def join(parts: Any) -> tuple[Tensor, ...]:
        by_row: dict[int, list[Tensor]] = {}
        for row, part in zip(rows, parts, strict=True):
            by_row.setdefault(row, []).append(part)
        return tuple(torch.cat(parts) for parts in by_row.values())

    features.pooler_output = join(features.pooler_output)
    if getattr(features, "deepstack_features", None) is not None:
        features.deepstack_features = [join(parts) for parts in features.deepstack_features]
    return features


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
