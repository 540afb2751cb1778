"""What a family of models is: one frozen record of facts.

Classes of other libraries are named, not imported, so that reading a record loads neither torch nor transformers nor
vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: A regular expression that nothing matches.
NO_NAMES = r"(?!)"


@dataclass(frozen=True)
class ImageSettings:
    """Settings of the image processor that a family's published models come with.

    Args:
        patch_size: side of a patch of the vision tower in pixels.
        min_pixels, max_pixels: least and largest area of the resized image in pixels.
        mean, std: of the normalisation, per channel.
        merge_size: patches along the side of a block, which becomes one token.
        temporal_patch_size: frames in a patch; an image is repeated as often.
    """

    patch_size: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    merge_size: int = 2
    temporal_patch_size: int = 2


@dataclass(frozen=True)
class ImageTokens:
    """Special tokens around an image in a prompt.

    Args:
        start, image, end: before an image, its placeholder, and after it.
        video: the placeholder of a video.
        more: other special tokens that the stock processor looks up.
    """

    start: str = "<|vision_start|>"
    image: str = "<|image_pad|>"
    end: str = "<|vision_end|>"
    video: str = "<|video_pad|>"
    more: tuple[str, ...] = ()

    @property
    def hole(self) -> str:
        """An image's part of a prompt."""
        return self.start + self.image + self.end


@dataclass(frozen=True)
class VllmClasses:
    """Names of a family's classes in ``vllm.model_executor.models``, as ``module:Class``.

    Args:
        model: the model class; its class name is the architecture in the model's ``config.json``.
        tower: the class of its vision tower.
        info, processor, dummy_inputs: the classes that vLLM's registry of multimodal models holds for it.
        videos: its videos are pruned too; those of the others are served whole.
        metadata: the function in :mod:`pixelprune.vllm.towers` that places kept patches for this tower.
    """

    model: str
    tower: str
    info: str
    processor: str
    dummy_inputs: str
    metadata: str
    videos: bool = False

    @property
    def architecture(self) -> str:
        """The name of the model class alone."""
        return self.model.partition(":")[2]


@dataclass(frozen=True)
class Family:
    """What is known about one family.

    Args:
        model_type: ``config.model_type``.
        name: as people write it.
        hub_names: a regular expression for the beginning of its models' names on the hub, in lower case and without
            the owner. Where several families match, the longest match counts. :data:`NO_NAMES` where no published
            model is known.
        processor: name of the stock processor class in ``transformers``.
        video_processor: name of its stock video processor class there; empty where videos are not pruned.
        images: settings of its stock image processor.
        image_processor: the class of that in ``transformers``, one of
            :data:`~pixelprune.models.resize.IMAGE_PROCESSORS`.
        tokens: of its prompts.
        interpolated: the tower takes indices and weights with which a learned position table is resampled to the grid.
        windowed: the tower attends within windows in most layers.
        deepstack: the tower hands features of its inner layers to the language model's first layers.
        recurrent: the language model has recurrent (linear attention) layers, which cannot mask tokens out.
        sliding: the language model has layers that attend within a window of tokens, of which dropped ones are none.
        experts: the language model is a mixture of experts.
        tower_width, tower_mlp, tower_output: keys of the vision config for the tower's width, that of its MLP, and
            that of its features.
        gated_tower: the tower's MLP has three matrices, not two.
        merger_mlp: keys of the vision config whose product is the width of the gated MLP in GLM's merger; empty where
            the merger is Qwen's, of two layers.
        vision, text: defaults of transformers' configuration classes, for keys that published configs leave out.
        tiny: keys of a tiny config that are this family's own, over those that all tiny configs share.
        vllm: its classes in vLLM; None where vLLM cannot serve it pruned.
        without_vllm: where ``vllm`` is None, the reason.
    """

    model_type: str
    name: str
    hub_names: str
    processor: str
    images: ImageSettings
    image_processor: str = "Qwen2VLImageProcessor"
    tokens: ImageTokens = ImageTokens()
    video_processor: str = ""
    interpolated: bool = False
    windowed: bool = False
    deepstack: bool = False
    recurrent: bool = False
    sliding: bool = False
    experts: bool = False
    tower_width: str = "hidden_size"
    tower_mlp: str = "intermediate_size"
    tower_output: str = "out_hidden_size"
    gated_tower: bool = False
    merger_mlp: tuple[str, ...] = ()
    vision: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    text: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    tiny: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False, repr=False)
    vllm: VllmClasses | None = None
    without_vllm: str = ""

    @property
    def masking_differs(self) -> bool:
        """Whether a masked token is not as a missing one: a recurrent state reads it, and a window counts it."""
        return self.recurrent or self.sliding
