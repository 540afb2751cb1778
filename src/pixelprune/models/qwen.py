"""The rows of Qwen's families."""

from __future__ import annotations

from .family import Family, ImageSettings, VllmClasses

_QWEN2_IMAGES = ImageSettings(
    patch_size=14,
    min_pixels=3136,
    max_pixels=12845056,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
_QWEN3_IMAGES = ImageSettings(
    patch_size=16, min_pixels=65536, max_pixels=16777216, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)

_QWEN3_VISION = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 3584}
_DEEPSTACK_VISION = {**_QWEN3_VISION, "deepstack_visual_indexes": (8, 16, 24)}
_LINEAR_TEXT = {
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}

_TINY_TOWER = {"hidden_size": 64, "intermediate_size": 96, "out_hidden_size": 64}
_TINY_QWEN3_TOWER = {**_TINY_TOWER, "num_position_embeddings": 144}
_TINY_DEEPSTACK_TOWER = {**_TINY_QWEN3_TOWER, "deepstack_visual_indexes": [0, 2]}
_TINY_QWEN3_TEXT = {"head_dim": 16, "rope_parameters": {"mrope_interleaved": True}}
_TINY_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_TINY_LINEAR_TEXT = {
    "head_dim": 16,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "rope_parameters": {"mrope_interleaved": True, "partial_rotary_factor": 1.0},
}
_TINY_QWEN4_TEXT = {
    **_TINY_LINEAR_TEXT,
    **_TINY_EXPERTS,
    "shared_expert_intermediate_size": 64,
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "indexed_attention"],
    "hc_count": 2,
    "hc_lowrank": 16,
    "ple_layer_ids": [1],
    "ple_embed_dim": 64,
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 64,
    "make_ngram_vocab_size_divisible_by": 8,
    "split_ngram_parts": 4,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
}


def _like_qwen3_vl(model: str, info: str) -> VllmClasses:
    """A model with Qwen3-VL's tower and processor, and a configuration of its own."""
    return VllmClasses(
        model=model,
        tower="qwen3_vl:Qwen3_VisionTransformer",
        info=info,
        processor="qwen3_vl:Qwen3VLMultiModalProcessor",
        dummy_inputs="qwen3_vl:Qwen3VLDummyInputsBuilder",
        metadata="qwen3_metadata",
        videos=True,
    )


QWEN = (
    Family(
        model_type="qwen2_vl",
        name="Qwen2-VL",
        hub_names=r"qwen2-vl-\d",
        processor="Qwen2VLProcessor",
        video_processor="Qwen2VLVideoProcessor",
        images=_QWEN2_IMAGES,
        tower_width="embed_dim",
        tower_output="hidden_size",
        vision={"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4},
        tiny={"vision_config": {"embed_dim": 64, "hidden_size": 64}},
        vllm=VllmClasses(
            model="qwen2_vl:Qwen2VLForConditionalGeneration",
            tower="qwen2_vl:Qwen2VisionTransformer",
            info="qwen2_vl:Qwen2VLProcessingInfo",
            processor="qwen2_vl:Qwen2VLMultiModalProcessor",
            dummy_inputs="qwen2_vl:Qwen2VLDummyInputsBuilder",
            metadata="qwen2_metadata",
        ),
    ),
    Family(
        model_type="qwen2_5_vl",
        name="Qwen2.5-VL",
        hub_names=r"qwen2\.5-vl-\d",
        processor="Qwen2_5_VLProcessor",
        video_processor="Qwen2VLVideoProcessor",
        images=_QWEN2_IMAGES,
        windowed=True,
        gated_tower=True,
        vision={
            "depth": 32,
            "hidden_size": 3584,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "window_size": 112,
            "fullatt_block_indexes": (7, 15, 23, 31),
        },
        tiny={"vision_config": {**_TINY_TOWER, "fullatt_block_indexes": [1]}},
        vllm=VllmClasses(
            model="qwen2_5_vl:Qwen2_5_VLForConditionalGeneration",
            tower="qwen2_5_vl:Qwen2_5_VisionTransformer",
            info="qwen2_5_vl:Qwen2_5_VLProcessingInfo",
            processor="qwen2_5_vl:Qwen2_5_VLMultiModalProcessor",
            dummy_inputs="qwen2_5_vl:Qwen2_5_VLDummyInputsBuilder",
            metadata="qwen2_5_metadata",
        ),
    ),
    Family(
        model_type="qwen3_vl",
        name="Qwen3-VL",
        hub_names=r"qwen3-vl-\d",
        processor="Qwen3VLProcessor",
        video_processor="Qwen3VLVideoProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        deepstack=True,
        vision=_DEEPSTACK_VISION,
        text={"head_dim": 128},
        tiny={"vision_config": _TINY_DEEPSTACK_TOWER, "text_config": _TINY_QWEN3_TEXT},
        vllm=_like_qwen3_vl("qwen3_vl:Qwen3VLForConditionalGeneration", "qwen3_vl:Qwen3VLProcessingInfo"),
    ),
    Family(
        model_type="qwen3_vl_moe",
        name="Qwen3-VL-MoE",
        hub_names=r"qwen3-vl-\d+b-a\d",
        processor="Qwen3VLProcessor",
        video_processor="Qwen3VLVideoProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        deepstack=True,
        experts=True,
        vision=_DEEPSTACK_VISION,
        tiny={"vision_config": _TINY_DEEPSTACK_TOWER, "text_config": {**_TINY_QWEN3_TEXT, **_TINY_EXPERTS}},
        vllm=_like_qwen3_vl("qwen3_vl_moe:Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe:Qwen3VLMoeProcessingInfo"),
    ),
    Family(
        model_type="qwen3_5",
        name="Qwen3.5",
        hub_names=r"qwen3\.5-\d",
        processor="Qwen3VLProcessor",
        video_processor="Qwen3VLVideoProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        recurrent=True,
        vision=_QWEN3_VISION,
        text=_LINEAR_TEXT,
        tiny={"vision_config": _TINY_QWEN3_TOWER, "text_config": _TINY_LINEAR_TEXT},
        vllm=_like_qwen3_vl("qwen3_5:Qwen3_5ForConditionalGeneration", "qwen3_5:Qwen3_5ProcessingInfo"),
    ),
    Family(
        model_type="qwen3_5_moe",
        name="Qwen3.5-MoE",
        hub_names=r"qwen3\.5-\d+b-a\d",
        processor="Qwen3VLProcessor",
        video_processor="Qwen3VLVideoProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        recurrent=True,
        experts=True,
        vision=_QWEN3_VISION,
        text={**_LINEAR_TEXT, "shared_expert_intermediate_size": 512},
        tiny={
            "vision_config": _TINY_QWEN3_TOWER,
            "text_config": {**_TINY_LINEAR_TEXT, **_TINY_EXPERTS, "shared_expert_intermediate_size": 64},
        },
        vllm=_like_qwen3_vl("qwen3_5:Qwen3_5MoeForConditionalGeneration", "qwen3_5:Qwen3_5MoeProcessingInfo"),
    ),
    Family(
        model_type="qwen4_exp",
        name="Qwen4-Exp",
        hub_names=r"qwen3\.8-flash-next",
        processor="Qwen3VLProcessor",
        images=_QWEN3_IMAGES,
        interpolated=True,
        recurrent=True,
        experts=True,
        vision=_QWEN3_VISION,
        text={
            **_LINEAR_TEXT,
            "shared_expert_intermediate_size": 512,
            "hc_count": 4,
            "hc_lowrank": 320,
            "ple_conv_kernel_size": 4,
        },
        tiny={"vision_config": _TINY_QWEN3_TOWER, "text_config": _TINY_QWEN4_TEXT},
        without_vllm="its class in vLLM is not tested",
    ),
)
