"""Train vision-language models with pruned images, on the Hugging Face Trainer.

>>> from pixelprune.train import ChatCollator, Conversations, DistillationTrainer, PruneTrainer
"""

from .. import hf  # noqa: F401  (first: where torch or transformers is missing, its message says so in one line)
from .collator import ChatCollator, Encoded
from .data import Conversations, JsonlFile, MixtureSampler
from .distill import DistillationTrainer
from .model import add_lora, freeze, linear_patches
from .rows import Conversation, Video, parse_row
from .trainer import PruneTrainer

__all__ = [
    "ChatCollator",
    "Conversation",
    "Conversations",
    "DistillationTrainer",
    "Encoded",
    "JsonlFile",
    "MixtureSampler",
    "PruneTrainer",
    "Video",
    "add_lora",
    "freeze",
    "linear_patches",
    "parse_row",
]
