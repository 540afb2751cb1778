"""Many questions about one page, of which any blocks are kept: the page is encoded once, and the questions share it.

Plain ``generate`` would read the page again for each question. The answers are those of ``generate``, greedily; a
test compares them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from pixelprune.hf.encode import encode_kept
from pixelprune.models.registry import family_of

from . import conversation

LONGEST = 48  # tokens of an answer


class Reading:
    """One image and questions about it, for one model.

    Args:
        model: an enabled Qwen3-VL.
        processor: its PrunedProcessor; left without pruning.
        image: as it is handed to the processor.
        texts: the questions.
        sizes: what the processor takes beside them, such as ``size``.
    """

    def __init__(self, model: Any, processor: Any, image: Image.Image, texts: list[str], **sizes: Any) -> None:
        self.model, self.processor = model, processor
        processor.prune = None
        tok = processor.tokenizer
        output = processor(text=[conversation.PREFIX + "<|image_pad|>"], images=[image], return_tensors="pt", **sizes)
        self._pixels, self._grid = output["pixel_values"], output["image_grid_thw"]
        self.rows, self.columns = (int(n) // 2 for n in self._grid[0, 1:])
        self._head = tok(conversation.PREFIX, add_special_tokens=False).input_ids
        self._end = tok("<|vision_end|>", add_special_tokens=False).input_ids
        self._questions = [tok(text + conversation.MIDDLE, add_special_tokens=False).input_ids for text in texts]
        self._known: dict[bytes, list[str]] = {}

    def ask(self, kept: NDArray[np.int32]) -> list[str]:
        """The answers where only the blocks of these flat indices (ascending) are seen; each set is asked once."""
        key = kept.astype(np.int32).tobytes()
        if key not in self._known:
            self._known[key] = self._ask(kept.astype(np.int64))
        return self._known[key]

    @torch.inference_mode()
    def _ask(self, kept: NDArray[np.int64]) -> list[str]:
        base, config = self.model.base_model, self.model.config
        cache = DynamicCache(config=config.text_config)
        length, place = self._read_page(kept, cache)
        count = len(self._questions)
        cache.batch_repeat_interleave(count)
        ids, mask = self._padded_questions(config.text_config.pad_token_id)
        text = (mask.cumsum(1) - 1).clamp(min=0)
        mask = torch.cat([torch.ones((count, length), dtype=torch.long), mask], dim=1)
        asked = torch.tensor([len(question) for question in self._questions])
        alive = torch.arange(count)
        answers: list[list[int]] = [[] for _ in range(count)]
        for step in range(LONGEST):
            positions = torch.cat([(text + length)[None], (text + place).expand(3, -1, -1)])
            states = base(input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache)
            tokens = self.model.lm_head(states.last_hidden_state[:, -1]).argmax(-1)
            on = tokens != config.text_config.eos_token_id
            for row, token in zip(alive[on].tolist(), tokens[on].tolist(), strict=True):
                answers[row].append(token)
            if not on.any():
                break
            cache.batch_select_indices(on.nonzero()[:, 0])
            alive, ids = alive[on], tokens[on, None]
            mask = torch.cat([mask[on], torch.ones((len(alive), 1), dtype=torch.long)], dim=1)
            text = (asked[alive] + step)[:, None]
        decoded: list[str] = self.processor.batch_decode(answers, skip_special_tokens=True)
        return decoded

    def _read_page(self, kept: NDArray[np.int64], cache: Any) -> tuple[int, int]:
        """Put the page into the cache; its tokens, and the M-RoPE position of what follows."""
        base, start = self.model.base_model, len(self._head)
        patches = torch.from_numpy((kept[:, None] * 4 + np.arange(4)).ravel())
        encoded = encode_kept(base.visual, family_of(base.config.model_type), self._pixels[patches], self._grid, [kept])
        after = start + max(self.rows, self.columns)
        image = conversation.image_positions(start, self.rows, self.columns)[:, kept]
        vision = np.concatenate([np.tile(np.arange(start), (3, 1)), image, np.full((3, 1), after)], axis=1)
        ids = torch.tensor([[*self._head, *[base.config.image_token_id] * len(kept), *self._end]])
        positions = np.concatenate([np.arange(ids.shape[1])[None], vision])
        base(
            input_ids=ids,
            position_ids=torch.from_numpy(positions)[:, None],
            attention_mask=torch.ones_like(ids),
            mm_encoder_outputs={"image": encoded},
            past_key_values=cache,
        )
        return ids.shape[1], after + 1

    def _padded_questions(self, pad: int) -> tuple[Tensor, Tensor]:
        """The questions, padded on the left, and which tokens are theirs."""
        longest = max(map(len, self._questions))
        ids = torch.tensor([[pad] * (longest - len(question)) + question for question in self._questions])
        mask = torch.tensor([[0] * (longest - len(question)) + [1] * len(question) for question in self._questions])
        return ids, mask
