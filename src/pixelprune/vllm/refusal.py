"""Models that prune nothing: settings given to them are refused, whichever model of vLLM or of another plugin it is.

vLLM makes every processor of multimodal data through one object, its registry. That object, not its class, gets the
class below: so a model is covered without being named here, and Transformers backends are too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

from vllm.config import ModelConfig
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.processing import BaseMultiModalProcessor, InputProcessingContext
from vllm.multimodal.registry import MultiModalRegistry
from vllm.tokenizers import TokenizerLike

from ..errors import ConfigError
from ..models.registry import FAMILIES
from .settings import KEY, ends_the_start, settings_from

SUPPORTED = ", ".join(family.name for family in FAMILIES.values() if family.vllm is not None)


class RefusingRegistry(MultiModalRegistry):
    """vLLM's registry, which checks what models that prune nothing are asked for."""

    def _create_processing_ctx(
        self, model_config: ModelConfig, tokenizer: TokenizerLike | None = None
    ) -> InputProcessingContext:
        """As the stock method, which each start comes through; settings of the engine end it."""
        model = self._get_model_cls(model_config)
        if not prunes(model):
            with ends_the_start():
                _refuse(model, model_config.get_multimodal_config().mm_processor_kwargs or {})
        return super()._create_processing_ctx(model_config, tokenizer)

    def create_processor(
        self, model_config: ModelConfig, *, tokenizer: TokenizerLike | None = None
    ) -> BaseMultiModalProcessor[Any]:
        """As the stock method; ``apply``, which each request comes through, refuses its settings."""
        processor: Any = super().create_processor(model_config, tokenizer=tokenizer)
        model = self._get_model_cls(model_config)
        if not prunes(model):
            processor.apply = _refusing(processor.apply, model)
        return cast("BaseMultiModalProcessor[Any]", processor)


def install() -> None:
    """Give vLLM's registry the class above; a second time changes nothing."""
    MULTIMODAL_REGISTRY.__class__ = RefusingRegistry


def prunes(model: Any) -> bool:
    """Whether a model class is one of ours."""
    return getattr(model, "prunes_images", False)


def _refuse(model: Any, kwargs: Any) -> None:
    if settings_from(kwargs) is not None:
        raise ConfigError(
            f'mm_processor_kwargs: "{KEY}" does nothing for {model.__name__}; leave it out, or serve a model of these '
            f"families, without --model-impl transformers: {SUPPORTED}"
        )


def _refusing(apply: Callable[..., Any], model: Any) -> Callable[..., Any]:
    @functools.wraps(apply)
    def refuse_or_apply(inputs: Any, timing_ctx: Any) -> Any:
        kwargs = inputs.hf_processor_mm_kwargs
        _refuse(model, kwargs)
        # "Off" is nothing that Hugging Face's processor or a cache's key should see.
        rest = {name: value for name, value in kwargs.items() if name != KEY}
        return apply(dataclasses.replace(inputs, hf_processor_mm_kwargs=rest), timing_ctx)

    return refuse_or_apply
