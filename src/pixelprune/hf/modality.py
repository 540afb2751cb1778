"""Images and videos: what transformers calls their inputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One kind of visual input of a model.

    Attributes:
        name: the key in ``mm_encoder_outputs``.
        token_type: its tokens in ``mm_token_type_ids``.
        pixels, grid: the names of its patches and of its grids in a call.
        token_id: the name of its placeholder in the model's config, and in a processor.
        article: of its name.
    """

    name: str
    token_type: int
    pixels: str
    grid: str
    token_id: str
    article: str


IMAGE = Modality("image", 1, "pixel_values", "image_grid_thw", "image_token_id", "an")
VIDEO = Modality("video", 2, "pixel_values_videos", "video_grid_thw", "video_token_id", "a")
MODALITIES = (IMAGE, VIDEO)
