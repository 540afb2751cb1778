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
from .videos import FRAME_COUNTS, KEPT_IN_FRAMES, PrunedVideoProcessing


class PrunedImages:
    """Mixin over a family's model class: kept patches through the tower, full-grid positions for kept tokens."""

    prunes_images: ClassVar[bool] = True
    _metadata: ClassVar[Callable[[Any, Sequence[KeptImage]], towers.Metadata]]
    _prunes_videos: ClassVar[bool]

    def _parse_and_validate_image_input(self, **kwargs: Any) -> Any:
        """As the stock method, whose result also gets what is kept of pruned images."""
        image_input = super()._parse_and_validate_image_input(**kwargs)  # type: ignore[misc]
        for name in (KEPT, COUNTS):
            if name in kwargs:
                setattr(image_input, name, kwargs[name])
        return image_input

    def _process_image_input(self, image_input: Any) -> Any:
        """Features per image: ``(num_kept, hidden)``, with deepstack features beside where the family has them."""
        if not hasattr(image_input, KEPT):
            return super()._process_image_input(image_input)  # type: ignore[misc]
        counts = image_input[COUNTS].flatten().tolist()
        return self._encoded(
            image_input["pixel_values"], image_input["image_grid_thw"].tolist(), image_input[KEPT], counts
        )

    def _parse_and_validate_video_input(self, **kwargs: Any) -> Any:
        """Pruned videos as a dictionary of their own type; anything else as the stock method."""
        if KEPT_IN_FRAMES not in kwargs:
            return super()._parse_and_validate_video_input(**kwargs)  # type: ignore[misc]
        names = ("pixel_values_videos", "video_grid_thw", KEPT_IN_FRAMES, FRAME_COUNTS)
        return {"type": KEPT_IN_FRAMES, **{name: kwargs[name] for name in names}}

    def _process_video_input(self, video_input: Any) -> Any:
        """Features per video, as for images; to the tower the frames of each token are an image."""
        if video_input["type"] != KEPT_IN_FRAMES:
            return super()._process_video_input(video_input)  # type: ignore[misc]
        counts = video_input[FRAME_COUNTS].tolist()
        times = video_input["video_grid_thw"][:, 0].tolist()
        grids = [[1, *grid[1:]] for grid in video_input["video_grid_thw"].tolist() for _ in range(grid[0])]
        features = self._encoded(video_input["pixel_values_videos"], grids, video_input[KEPT_IN_FRAMES], counts)
        return tuple(torch.cat(features[end - count : end]) for count, end in zip(times, np.cumsum(times), strict=True))

    def _encoded(self, pixels: Tensor, grids: list[list[int]], kept: Tensor, counts: list[int]) -> tuple[Tensor, ...]:
        """Features of each grid's kept blocks."""
        visual: Any = self.visual  # type: ignore[attr-defined]
        unit = visual.spatial_merge_size**2
        # Any, because vLLM's sharding takes these for the tower and the grids that its types name.
        images: Any = [
            KeptImage((grid[0], grid[1], grid[2]), indices.cpu().numpy(), unit)
            for grid, indices in zip(grids, kept.split(counts), strict=True)
        ]
        tower: Any = KeptTower(visual, type(self)._metadata)
        if self.use_data_parallel:  # type: ignore[attr-defined]
            return tuple(run_dp_sharded_mrope_vision_model(tower, pixels, images, rope_type="rope_3d"))
        features: tuple[Tensor, ...] = tower(pixels, images).split(counts)
        return features

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]) -> tuple[Tensor, int]:
        """Positions of the pruned prompt ``(3, length)``, and what to add to a length to get the next position.

        The stock method computes on the prompt with every image at its full count; kept tokens take their part of it.
        """
        if not any(f.data is not None and (KEPT in f.data or KEPT_IN_FRAMES in f.data) for f in mm_features):
            return super().get_mrope_input_positions(input_tokens, mm_features)  # type: ignore[misc]
        config: Any = self.config  # type: ignore[attr-defined]
        tokens, features, at = _full_prompt(
            input_tokens, mm_features, config.vision_config.spatial_merge_size, config.video_token_id
        )
        positions, delta = super().get_mrope_input_positions(tokens, features)  # type: ignore[misc]
        return positions[:, at], delta + len(tokens) - len(input_tokens)

    def get_encoder_cudagraph_config(self) -> Any:
        """What is pruned is encoded without CUDA graphs, whose inputs are laid out for whole images."""
        config = super().get_encoder_cudagraph_config()  # type: ignore[misc]
        pruned = ("image", "video") if self._prunes_videos else ("image",)
        return dataclasses.replace(config, modalities=[name for name in config.modalities if name not in pruned])


def _full_prompt(
    tokens: list[int], features: list[Any], merge: int, video_token_id: int
) -> tuple[list[int], list[Any], Tensor]:
    """The prompt with pruned images and videos at their full count, its features, and where the given tokens are."""
    ids = np.array(tokens)
    block = np.full(len(tokens), -1, np.int64)
    sizes: list[int] = []  # blocks of each pruned image, and of the frames of one token of each pruned video
    holes: list[int] = []
    for feature in sorted(features, key=lambda f: f.mm_position.offset):
        start, data = feature.mm_position.offset, feature.data
        inside = np.arange(start, start + feature.mm_position.length)
        if KEPT in data:
            segments = [(inside, data[KEPT].data.numpy())]
            size = int(data["image_grid_thw"].data.prod()) // merge**2
        elif KEPT_IN_FRAMES in data:
            ends = np.cumsum(data[FRAME_COUNTS].data.numpy())[:-1]
            places = inside[ids[inside] == video_token_id]
            kept = np.split(data[KEPT_IN_FRAMES].data.numpy(), ends)
            segments = list(zip(np.split(places, ends), kept, strict=True))
            size = int(data["video_grid_thw"].data[1:].prod()) // merge**2
        else:
            continue
        for places, indices in segments:
            block[places] = indices + sum(sizes)
            sizes.append(size)
            holes.append(tokens[places[0]])
    full, at = expand(ids, block, sizes, holes)
    moved = []
    for feature in features:
        first, last = feature.mm_position.offset, feature.mm_position.offset + feature.mm_position.length - 1
        if KEPT in feature.data:
            offset = int(at[first]) - int(feature.data[KEPT].data[0])
            length = int(feature.data["image_grid_thw"].data.prod()) // merge**2
            position = PlaceholderRange(offset=offset, length=length)
        elif KEPT_IN_FRAMES in feature.data:  # from a timestamp to the token after the last frame
            position = PlaceholderRange(offset=int(at[first]), length=int(at[last] - at[first]) + 1)
        else:
            position = dataclasses.replace(feature.mm_position, offset=int(at[first]))
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
        _stock(names.model),
        PrunedImages,
        __doc__=f"{family.name}.",
        _metadata=getattr(towers, names.metadata),
        _prunes_videos=names.videos,
    )
    register = MULTIMODAL_REGISTRY.register_processor(
        _subclass(_stock(names.processor), PrunedVideoProcessing if names.videos else PrunedProcessing),
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
