"""Mixin over a family's ``MultiModalProcessor``: placeholders, fields and cache keys of pruned images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import DictEmbeddingItems, EmbeddingItems

from ..core.config import PruneConfig
from ..core.sequence import reference_numbers
from ..errors import PrunedInputError
from .images import COUNTS, KEPT
from .rows import ROW, row_of
from .settings import KEY


class PrunedProcessing:
    """Overrides of ``BaseMultiModalProcessor``; vLLM calls them by keyword, so the parameters keep its names."""

    info: Any
    #: What is pruned; the rest is served whole.
    pruned_modalities: ClassVar[tuple[str, ...]] = ("image",)

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """As the stock method. Refuses first what cannot be pruned."""
        if self.info.ctx.settings(inputs.hf_processor_mm_kwargs) is not None:
            for items in inputs.mm_data_items.values():
                name = items.modality
                if name in self.pruned_modalities and isinstance(items, EmbeddingItems | DictEmbeddingItems):
                    raise PrunedInputError(
                        f"{name}_embeds cannot be pruned: send the {name}, or switch pruning off for this request with "
                        f'"mm_processor_kwargs": {{"pixelprune": null}}'
                    )
        return super().apply(inputs, timing_ctx)  # type: ignore[misc]

    def get_dummy_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Memory is profiled with whole images: the largest that a request can ask for."""
        inputs = super().get_dummy_inputs(*args, **kwargs)  # type: ignore[misc]
        inputs.hf_processor_mm_kwargs = {**inputs.hf_processor_mm_kwargs, KEY: None}
        return inputs

    def _get_mm_hashes(self, inputs: Any) -> Any:
        """Images with other settings, or with other images to refer to, are other images to every cache; so are videos.

        Without settings the keys are the stock ones.
        """
        kwargs = inputs.hf_processor_mm_kwargs
        plain = {name: value for name, value in kwargs.items() if name != KEY}
        hashes = super()._get_mm_hashes(dataclasses.replace(inputs, hf_processor_mm_kwargs=plain))  # type: ignore[misc]
        settings = self.info.ctx.settings(kwargs)
        if settings is None:
            return hashes
        algorithm, result = self.info.ctx.get_mm_config().mm_hasher_algorithm, dict(hashes)
        for modality in set(self.pruned_modalities) & set(hashes):
            keys = hashes[modality]
            # The frames of a video refer to each other, which its own key covers; images of a request do.
            others = _keys_of_references(keys, settings) if modality == "image" else [{}] * len(keys)
            result[modality] = [
                MultiModalHasher.hash_kwargs(algorithm, mm_hash=key, pixelprune=settings.cache_key, **of_references)
                for key, of_references in zip(keys, others, strict=True)
            ]
        return result

    def _get_cache_missing_processor_kwargs(self, inputs: Any, mm_is_cached: Any) -> Mapping[str, object]:
        """As the stock method, with the images that missing ones may refer to."""
        kwargs: Mapping[str, object] = super()._get_cache_missing_processor_kwargs(inputs, mm_is_cached)  # type: ignore[misc]
        settings = self.info.ctx.settings(inputs.hf_processor_mm_kwargs)
        missing = [number for number, cached in enumerate(mm_is_cached.get("image", ())) if not cached]
        if settings is None or settings.references == "none" or not missing:
            return kwargs
        return {**kwargs, ROW: row_of(self.info, inputs.mm_data_items["image"], missing, settings)}

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, object]) -> Mapping[str, Any]:
        """How to cut tensors into images: only kept patches are there. Unpruned images have the stock fields alone."""
        fields = super()._get_mm_fields_config(hf_inputs, hf_processor_mm_kwargs)  # type: ignore[misc]
        if COUNTS not in hf_inputs:
            return fields
        counts = hf_inputs[COUNTS]
        unit = self.info.get_hf_config().vision_config.spatial_merge_size ** 2
        return {
            **fields,
            "pixel_values": MultiModalFieldConfig.flat_from_sizes("image", counts * unit),
            KEPT: MultiModalFieldConfig.flat_from_sizes("image", counts, keep_on_cpu=True),
            COUNTS: MultiModalFieldConfig.batched("image", keep_on_cpu=True),
        }

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Sequence[Any]:
        """A placeholder has as many tokens as blocks are kept."""
        updates = super()._get_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)  # type: ignore[misc]
        return [_shortened(update, out_mm_kwargs) if update.modality == "image" else update for update in updates]


def _keys_of_references(keys: Sequence[str], settings: PruneConfig) -> list[dict[str, list[str]]]:
    """Per image of a request what its key holds of the images that it may refer to, from the keys of them all."""
    if settings.references == "none":
        return [{} for _ in keys]
    return [
        {"references": [keys[other] for other in reference_numbers(number, settings.references)]}
        for number in range(len(keys))
    ]


def _shortened(update: Any, out_mm_kwargs: Any) -> Any:
    whole: Callable[[int], list[int]] = update.replacement

    def replacement(item_idx: int) -> list[int]:
        item = out_mm_kwargs["image"][item_idx]
        return whole(item_idx)[: int(item[COUNTS].data)] if COUNTS in item else whole(item_idx)

    return dataclasses.replace(update, replacement=replacement)
