"""Write a saved state as a folder that stock ``from_pretrained`` loads: bfloat16 weights, tokenizer, image processor.

python -m recipes.tiny_reader.export --state OUT/pages.pt --out OUT/reader
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import GenerationConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from . import model

SMALLEST, LARGEST = 160 * 160, 640 * 640  # pixels; other pages are scaled to them


def export(state: Path, folder: Path) -> None:
    """Write the model of a state of ``pretrain_pages``."""
    full, tok = model.build()
    masters = torch.load(state)["masters"]
    weights = {name.removeprefix("full."): value for name, value in masters.items() if name.startswith("full.")}
    missing, unexpected = full.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert missing in ([], ["lm_head.weight"]), missing
    token = tok.convert_tokens_to_ids
    full.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=token("<|im_end|>"), pad_token_id=token("<|endoftext|>"), max_new_tokens=64
    )
    full.bfloat16().save_pretrained(folder)
    tok._set_processor_class("Qwen3VLProcessor")
    tok.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": SMALLEST, "longest_edge": LARGEST},
    ).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    export(args.state, args.out)


if __name__ == "__main__":
    main()
