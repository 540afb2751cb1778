"""The rows of GLM's families.

Their towers read the grid by themselves to resample a learned position table, and end in a convolution over a block
and a gated merger.
"""

from __future__ import annotations

from dataclasses import replace

from .family import NO_NAMES, Family, ImageSettings, ImageTokens, VllmClasses

_IMAGES = ImageSettings(
    patch_size=14,
    min_pixels=12544,
    max_pixels=9633792,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
_TOKENS = ImageTokens(
    "<|begin_of_image|>", "<|image|>", "<|end_of_image|>", "<|video|>", ("<|begin_of_video|>", "<|end_of_video|>")
)
_VISION = {"depth": 24, "hidden_size": 1536, "intermediate_size": 13696, "num_heads": 12, "out_hidden_size": 4096}
_TINY_TOWER = {"hidden_size": 64, "intermediate_size": 96, "out_hidden_size": 64, "image_size": 168}
_TINY_TEXT = {"rope_parameters": {"partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}}


def _vllm(model: str, tower: str = "glm4_1v:Glm4vVisionTransformer", metadata: str = "qwen3_metadata") -> VllmClasses:
    return VllmClasses(
        model=model,
        tower=tower,
        info="glm4_1v:Glm4vProcessingInfo",
        processor="glm4_1v:Glm4vMultiModalProcessor",
        dummy_inputs="glm4_1v:Glm4vDummyInputsBuilder",
        metadata=metadata,
    )


_GLM4V = Family(
    model_type="glm4v",
    name="GLM-4.1V",
    hub_names=r"glm-4\.1v-\d|glm-4\.6v-flash",
    processor="Glm4vProcessor",
    images=_IMAGES,
    image_processor="Glm4vImageProcessor",
    tokens=_TOKENS,
    tower_mlp="out_hidden_size",
    gated_tower=True,
    merger_mlp=("intermediate_size",),
    vision=_VISION,
    tiny={"vision_config": _TINY_TOWER, "text_config": _TINY_TEXT},
    vllm=_vllm("glm4_1v:Glm4vForConditionalGeneration"),
)

GLM = (
    _GLM4V,
    replace(
        _GLM4V,
        model_type="glm46v",
        vllm=None,
        without_vllm="vLLM has no class for it",
        name="GLM-4.6V",
        hub_names=NO_NAMES,
        processor="Glm46VProcessor",
        image_processor="Glm46VImageProcessor",
        tiny={
            "vision_config": {"model_type": "glm4v_vision", **_TINY_TOWER},
            "text_config": {"model_type": "glm4v_text", **_TINY_TEXT},
        },
    ),
    replace(
        _GLM4V,
        model_type="glm4v_moe",
        vllm=_vllm("glm4_1v:Glm4vMoeForConditionalGeneration"),
        name="GLM-4.5V",
        hub_names=r"glm-4\.[56]v",
        experts=True,
        text={"n_routed_experts": 128, "n_shared_experts": 1, "first_k_dense_replace": 1},
        tiny={
            "vision_config": _TINY_TOWER,
            "text_config": {
                **_TINY_TEXT,
                "head_dim": 16,
                "n_routed_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 64,
            },
        },
    ),
    replace(
        _GLM4V,
        model_type="glm_ocr",
        vllm=_vllm("glm_ocr:GlmOcrForConditionalGeneration", "glm_ocr:GlmOcrVisionTransformer", "glm_ocr_metadata"),
        name="GLM-OCR",
        hub_names=r"glm-ocr",
        processor="Glm46VProcessor",
        image_processor="Glm46VImageProcessor",
        tower_mlp="intermediate_size",
        merger_mlp=("out_hidden_size", "in_channels"),
        vision={**_VISION, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 1536},
        tiny={
            "vision_config": _TINY_TOWER,
            "text_config": {"head_dim": 16, "rope_parameters": {"partial_rotary_factor": 1.0}},
        },
    ),
)
