"""vLLM's model classes with pruned images: one mixin, and for each family a subclass under the stock class's name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from vllm.model_executor.models.vision import run_dp_sharded_mrope_vision_model
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import PlaceholderRange

from ..core.geometry import expand
from ..models.family import Family, VllmClasses
from ..models.registry import FAMILIES
from . import towers
from .context import PrunedInfo
from .images import COUNTS, KEPT
from .processor import PrunedProcessing
from .towers import KeptImage, KeptTower


class PrunedImages:
    """Mixin over a family's model class: kept patches through the tower, full-grid positions for kept tokens."""

    prunes_images: ClassVar[bool] = True
    _metadata: ClassVar[Callable[[Any, Sequence[KeptImage]], towers.Metadata]]

    def _parse_and_validate_image_input(self, **kwargs: Any) -> Any:
        """Pruned images as a dictionary of their own type; anything else as the stock method."""
        if KEPT not in kwargs:
            return super()._parse_and_validate_image_input(**kwargs)  # type: ignore[misc]
        names = ("pixel_values", "image_grid_thw", KEPT, COUNTS)
        return {"type": KEPT, **{name: kwargs[name] for name in names}}

    def _process_image_input(self, image_input: Any) -> Any:
        """Features per image: ``(num_kept, hidden)``, with deepstack features beside where the family has them."""
        if image_input["type"] != KEPT:
            return super()._process_image_input(image_input)  # type: ignore[misc]
        visual: Any = self.visual  # type: ignore[attr-defined]
        unit = visual.spatial_merge_size**2
        counts = image_input[COUNTS].flatten().tolist()
        # Any, because vLLM's sharding takes these for the tower and the grids that its types name.
        images: Any = [
            KeptImage(tuple(grid), kept.cpu().numpy(), unit)
            for grid, kept in zip(image_input["image_grid_thw"].tolist(), image_input[KEPT].split(counts), strict=True)
        ]
        tower: Any = KeptTower(visual, type(self)._metadata)
        if self.use_data_parallel:  # type: ignore[attr-defined]
            return run_dp_sharded_mrope_vision_model(tower, image_input["pixel_values"], images, rope_type="rope_3d")
        return tower(image_input["pixel_values"], images).split(counts)

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]) -> tuple[Tensor, int]:
        """Positions of the pruned prompt ``(3, length)``, and what to add to a length to get the next position.

        The stock method computes on the prompt with every image at its full count; kept tokens take their part of it.
        """
        if not any(feature.data is not None and KEPT in feature.data for feature in mm_features):
            return super().get_mrope_input_positions(input_tokens, mm_features)  # type: ignore[misc]
        tokens, features, at = _full_prompt(input_tokens, mm_features, self.config.vision_config.spatial_merge_size)  # type: ignore[attr-defined]
        positions, delta = super().get_mrope_input_positions(tokens, features)  # type: ignore[misc]
        return positions[:, at], delta + len(tokens) - len(input_tokens)

    def get_encoder_cudagraph_config(self) -> Any:
        """Images are encoded without CUDA graphs, whose inputs are laid out for whole images."""
        config = super().get_encoder_cudagraph_config()  # type: ignore[misc]
        return dataclasses.replace(config, modalities=[name for name in config.modalities if name != "image"])


def _full_prompt(tokens: list[int], features: list[Any], merge: int) -> tuple[list[int], list[Any], Tensor]:
    """The prompt with pruned images at their full count, its features, and where the given tokens are in it."""
    block = np.full(len(tokens), -1, np.int64)
    sizes: dict[int, int] = {}  # blocks of each pruned image, by its place in the prompt
    for feature in sorted(features, key=lambda f: f.mm_position.offset):
        if feature.modality == "image" and KEPT in feature.data:
            start, length = feature.mm_position.offset, feature.mm_position.length
            block[start : start + length] = feature.data[KEPT].data.numpy() + sum(sizes.values())
            sizes[start] = int(feature.data["image_grid_thw"].data.prod()) // merge**2
    placeholder = tokens[next(iter(sizes))]
    full, at = expand(np.array(tokens), block, list(sizes.values()), placeholder)
    moved = []
    for feature in features:
        start = feature.mm_position.offset
        if start in sizes:
            first = int(at[start]) - int(feature.data[KEPT].data[0])
            position = PlaceholderRange(offset=first, length=sizes[start])
        else:
            position = dataclasses.replace(feature.mm_position, offset=int(at[start]))
        moved.append(dataclasses.replace(feature, mm_position=position))
    return full.tolist(), moved, torch.from_numpy(at)


def _stock(place: str) -> Any:
    """One of vLLM's classes, from ``module:Class``."""
    module, _, name = place.partition(":")
    return getattr(import_module(f"vllm.model_executor.models.{module}"), name)


def _subclass(stock: type, mixin: type, **attributes: Any) -> Any:
    """A subclass of a class of vLLM under the same name, with a mixin before it."""
    return type(stock.__name__, (mixin, stock), {"__module__": __name__, **attributes})


def _with_pruned_images(family: Family, names: VllmClasses) -> Any:
    """A family's model class with pruned images, registered with the pruning processor and info."""
    model = _subclass(
        _stock(names.model), PrunedImages, __doc__=f"{family.name}.", _metadata=getattr(towers, names.metadata)
    )
    register = MULTIMODAL_REGISTRY.register_processor(
        _subclass(_stock(names.processor), PrunedProcessing),
        info=_subclass(_stock(names.info), PrunedInfo),
        dummy_inputs=_stock(names.dummy_inputs),
    )
    return register(model)


# Names of this module, as vLLM and pickle look them up.
globals().update(
    {
        family.vllm.architecture: _with_pruned_images(family, family.vllm)
        for family in FAMILIES.values()
        if family.vllm is not None
    }
)
