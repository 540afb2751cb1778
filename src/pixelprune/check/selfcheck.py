"""Check in seconds that pruning is right on this machine, with these versions: a tiny model against the oracle."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..hf.enable import enable
from ..hf.processor import PrunedProcessor
from ..models.registry import family_of
from . import oracle
from .tiny import build_tiny, tiny_model

#: Largest difference allowed, relative to the largest logit: float32, in another order of summation.
TOLERANCE = 5e-3


@dataclass(frozen=True)
class CheckResult:
    """Outcome for one family.

    Attributes:
        model_type: the family.
        retain_ratio: blocks kept over all blocks of the image.
        difference: largest difference of pruned logits and the oracle's, relative to the largest logit.
        control: the same with positions broken on purpose; must be large, or the check would see nothing.
        same_answer: greedy tokens are the oracle's.
        seconds: wall time.
    """

    model_type: str
    retain_ratio: float
    difference: float
    control: float
    same_answer: bool
    seconds: float

    @property
    def passed(self) -> bool:
        """Something was pruned, pruned equals the oracle, and broken does not."""
        return self.retain_ratio < 1 and self.difference < TOLERANCE < self.control and self.same_answer


def check_family(model_type: str) -> CheckResult:
    """Compare a tiny random model of a family, fed pruned inputs, with the oracle on the plain model."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        processor = PrunedProcessor.from_pretrained(build_tiny(folder, model_type, weights=False))
        model = enable(tiny_model(model_type))
        image = Image.fromarray(_page())
        text = f"{family_of(model_type).tokens.hole}Total?"
        inputs = processor(text=[text], images=[image], return_tensors="pt")
        retained = processor.last_report[0].retain_ratio
        full = _full_inputs(processor, text, image)
        with torch.no_grad():
            expected = oracle.logits(model, full)
            got = model(**inputs).logits[0]
            positions = processor.position_ids(inputs)
            tail = int((inputs["mm_token_type_ids"][0] == 1).nonzero()[-1]) + 1
            positions[1:, :, tail:] -= 2
            control = model(**inputs, position_ids=positions).logits[0]
        answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        same = answer.tolist() == oracle.generate(model, full, 4)
    scale = float(expected.abs().max())
    return CheckResult(
        model_type,
        retained,
        float((got - expected).abs().max()) / scale,
        float((control - expected).abs().max()) / scale,
        same,
        time.perf_counter() - start,
    )


def _page() -> NDArray[np.uint8]:
    """A light page of 320 x 256 pixels with lines of dark marks, drawn anew each time from the same seed."""
    rng = np.random.default_rng(0)
    page = np.full((256, 320, 3), 250, np.uint8)
    for top in range(40, 220, 24):
        ink = rng.random((12, int(rng.integers(60, 240)), 1)) < 0.5
        line = page[top : top + 12, 36 : 36 + ink.shape[1]]
        line[...] = np.where(ink, 20, line)
    return page


def _full_inputs(processor: Any, text: str, image: Image.Image) -> oracle.FullInputs:
    """The whole image by the stock code, and what pruning keeps of it."""
    kept = processor.image_processor(images=[image])["pixelprune_selections"][0].kept_indices
    prune, processor.prune = processor.prune, None
    try:
        whole = processor(text=[text], images=[image], return_tensors="pt")
    finally:
        processor.prune = prune
    return oracle.FullInputs(
        whole["input_ids"][0], whole["pixel_values"], whole["image_grid_thw"], [torch.tensor(kept).long()]
    )
