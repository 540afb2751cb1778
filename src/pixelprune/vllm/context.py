"""Where settings enter: vLLM's processing context and info, which every family's processor asks for its options."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import vllm.envs
from vllm.multimodal.processing import InputProcessingContext

from ..core.config import PruneConfig
from ..errors import ConfigError, PixelPruneError
from . import metrics
from .images import pruned_image_processor
from .rows import ROW, row_in
from .settings import KEY, ends_the_start, settings_from
from .videos import PREPARED, pruned_video_processor


class PrunedContext(InputProcessingContext):
    """Reads the settings out of ``mm_processor_kwargs`` and keeps them away from Hugging Face's processor."""

    def settings(self, kwargs: Mapping[str, object]) -> PruneConfig | None:
        """The settings of a request, over those of the engine.

        Raises:
            ConfigError: a setting is wrong, or the engine has an option that does not go together with pruning.
        """
        settings = settings_from(super().get_merged_mm_kwargs(kwargs))
        if settings is not None and self.get_mm_config().is_multimodal_pruning_enabled():
            raise ConfigError(
                "vLLM's video pruning (--video-pruning-rate) and pixelprune cannot be used together; leave one of them "
                'out (a request switches pixelprune off with "mm_processor_kwargs": {"pixelprune": null})'
            )
        return settings

    def get_merged_mm_kwargs(
        self,
        kwargs: Mapping[str, object],
        *,
        supported_mm_processor_kwargs: Mapping[str, set[str]] | None = None,
    ) -> dict[str, Any]:
        """As the stock method, without our keys in what goes to Hugging Face's processor.

        With the supported names vLLM merges early, to pass the result on; without them it calls the processor next.
        """
        merged = super().get_merged_mm_kwargs(kwargs, supported_mm_processor_kwargs=supported_mm_processor_kwargs)
        if supported_mm_processor_kwargs is None:
            for key in (KEY, ROW):
                merged.pop(key, None)
        return merged

    def call_hf_processor(
        self, hf_processor: Any, data: Mapping[str, object], kwargs: Mapping[str, object] = {}
    ) -> Any:
        """As the stock method; a copy of the processor prunes where there are images, or videos, and settings."""
        settings = self.settings(kwargs)
        has_videos = bool(data.get("videos")) and PREPARED.get() is not None
        if settings is None or not (data.get("images") or has_videos):
            return super().call_hf_processor(hf_processor, data, kwargs)
        hf_processor = copy.copy(hf_processor)  # the stock one is shared by all requests
        image_processor = pruned_image_processor(hf_processor.image_processor, settings, row_in(kwargs))
        hf_processor.image_processor = image_processor
        reports = image_processor.reports
        if has_videos:
            hf_processor.video_processor = pruned_video_processor(hf_processor.video_processor, settings)
            hf_processor.video_processor.reports = reports
        try:
            output = super().call_hf_processor(hf_processor, data, kwargs)
        except ValueError as error:
            # vLLM wraps it in a message with the whole of the data; ours alone says what to do.
            if isinstance(error.__cause__, PixelPruneError):
                raise error.__cause__ from None
            raise
        metrics.record(settings, reports)
        return output


class PrunedInfo:
    """Mixin over a family's ``ProcessingInfo``: with our context. Wrong settings of the engine end its start."""

    def __init__(self, ctx: InputProcessingContext) -> None:
        context = PrunedContext(ctx.model_config, ctx.tokenizer)
        with ends_the_start():
            if context.settings({}) is not None and vllm.envs.VLLM_USE_RUST_FRONTEND:
                raise ConfigError(
                    "vLLM's Rust frontend prepares images itself and would not prune; unset VLLM_USE_RUST_FRONTEND"
                )
        super().__init__(context)  # type: ignore[call-arg]
