"""The stock processor of a model, with pruned images.

Only two things differ from the stock class: an image's placeholder has as many tokens as blocks are kept, and
``pixelprune_kept`` is returned beside ``input_ids``, from which an enabled model places the kept tokens.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import make_flat_list_of_images
from transformers.video_utils import make_batched_videos

from ..core.config import PruneConfig
from ..core.geometry import joined_blocks
from ..core.preprocess import ImageReport, ImageSelection
from ..core.sequence import warm_up
from ..errors import ConfigError, PrunedInputError
from ..models.family import Family
from ..models.registry import family_of
from .image_processor import CALL, SELECTIONS, Call, pruned_image_processor
from .kept import KEPT, align_kept, read_kept, write_kept
from .modality import IMAGE, MODALITIES, VIDEO, Modality
from .positions import Placed, RopeIndex, pruned_positions, rope_index_of
from .source import locate
from .video_processor import VIDEO_SELECTIONS, pruned_video_processor


class PrunedProcessor:
    """A processor that prunes images; load one with :meth:`from_pretrained`.

    The object returned is an instance of a subclass of the family's stock processor (so of ``ProcessorMixin``), is
    called in every way the stock one is, and returns the stock keys, with kept patches only in ``pixel_values``, the
    full grids in ``image_grid_thw``, and one more key, ``pixelprune_kept`` int64 ``(batch, length)``: which block each
    image token is (see :mod:`pixelprune.hf.kept`). Videos are pruned in the same way, with ``pixel_values_videos`` and
    ``video_grid_thw``, where the family has them and torchvision is there, which all video processors need. Texts alone
    are processed as by the stock processor, and with ``prune = None`` images and videos too.

    Attributes:
        last_report: one :class:`~pixelprune.hf.ImageReport` per image of the latest call.
        last_video_report: per video of the latest call a list of them, one for all frames of one token.
    """

    last_report: list[ImageReport]
    last_video_report: list[list[ImageReport]]
    family: Family
    skip_tensor_conversion: ClassVar[list[str]] = [
        *ProcessorMixin.skip_tensor_conversion,
        SELECTIONS,
        VIDEO_SELECTIONS,
    ]
    _rope_index: RopeIndex
    _video_settings: dict[str, Any] | None = None
    _video_overrides: dict[str, Any]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load a model's processor and make it prune.

        Args:
            pretrained_model_name_or_path: a hub id or a local folder, of a model or of an adapter of one (PEFT).
            kwargs: any setting of :class:`pixelprune.PruneConfig` by its name (``method``, ``metric``, ``threshold``,
                ``anchored``, ``max_tokens``, ...), and what the stock ``from_pretrained`` takes (``revision``,
                ``cache_dir``, ``size``, ...).

        Raises:
            ConfigError: a setting is not allowed, or misspelt.
            UnsupportedModelError: the model's family is not supported, or the folder holds no model.
        """
        # The stock method drops names that it does not know.
        prune, kwargs = PruneConfig.from_keywords(kwargs, "PrunedProcessor.from_pretrained()", PruneConfig())
        source = locate(pretrained_model_name_or_path, kwargs)
        family = family_of(source.config.model_type)
        processor_class = _pruned_class(getattr(transformers, family.processor))
        stock: Any = super(PrunedProcessor, processor_class)
        processor = stock.from_pretrained(source.processor, **source.hub, **kwargs)
        processor.image_processor = pruned_image_processor(processor.image_processor, prune)
        processor.prune = prune
        processor.family = family
        processor.last_report = []
        processor.last_video_report = []
        processor._rope_index = rope_index_of(source.config)
        processor._video_settings = _video_settings_of(source.processor, source.hub)
        processor._video_overrides = {name: value for name, value in kwargs.items() if name not in source.hub}
        return processor

    @property
    def prune(self) -> PruneConfig | None:
        """The settings. Assign a new :class:`pixelprune.PruneConfig` to change them, or ``None`` to prune nothing."""
        config: PruneConfig | None = self.image_processor.prune  # type: ignore[attr-defined]
        return config

    @prune.setter
    def prune(self, config: PruneConfig | None) -> None:
        if not isinstance(config, PruneConfig | None):
            raise ConfigError(f"prune must be a PruneConfig, or None to prune nothing; got {config!r}")
        processor: Any = self.image_processor  # type: ignore[attr-defined]
        if config is not None:
            warm_up(config, processor.patch_size * processor.merge_size)
        processor.prune = config

    def __call__(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> BatchFeature:
        """As the stock processor's call; ``images`` and ``videos`` need their ``text``.

        Args:
            images, text, videos, audio: as for the stock processor. Each text is a row: with ``references``, its images
                refer to earlier images of its own, and the frames of a video to earlier frames of that video.
            kwargs: those of the stock processor, and settings by their names, for this call in place of ``prune``'s.

        Raises:
            ConfigError: a setting is not allowed, or misspelt.
            PrunedInputError: images or videos without text, placeholders that do not fit them, or videos that cannot
                be processed here.
        """
        if text is None and (images is not None or videos is not None):
            raise PrunedInputError("pruned images need their text (with one image placeholder each); got images alone")
        if videos is not None and "video_processor" not in self.__dict__:
            self.__dict__["video_processor"] = pruned_video_processor(
                self.family, self._video_settings, self._video_overrides
            )
        config, kwargs = PruneConfig.from_keywords(kwargs, "a call of the processor", self.prune)
        call = CALL.set(Call(config))
        try:
            batch: BatchFeature = super().__call__(  # type: ignore[misc]
                images=images, text=text, videos=videos, audio=audio, **kwargs
            )
        finally:
            CALL.reset(call)
        images_chosen: list[ImageSelection] = batch.pop(SELECTIONS, [])
        videos_chosen: list[list[ImageSelection]] = batch.pop(VIDEO_SELECTIONS, [])
        self.last_report = [chosen.report for chosen in images_chosen]
        self.last_video_report = [[chosen.report for chosen in video] for video in videos_chosen]
        if config is not None and (images_chosen or videos_chosen):
            batch[KEPT] = self._kept(batch, images_chosen, videos_chosen)
        return batch

    def validate_inputs(self, images: Any = None, text: Any = None, videos: Any = None, **kwargs: Any) -> None:
        """As the stock one, which counts placeholders in newer releases only."""
        if text is not None:
            texts = [text] if isinstance(text, str) else text
            token: str = self.image_token  # type: ignore[attr-defined]
            per_row = [sample.count(token) if isinstance(sample, str) else 0 for sample in texts]
            placeholders = sum(per_row)
            flat: Any = [] if images is None else make_flat_list_of_images(images)
            if videos is not None:
                hole: str = self.video_token  # type: ignore[attr-defined]
                holes, count = sum(str(sample).count(hole) for sample in texts), len(make_batched_videos(videos))
                if holes != count:
                    raise PrunedInputError(
                        f"the text has {holes} video placeholders ({hole}) but {count} videos were passed; give each "
                        f"video one placeholder"
                    )
            if placeholders != len(flat):
                raise PrunedInputError(
                    f"the text has {placeholders} image placeholders ({token}) but {len(flat)} images were passed; "
                    f"give each image one placeholder"
                )
            call = CALL.get()
            if call is not None:
                call.images_per_row = per_row
        super().validate_inputs(images=images, text=text, videos=videos, **kwargs)  # type: ignore[misc]

    def position_ids(self, batch: Any) -> torch.Tensor:
        """The positions that an enabled model gives to the tokens of an output of this processor.

        ``forward`` and ``generate`` compute them by themselves; callers that pack rows or run a model piece by piece
        pass them.

        Args:
            batch: an output of this processor: rows of one length, in tensors, arrays or lists.

        Returns:
            int64 ``(4, batch, length)``: text position, then temporal, height and width; 0 on padding.
        """
        ids = np.asarray(batch["input_ids"], np.int64)
        mask, kept = batch.get("attention_mask"), batch.get(KEPT)
        tokens = [getattr(self, modality.token_id) for modality in MODALITIES]
        if kept is not None:
            kept = align_kept(np.asarray(kept, np.int64), np.isin(ids, tokens))
        placed = []
        for modality, token in zip(MODALITIES, tokens, strict=True):
            grids = np.asarray(batch.get(modality.grid, np.zeros((0, 3))), np.int64)
            is_its = ids == token
            items = read_kept(None if kept is None else kept * is_its, is_its, self._blocks(grids))
            placed.append(Placed(modality, token, grids, items))
        positions = pruned_positions(
            self._rope_index,
            ids,
            None if mask is None else np.asarray(mask, bool),
            placed,
            batch.get("second_per_grid_ts"),
        )
        return torch.from_numpy(positions)

    def _kept(self, batch: BatchFeature, images: list[ImageSelection], videos: list[list[ImageSelection]]) -> Any:
        """``pixelprune_kept`` of the batch, of the kind of its ``input_ids``: a tensor, an array, or lists where rows
        are ragged."""
        ids = batch["input_ids"]
        rows = [np.asarray(row, dtype=np.int64) for row in ids]
        kept: dict[Modality, list[Any]] = {
            IMAGE: [chosen.kept_indices for chosen in images],
            VIDEO: [_joined([chosen.kept_indices for chosen in video], video[0].report.total) for video in videos],
        }
        written = [
            write_kept(
                rows, getattr(self, modality.token_id), each, self._blocks(np.asarray(batch[modality.grid], np.int64))
            )
            for modality, each in kept.items()
            if each
        ]
        values = [np.sum(parts, axis=0) for parts in zip(*written, strict=True)]
        if isinstance(ids, torch.Tensor):
            return torch.from_numpy(np.stack(values))
        if isinstance(ids, np.ndarray) and ids.dtype != object:  # ragged rows come as an array of lists
            return np.stack(values)
        return [row.tolist() for row in values]

    def _blocks(self, grids: Any) -> list[int]:
        merge: int = self.image_processor.merge_size  # type: ignore[attr-defined]
        return [int(blocks) for blocks in grids.prod(-1) // merge**2]

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """The placeholder of an image: one token per kept block."""
        token: str = self.image_token  # type: ignore[attr-defined]
        return token * image_inputs[SELECTIONS][image_idx].num_kept

    def replace_video_token(self, video_inputs: dict[str, Any], video_idx: int, **kwargs: Any) -> str:
        """The placeholder of a video, timestamps and all: one token per kept block."""
        whole: str = super().replace_video_token(video_inputs, video_idx, **kwargs)  # type: ignore[misc]
        token: str = self.video_token  # type: ignore[attr-defined]
        counts = [chosen.num_kept for chosen in video_inputs[VIDEO_SELECTIONS][video_idx]]
        runs = re.split(f"(?:{re.escape(token)})+", whole)
        if len(runs) == 2:  # one run for all frames
            counts = [sum(counts)]
        return "".join(text + token * count for text, count in zip(runs, [*counts, 0], strict=True))

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Without the video processor, which would need torchvision."""
        names: list[str] = super().get_attributes()  # type: ignore[misc]
        return [name for name in names if name != "video_processor"]

    def to_dict(self) -> dict[str, Any]:
        """As the stock one: what is saved loads as the stock processor, video processor included."""
        settings: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        if self._video_settings:
            settings["video_processor"] = dict(self._video_settings)
        return settings

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the latest reports: caches of processed data are keyed by the pickled processor. The video processor
        # is built again when it is needed.
        state = {name: value for name, value in self.__dict__.items() if name != "video_processor"}
        return _restore, (type(self).__mro__[2],), {**state, "last_report": [], "last_video_report": []}


def _joined(kept: list[NDArray[np.int32]], blocks: int) -> NDArray[np.int64]:
    """The kept blocks of a video's frames, numbered over the whole video."""
    return joined_blocks(kept, [blocks] * len(kept))


def _video_settings_of(source: Any, hub: dict[str, Any]) -> dict[str, Any] | None:
    """Settings of the video processor, which is not built but saved along."""
    from transformers.video_processing_utils import BaseVideoProcessor

    try:
        settings: dict[str, Any] = BaseVideoProcessor.get_video_processor_dict(source, **hub)[0]
    except OSError:
        return None
    return settings


def _restore(stock_class: type) -> Any:
    cls = _pruned_class(stock_class)
    return cls.__new__(cls)


@cache
def _pruned_class(stock_class: type) -> Any:
    # Under the stock name, so that what it saves loads with the stock class.
    return type(stock_class.__name__, (PrunedProcessor, stock_class), {"__module__": __name__})
