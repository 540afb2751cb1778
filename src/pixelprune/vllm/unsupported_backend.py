"""vLLM's Transformers backend (``--model-impl transformers``) prunes nothing; settings given to it are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.model_executor.models import transformers
from vllm.model_executor.models.transformers.multimodal import (
    MultiModalDummyInputsBuilder,
    MultiModalProcessingInfo,
    MultiModalProcessor,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.processing import InputProcessingContext

from ..errors import ConfigError
from .settings import KEY


class _Context(InputProcessingContext):
    def get_merged_mm_kwargs(self, kwargs: Mapping[str, object], **rest: Any) -> dict[str, Any]:
        merged = super().get_merged_mm_kwargs(kwargs, **rest)
        if merged.pop(KEY, None) is not None:
            raise ConfigError(
                f'mm_processor_kwargs: "{KEY}" does nothing with vLLM\'s Transformers backend; serve one of the models '
                "that docs/serving.md lists without --model-impl transformers, or leave the setting out"
            )
        return merged


class _Info(MultiModalProcessingInfo):
    def __init__(self, ctx: InputProcessingContext) -> None:
        super().__init__(_Context(ctx.model_config, ctx.tokenizer))
        self.ctx.get_merged_mm_kwargs({})  # wrong settings of the engine end its start


_register = MULTIMODAL_REGISTRY.register_processor(
    MultiModalProcessor, info=_Info, dummy_inputs=MultiModalDummyInputsBuilder
)


@_register
class TransformersMultiModalForCausalLM(transformers.TransformersMultiModalForCausalLM):
    """Dense models."""


@_register
class TransformersMultiModalMoEForCausalLM(transformers.TransformersMultiModalMoEForCausalLM):
    """Mixtures of experts."""
