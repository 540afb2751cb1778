"""Families of vision-language models that are refused by name, with the reason.

Any other ``model_type`` that is not in the registry is refused without one.
"""

from __future__ import annotations

#: What the families with this reason have in common; the tests look at it in transformers.
ONE_AXIS = (
    "its text positions have one axis, in which dropped blocks leave gaps, and without an attention mask transformers "
    "takes a gap for the border of a packed sequence and cuts attention there"
)
_ROWS = "its vision tower ends every row of an image with a feature of its own, so rows cannot lose blocks"
_NEIGHBOURS = (
    "its vision tower has convolutions over neighbouring patches, so the features of kept ones need dropped ones"
)
_WINDOWS = (
    "its vision tower merges whole windows of patches in the midst of its layers, so a block cannot be dropped alone"
)

_RASTER = "its image processor lays patches out row by row, and its projector cuts features by the whole grid (not yet)"
_RESAMPLER = "a resampler beside its vision tower cuts features by the whole grid (not yet)"
_OMNI = "its positions are computed from audio and video too, by a method with other arguments (not yet)"

#: The reason by ``model_type``.
REFUSED: dict[str, str] = {
    "exaone4_5": ONE_AXIS,
    "dots3_note": ONE_AXIS,
    "glm5_next": ONE_AXIS,
    "kimi_k25": ONE_AXIS,
    "minimax_m3_vl": ONE_AXIS,
    "hunyuan_vl": _ROWS,
    "hy_v4_vl": _ROWS,
    "lfm3_vl": _NEIGHBOURS,
    "minicpm_ocr": _WINDOWS,
    "minicpmv4_6": _WINDOWS,
    "minicpmv4_7": _WINDOWS,
    "paddleocr_vl": _RASTER,
    "ernie4_5_vl_moe": _RESAMPLER,
    "qwen2_5_omni": _OMNI,
    "qwen2_5_omni_thinker": _OMNI,
    "qwen3_omni_moe": _OMNI,
    "qwen3_omni_moe_thinker": _OMNI,
    "opencua": "its classes are code of its own beside the weights, not those of transformers",
}
