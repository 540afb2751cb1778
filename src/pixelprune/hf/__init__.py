"""Hugging Face transformers: pruned processors, and models that take what they return.

    >>> from pixelprune.hf import PrunedProcessor, enable
    >>> processor = PrunedProcessor.from_pretrained("Qwen/Qwen3-VL-2B-Instruct", threshold=0.0)
    >>> model = enable(AutoModelForImageTextToText.from_pretrained("Qwen/Qwen3-VL-2B-Instruct"))

No class is patched: :func:`enable` changes one instance and :func:`disable` undoes it.
"""

from ..core.preprocess import ImageReport
from ..models.registry import FAMILIES
from . import compat  # noqa: F401  (first: it says what is missing before an import fails)
from .enable import disable, enable, is_enabled
from .image_processor import pruned_image_processor
from .processor import PrunedProcessor

__all__ = ["FAMILIES", "ImageReport", "PrunedProcessor", "disable", "enable", "is_enabled", "pruned_image_processor"]
