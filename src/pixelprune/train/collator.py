"""Conversations to batches that a model's ``forward`` takes: pruned or whole, padded or packed."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..core.frames import FRAMES_PER_SECOND, frame_files, open_video
from ..core.images import open_image, to_rgb
from ..errors import ConfigError, DataError, ImageError, PixelPruneError, UnsupportedModelError
from ..hf.kept import KEPT, whole_kept
from ..hf.modality import MODALITIES
from .answers import render
from .rows import Conversation, Video, parse_row

#: The label of tokens that are not learned.
IGNORE = -100

#: What a processor returns for images and videos, and a model takes beside the tokens.
_VISION = (*(name for modality in MODALITIES for name in (modality.pixels, modality.grid)), "second_per_grid_ts")


@dataclass(frozen=True)
class Encoded:
    """One conversation as tensors.

    Attributes:
        input_ids, mm_token_type_ids: int64 ``(length,)``.
        kept: int64 ``(length,)``, the row of ``pixelprune_kept``, or ``None`` without images or pruning.
        labels: int64 ``(length,)``: the ids of answers and of the token that ends each; -100 elsewhere.
        vision: the other inputs of the model by name: ``pixel_values`` float32 ``(kept patches, values)`` and
            ``image_grid_thw`` int64 ``(images, 3)``, the full grids in patches; for videos ``pixel_values_videos``,
            ``video_grid_thw`` and, of Qwen2.5-VL, ``second_per_grid_ts`` ``(videos,)``.
        teacher: the same conversation with whole images, for distillation.
    """

    input_ids: Tensor
    mm_token_type_ids: Tensor
    kept: Tensor | None
    labels: Tensor
    vision: dict[str, Tensor]
    teacher: Encoded | None = None


class ChatCollator:
    """A data collator for chat conversations with images and videos.

    Takes rows in every form of :func:`~pixelprune.train.parse_row` (or what :meth:`encode` made of them) and returns
    what the model's ``forward`` takes: ``input_ids``, ``labels``, ``mm_token_type_ids`` of shape ``(batch, length)``,
    ``pixelprune_kept`` of the same shape, ``pixel_values`` and ``image_grid_thw`` if there are images (and so for
    videos); and
    ``attention_mask``, or, packed, ``position_ids`` ``(4, 1, length)`` and ``use_cache=False``. Labels are -100 but on
    answers. Rows are padded on the right.

    ``pixel_values`` have no row per conversation, with this processor as with the stock one. Nothing that cuts batches
    along dimension 0 may come between this collator and the model: no ``DataParallel``, no accelerate with
    ``dispatch_batches``.

    Args:
        processor: a :class:`~pixelprune.hf.PrunedProcessor`; its settings are those of the images.
        packing: put all rows of a batch behind one another in one row, without padding. Attention does not cross
            from one to the next: ``position_ids[0]`` begins at 0 for each, from which transformers (and flash
            attention) derive the boundaries as long as there is no ``attention_mask`` and no cache.
        max_length: a conversation of more tokens, after pruning, is a bad row. It is never cut: a cut would go
            through images or answers.
        teacher: add ``teacher``, the batch with whole images, for :class:`~pixelprune.train.DistillationTrainer`.
        last_answer: learn the last answer of each conversation only.
        unpruned_fraction: share of the conversations, 0 to 1, whose images are not pruned, so that the model still
            reads whole images too. Which ones follows from their content: a row is seen the same way each time.

    Raises:
        ConfigError: the processor is not a PrunedProcessor, ``max_length`` is not a number of tokens, or
            ``unpruned_fraction`` not a fraction.
        UnsupportedModelError: packing with a recurrent family, whose state would cross the boundaries.
    """

    def __init__(
        self,
        processor: Any,
        *,
        packing: bool = False,
        max_length: int | None = None,
        teacher: bool = False,
        last_answer: bool = False,
        unpruned_fraction: float = 0.0,
    ) -> None:
        if not hasattr(processor, "prune") or not hasattr(processor, "last_report"):
            raise ConfigError(f"ChatCollator needs a PrunedProcessor; got {type(processor).__name__}")
        if max_length is not None and max_length < 1:
            raise ConfigError(f"max_length must be at least 1 token; got {max_length}")
        if not 0 <= unpruned_fraction <= 1:
            raise ConfigError(f"unpruned_fraction must be between 0 and 1; got {unpruned_fraction}")
        if packing and processor.family.recurrent:
            raise UnsupportedModelError(
                f"packing is not supported for {processor.family.model_type}: its recurrent layers carry their state "
                f"from one conversation into the next; use padding"
            )
        self.packing, self.max_length, self.last_answer = packing, max_length, last_answer
        self.processor = processor
        self.whole = _whole_twin(processor)
        self.teacher, self.unpruned_fraction = teacher, unpruned_fraction

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        """A batch of rows."""
        samples = [row if isinstance(row, Encoded) else self.encode(row) for row in rows]
        batch = self._join(samples)
        if self.teacher:
            if any(sample.teacher is None for sample in samples):
                raise ConfigError("rows were encoded without a teacher, by another collator")
            batch["teacher"] = self._join([sample.teacher for sample in samples if sample.teacher is not None])
        return batch

    def for_evaluation(self) -> ChatCollator:
        """The same collator without packing, since evaluation looks at rows one by one, and with all images pruned."""
        other = copy.copy(self)
        other.packing, other.unpruned_fraction = False, 0.0
        return other

    def encode(self, row: Conversation | Mapping[str, Any]) -> Encoded:
        """Read the images of one conversation, prune, tokenise and label it.

        Raises:
            PixelPruneError: the row cannot be used; the message begins with its file and line.
        """
        if not isinstance(row, Conversation):
            row = parse_row(row)
        text, spans = render(self.processor, row.messages, row.where)
        spans = spans[-1:] if self.last_answer else spans
        try:
            media = _media([_read(image) for image in row.images], row.videos)
            keep_whole = self.unpruned_fraction > 0 and _draw(text, media) < self.unpruned_fraction
            processor = self.whole if keep_whole else self.processor
            student = self._encode(processor, text, spans, media)
            whole = None
            if self.teacher:
                whole = student if keep_whole else self._encode(self.whole, text, spans, media)
        except UnsupportedModelError:
            raise
        except (PixelPruneError, ValueError) as error:  # transformers refuses elongated images with a ValueError
            raise DataError(f"{row.where}: {error}") from error
        if self.max_length is not None and len(student.input_ids) > self.max_length:
            raise DataError(
                f"{row.where}: {len(student.input_ids)} tokens, more than max_length {self.max_length}; raise it, or "
                f"lower the processor's max_tokens or the image size"
            )
        return student if whole is None else replace(student, teacher=whole)

    def _encode(self, processor: Any, text: str, spans: list[tuple[int, int]], media: dict[str, Any]) -> Encoded:
        output = processor(text=[text], **media, return_offsets_mapping=True, return_text_replacement_offsets=True)
        ids = torch.tensor(output["input_ids"][0])
        special = set(processor.tokenizer.all_special_ids)
        labels = torch.full_like(ids, IGNORE)
        offsets = output["offset_mapping"][0]
        for start, end in _expanded(spans, output["text_replacement_offsets"][0]):
            tokens = [token for token, (left, right) in enumerate(offsets) if left < end and right > start]
            stop = tokens[-1] + 1
            if stop == len(ids) or int(ids[stop]) not in special:
                raise UnsupportedModelError(
                    "the chat template does not end an answer with a special token, so that a model would not learn "
                    "where to stop; use the template of a chat model"
                )
            labels[tokens[0] : stop + 1] = ids[tokens[0] : stop + 1]
        return Encoded(
            ids,
            torch.tensor(output["mm_token_type_ids"][0]),
            torch.tensor(output[KEPT][0]) if KEPT in output else None,
            labels,
            {name: torch.as_tensor(output[name]) for name in _VISION if name in output},
        )

    def _positions(self, sample: Encoded) -> Tensor:
        """``(4, 1, length)``"""
        row = {"input_ids": sample.input_ids[None]}
        if sample.vision:
            row |= {KEPT: _kept_row(sample)[None], **sample.vision}
        positions: Tensor = self.processor.position_ids(row)
        return positions

    def _join(self, samples: list[Encoded]) -> dict[str, Any]:
        join = _packed if self.packing else _padded
        # input_ids come first: what wants to know the size of a batch looks at its first tensor.
        batch: dict[str, Any] = {
            "input_ids": join([sample.input_ids for sample in samples], self.processor.tokenizer.pad_token_id or 0),
            "labels": join([sample.labels for sample in samples], IGNORE),
            "mm_token_type_ids": join([sample.mm_token_type_ids for sample in samples], 0),
        }
        if self.packing:
            batch["use_cache"] = False
            batch["position_ids"] = torch.cat([self._positions(sample) for sample in samples], 2)
        else:
            batch["attention_mask"] = _padded([torch.ones_like(sample.input_ids) for sample in samples], 0)
        if any(sample.kept is not None for sample in samples):
            batch[KEPT] = join([_kept_row(sample) for sample in samples], 0)
        for name in _VISION:
            parts = [sample.vision[name] for sample in samples if name in sample.vision]
            if parts:
                batch[name] = torch.cat(parts)
        return batch


def _kept_row(sample: Encoded) -> Tensor:
    """The row of ``pixelprune_kept``, also of whole images, which a processor that prunes nothing leaves out."""
    if sample.kept is not None:
        return sample.kept
    row: Tensor = sum(whole_kept(sample.mm_token_type_ids == modality.token_type) for modality in MODALITIES)
    return row


def _whole_twin(processor: Any) -> Any:
    """The same processor that prunes nothing."""
    twin = copy.copy(processor)
    twin.image_processor = copy.copy(processor.image_processor)
    twin.prune = None
    return twin


def _draw(text: str, media: Mapping[str, Any]) -> float:
    """A number from 0 up to 1 that looks random and depends on the content alone."""
    digest = zlib.crc32(text.encode())
    for content in [*media.get("images", []), *media.get("videos", [])]:
        digest = zlib.crc32(content.tobytes(), digest)
    return digest / 2**32


def _media(images: list[Image.Image], videos: list[Video]) -> dict[str, Any]:
    """The arguments of a processor's call for the images and videos of a row."""
    media: dict[str, Any] = {"images": images} if images else {}
    if videos:
        frames = [_frames(video.source) for video in videos]
        media |= {
            "videos": frames,
            "do_sample_frames": False,
            "video_metadata": [
                {
                    "fps": video.fps or FRAMES_PER_SECOND,
                    "total_num_frames": len(each),
                    "frames_indices": list(range(len(each))),
                }
                for video, each in zip(videos, frames, strict=True)
            ],
        }
    return media


def _frames(source: Path | list[Path | Image.Image]) -> NDArray[np.uint8]:
    """uint8 ``(frames, H, W, 3)`` of one video."""
    files: list[Path | Image.Image]
    if isinstance(source, list):
        files = source
    elif source.is_dir():
        files = list(frame_files(source))
    else:
        files = [frame for _, frame in open_video(source)]
    frames = [np.asarray(_read(frame)) for frame in files]
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise ImageError(f"the frames of a video must be of one size; got (height, width) {sorted(sizes)}")
    return np.stack(frames)


def _read(image: Path | Image.Image) -> Image.Image:
    try:
        return to_rgb(image) if isinstance(image, Image.Image) else open_image(image)
    except OSError as error:  # of a picture that was opened elsewhere and is only decoded here
        name = getattr(image, "filename", "") or "an image" if isinstance(image, Image.Image) else image
        raise ImageError(f"{name}: {error.strerror or error}") from error


def _expanded(spans: list[tuple[int, int]], replaced: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Spans of a text in the text whose placeholders the processor has replaced."""
    moved = []
    for start, end in spans:
        before = [each for each in replaced if each["span"][1] <= start]
        shift = sum(len(each["replacement"]) - len(each["text"]) for each in before)
        moved.append((start + shift, end + shift))
    return moved


def _packed(rows: list[Tensor], value: int) -> Tensor:
    return torch.cat(rows)[None]


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
