"""The rows of Cohere's families."""

from __future__ import annotations

from .family import Family, ImageSettings, ImageTokens

COHERE = (
    Family(
        model_type="cohere_compass",
        name="Cohere Compass",
        hub_names=r"north-micro-vision",
        processor="CohereCompassProcessor",
        images=ImageSettings(
            patch_size=16, min_pixels=16384, max_pixels=3868706, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        ),
        image_processor="CohereCompassImageProcessor",
        tokens=ImageTokens("<|VISION_START|>", "<|IMAGE_PAD|>", "<|VISION_END|>", "<|VIDEO_PAD|>"),
        interpolated=True,
        deepstack=True,
        sliding=True,
        vision={
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "deepstack_visual_indexes": (8, 16, 24),
        },
        text={"sliding_window": 4096},
        tiny={
            "vision_config": {
                "hidden_size": 64,
                "intermediate_size": 96,
                "out_hidden_size": 64,
                "num_position_embeddings": 144,
                "deepstack_visual_indexes": [0, 2],
            },
            "text_config": {
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                "sliding_window": 96,
                "logit_scale": 0.5,
                "rope_parameters": {
                    "sliding_attention": {
                        "rope_type": "default",
                        "rope_theta": 10000.0,
                        "mrope_interleaved": True,
                        "mrope_section": [4, 2, 2],
                    },
                    "full_attention": None,
                },
            },
        },
        without_vllm="vLLM answers otherwise than transformers on the tiny model, whole images too",
    ),
)
