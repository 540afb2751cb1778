"""Videos of Qwen3-VL's kin: its video processor, made to select first, and its ``MultiModalProcessor``'s part for them.

The stock processor prepares one video after the other and keeps of Hugging Face's output what it knows. What is kept
of each is noted beside it, while it works.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from itertools import groupby
from typing import Any, ClassVar

import torch
from transformers import BatchFeature
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import PromptUpdateDetails

from ..core.config import PruneConfig
from ..core.preprocess import ImageReport, ImageSelection
from ..models.image_processor import selecting
from ..models.video_processor import SelectingVideoProcessor
from .processor import PrunedProcessing

#: Fields that travel with ``pixel_values_videos``: flat indices of kept blocks, counted anew in the frames of each
#: token; how many they are there; both video after video.
KEPT_IN_FRAMES = "pixelprune_kept_in_frames"
FRAME_COUNTS = "pixelprune_frame_counts"

#: What is kept of the videos that are being prepared, in their order; None where videos are not pruned.
PREPARED: ContextVar[list[list[ImageSelection]] | None] = ContextVar("pixelprune_videos", default=None)


class PrunedVideoProcessor(SelectingVideoProcessor):
    """Mixin over the stock video processor class, see :func:`pruned_video_processor`."""

    prune: PruneConfig
    reports: list[ImageReport]

    def _preprocess(self, videos: list[torch.Tensor], **kwargs: Any) -> BatchFeature:
        """Replaces the stock method of the same name, which gets uint8 ``(frames, C, H, W)`` tensors."""
        chosen, rows, grids = self.select_and_lay_out([video.cpu() for video in videos], kwargs, self.prune)
        prepared = PREPARED.get()
        assert prepared is not None
        prepared += chosen
        self.reports += [one.report for video in chosen for one in video]
        return BatchFeature(
            {"pixel_values_videos": rows, "video_grid_thw": grids}, tensor_type=kwargs.get("return_tensors")
        )


def pruned_video_processor(stock: Any, prune: PruneConfig) -> Any:
    """A copy of a stock ``Qwen3VLVideoProcessor`` that prunes, and adds what it keeps to :data:`PREPARED`.

    Its ``reports`` has an entry for all frames of each token.
    """
    processor = selecting(PrunedVideoProcessor, stock, prune)
    processor.reports = []
    return processor


class PrunedVideoProcessing(PrunedProcessing):
    """Overrides of ``Qwen3VLMultiModalProcessor`` for videos; vLLM calls them by keyword."""

    pruned_modalities: ClassVar[tuple[str, ...]] = ("image", "video")

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, object]) -> BatchFeature:
        """As the stock method, with what is kept of the videos."""
        prepared: list[list[ImageSelection]] = []
        token = PREPARED.set(prepared)
        try:
            processed: BatchFeature = super()._apply_hf_processor_main(mm_items, hf_kwargs)  # type: ignore[misc]
        finally:
            PREPARED.reset(token)
        frames = [frame for video in prepared for frame in video]
        if frames:
            processed[KEPT_IN_FRAMES] = torch.cat([torch.tensor(frame.kept_indices) for frame in frames])
            processed[FRAME_COUNTS] = torch.tensor([frame.num_kept for frame in frames])
        return processed

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, object]) -> Mapping[str, Any]:
        """How to cut tensors into videos: only kept patches are there."""
        fields = super()._get_mm_fields_config(hf_inputs, hf_processor_mm_kwargs)
        if FRAME_COUNTS not in hf_inputs:
            return fields
        frames = hf_inputs["video_grid_thw"][:, 0]
        counts = torch.stack([part.sum() for part in hf_inputs[FRAME_COUNTS].split(frames.tolist())])
        unit = self.info.get_hf_config().vision_config.spatial_merge_size ** 2
        return {
            **fields,
            "pixel_values_videos": MultiModalFieldConfig.flat_from_sizes("video", counts * unit),
            KEPT_IN_FRAMES: MultiModalFieldConfig.flat_from_sizes("video", counts, keep_on_cpu=True),
            FRAME_COUNTS: MultiModalFieldConfig.flat_from_sizes("video", frames, keep_on_cpu=True),
        }

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Sequence[Any]:
        """Between the timestamps are as many tokens as blocks are kept."""
        updates = super()._get_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)
        token = self.info.get_hf_config().video_token_id
        return [
            _shortened(update, out_mm_kwargs, token) if update.modality == "video" else update for update in updates
        ]


def _shortened(update: Any, out_mm_kwargs: Any, token: int) -> Any:
    def replacement(item_idx: int) -> Any:
        whole, item = update.replacement(item_idx), out_mm_kwargs["video"][item_idx]
        if FRAME_COUNTS not in item:
            return whole
        counts = iter(item[FRAME_COUNTS].data.tolist())
        tokens: list[int] = []
        for is_block, run in groupby(whole.full, lambda each: each == token):
            tokens += [token] * next(counts) if is_block else run
        return PromptUpdateDetails.select_token_id(tokens, token)

    return dataclasses.replace(update, replacement=replacement)
