"""The entry point: subclasses take the place of vLLM's own classes in its model registry."""

from __future__ import annotations

#: The architectures that prune, as in a model's ``config.json``. Each is also the name of the subclass.
ARCHITECTURES = (
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "Qwen3VLMoeForConditionalGeneration",
    "Qwen3_5ForConditionalGeneration",
    "Qwen3_5MoeForConditionalGeneration",
)

#: vLLM's classes for any model of transformers: ours refuse settings instead of ignoring them.
BACKEND = ("TransformersMultiModalForCausalLM", "TransformersMultiModalMoEForCausalLM")


def register() -> None:
    """Register the subclasses; vLLM calls this in each of its processes, maybe more than once.

    They are named by text, so that nothing is imported for other models: a vLLM whose seams differ stops the models
    above from starting, with the reason, and no other model.
    """
    from vllm import ModelRegistry

    package = __name__.rpartition(".")[0]
    for architecture in ARCHITECTURES:
        ModelRegistry.register_model(architecture, f"{package}.checked:{architecture}")
    for architecture in BACKEND:
        ModelRegistry.register_model(architecture, f"{package}.unsupported_backend:{architecture}")
