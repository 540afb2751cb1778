"""Let one model instance take pruned inputs. Nothing is patched but that instance, and that can be undone.

Two seams are used. A forward pre-hook on the base model encodes kept patches and hands the features over as
``mm_encoder_outputs``, for ``forward``, training and everything built on it. ``generate`` encodes by itself, before
it expands beams, with no word of positions; so the instance gets a ``generate`` that encodes first and then calls
its class's own.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import PrunedInputError, UnsupportedModelError
from ..models.registry import Family, family_of
from .encode import encode_kept
from .positions import PlacedImage, locate_images

M = TypeVar("M", bound=nn.Module)

_MARK = "_pixelprune_hook"


def enable(model: M) -> M:
    """Let a model take what :class:`~pixelprune.hf.PrunedProcessor` returns.

    Inputs that are not pruned go the stock way, untouched. A second call does nothing.

    Args:
        model: a stock Qwen-style model, with or without its language-modelling head; or one wrapped by peft,
            ``torch.compile``, ``DistributedDataParallel`` or ``DataParallel``.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: its family is not supported, or its vision tower does not honour precomputed inputs.
    """
    inner, base, family = _unwrap(model)
    own = inner.__dict__.get("generate")
    if own is not None and getattr(own, "func", None) is not _generate:
        raise UnsupportedModelError("this instance has a generate() of its own; enable() the model before wrapping it")
    if _MARK not in base.__dict__:
        verify_tower(base, family)
        base.__dict__[_MARK] = base.register_forward_pre_hook(_encode_before_forward, with_kwargs=True)
    if hasattr(inner, "generate"):
        # A partial, because copies and pickles of the model then hold one that belongs to them.
        inner.__dict__.setdefault("generate", partial(_generate, inner))
    return model


def disable(model: M) -> M:
    """Undo :func:`enable`. Does nothing on a model that is not enabled."""
    inner, base, _ = _unwrap(model)
    hook = base.__dict__.pop(_MARK, None)
    if hook is not None:
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
    """Forward pre-hook of the base model: replace pruned pixels by their features."""
    if args:
        kwargs = {**dict(zip(inspect.signature(base.forward).parameters, args, strict=False)), **kwargs}
    pixel_values: Any = kwargs.get("pixel_values")
    grid: Any = kwargs.get("image_grid_thw")
    if not _is_pruned(pixel_values, grid, base, kwargs.get("position_ids")):
        return None
    if kwargs.get("input_ids") is None:
        raise PrunedInputError("pruned pixel_values need input_ids beside them; got inputs_embeds")
    images = _locate(base, kwargs["input_ids"], kwargs.get("position_ids"), grid, pixel_values)
    encoded = {**(kwargs.get("mm_encoder_outputs") or {})}
    encoded["image"] = encode_kept(
        base.visual, family_of(base.config.model_type), pixel_values, grid, [image.kept for image in images]
    )
    _set_rope_deltas(base, kwargs["position_ids"])
    return (), {**kwargs, "pixel_values": None, "mm_encoder_outputs": encoded}


@torch.no_grad()
def _generate(self: Any, *args: Any, **kwargs: Any) -> Any:
    """``generate`` of an enabled instance: encode pruned pixels, then the class's own ``generate``."""
    generate = type(self).generate
    pixel_values: Any = kwargs.get("pixel_values")
    grid: Any = kwargs.get("image_grid_thw")
    base = self.base_model
    cache = kwargs.get("past_key_values")
    cached = int(cache.get_seq_length()) if cache is not None else 0
    position_ids: Any = kwargs.get("position_ids")
    whole = not _is_pruned(pixel_values, grid, base, position_ids)
    # On a cache even whole images come this way: stock code would encode those in the cache again, and fail.
    if whole and (not cached or pixel_values is None or grid is None or position_ids is None):
        return generate(self, *args, **kwargs)
    input_ids = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
    if input_ids is None:
        raise PrunedInputError("pruned pixel_values need input_ids beside them; got none")
    family = family_of(self.config.model_type)
    images = _locate(base, input_ids, position_ids, grid, pixel_values)

    # Images whose tokens are in the cache already need no encoding.
    new = [i for i, image in enumerate(images) if image.start >= cached]
    if any(image.start < cached < image.start + len(image.kept) for image in images):
        raise PrunedInputError(f"the cache ends inside an image, at token {cached}; let it end between images")
    sizes = [len(image.kept) * _merge_size(base) ** 2 for image in images]
    pieces = torch.split(pixel_values, sizes)
    del kwargs["pixel_values"], kwargs["image_grid_thw"]
    if new:
        features = encode_kept(
            base.visual, family, torch.cat([pieces[i] for i in new]), grid[new], [images[i].kept for i in new]
        )
        kwargs["mm_encoder_outputs"] = {
            **(kwargs.get("mm_encoder_outputs") or {}),
            "image": _one_per_row(features, [images[i].row for i in new]),
        }
    _set_rope_deltas(base, position_ids)
    return generate(self, *args, **kwargs)


def _merge_size(base: Any) -> int:
    return int(base.config.vision_config.spatial_merge_size)


def _is_pruned(pixel_values: Any, grid: Any, base: Any, position_ids: Any) -> bool:
    """Whether patches are missing; notes the positions of a processor's output in which none are, for later turns."""
    if pixel_values is None or grid is None:
        return False
    if len(pixel_values) != int(grid.prod(-1).sum()):
        return True
    if position_ids is not None and position_ids.ndim == 3 and len(position_ids) == 4:
        _set_rope_deltas(base, position_ids)
    return False


def _locate(
    base: Any, input_ids: Tensor, position_ids: Tensor | None, grid: Tensor, pixels: Tensor
) -> list[PlacedImage]:
    merge = _merge_size(base)
    images = locate_images(input_ids, position_ids, base.config.image_token_id, grid, merge)
    patches = sum(len(image.kept) for image in images) * merge**2
    if patches != len(pixels):
        raise PrunedInputError(
            f"the image tokens stand for {patches} patches but pixel_values has {len(pixels)} rows; "
            f"pass the processor's whole output to the model"
        )
    return images


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


def _set_rope_deltas(base: Any, position_ids: Tensor) -> None:
    """What the model's own position code leaves behind, for callers that go on without position_ids.

    How far M-RoPE positions are ahead of text positions at the end of each row; padding, at 0, never is the largest.
    """
    text, vision = position_ids[0].amax(1), position_ids[1:].amax((0, 2))
    base.rope_deltas = (vision - text)[:, None]


@torch.no_grad()
def verify_tower(base: Any, family: Family) -> None:
    """Run the vision tower on a tiny grid and refuse the model unless it honours precomputed inputs.

    Nothing pruned must equal the plain call; a pruned call must return one feature per kept block; and an image's
    features must not depend on the other image of the batch.
    """
    tower = base.visual
    parameter = next(tower.parameters())
    device: Any = parameter.device
    if parameter.is_meta:
        offloaded = [module._hf_hook for module in tower.modules() if hasattr(module, "_hf_hook")]
        if not offloaded:
            raise UnsupportedModelError("the model's weights are on the meta device; load them before enable()")
        device = getattr(offloaded[0], "execution_device", None) or "cpu"
    config, merge = tower.config, _merge_size(base)
    unit = merge * merge
    grid = torch.tensor([[1, 6 * merge, 5 * merge], [1, 2 * merge, 3 * merge]], device=device)
    whole = [torch.arange(30), torch.arange(6)]
    some = [torch.tensor([0, 3, 4, 11, 12, 13, 29]), torch.tensor([0, 5])]
    values = getattr(config, "in_channels", 3) * config.temporal_patch_size * config.patch_size**2
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(36 * unit, values, generator=generator).to(device)
    kept_rows = torch.cat([some[0], some[1] + 30])
    patch_rows = (kept_rows[:, None] * unit + torch.arange(unit)).flatten().to(device)
    other = pixels[patch_rows].clone()
    other[len(some[0]) * unit :] += 1

    def features(rows: Tensor, kept: list[Tensor]) -> list[Tensor]:
        output = encode_kept(tower, family, rows, grid, kept)
        return [
            *output.pooler_output,
            *(f for group in getattr(output, "deepstack_features", None) or [] for f in group),
        ]

    try:
        plain = tower(pixels.to(tower.dtype), grid_thw=grid, return_dict=True).pooler_output
        unpruned = torch.cat(features(pixels, whole)[:2])
        pruned, changed = features(pixels[patch_rows], some), features(other, some)
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:
        raise UnsupportedModelError(
            f"the vision tower {type(tower).__name__} does not take precomputed inputs: {error}"
        ) from error
    tolerance = 1e-5 if parameter.dtype == torch.float32 else 2e-2
    scale = float(plain.float().abs().max())
    if not torch.allclose(unpruned.float(), plain.float(), rtol=0, atol=tolerance * scale):
        raise UnsupportedModelError(
            f"the vision tower {type(tower).__name__} gives other features with precomputed inputs than without"
        )
    if [len(f) for f in pruned[:2]] != [len(k) for k in some]:
        raise UnsupportedModelError(f"the vision tower {type(tower).__name__} ignores the sequence lengths it is given")
    if not torch.allclose(pruned[0].float(), changed[0].float(), rtol=0, atol=tolerance * scale):
        raise UnsupportedModelError(f"the vision tower {type(tower).__name__} mixes the images of a batch")
