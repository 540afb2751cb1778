"""Fine-tune with TRL's SFTTrainer: pruned images through the collator, everything else as TRL has it.

    python examples/train/trl_sft.py Qwen/Qwen3-VL-2B-Instruct examples/train/data/train.jsonl out/trl

The JSONL file is in any form that docs/training.md describes.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForImageTextToText
from trl import SFTConfig, SFTTrainer

from pixelprune.hf import PrunedProcessor, enable
from pixelprune.train import ChatCollator, Conversations


def build(model: str, data: str, output: str, **settings: Any) -> SFTTrainer:
    """A trainer; ``settings`` are those of ``SFTConfig``."""
    processor = PrunedProcessor.from_pretrained(model, threshold=0.0)
    collate = ChatCollator(processor)
    rows = Conversations([data])  # a bad row ends the run here, with its line

    def collate_rows(batch: list[dict[str, int]]) -> dict[str, Any]:
        return collate([rows[item["row"]] for item in batch])

    defaults = {"bf16": torch.cuda.is_available()}  # TRL's own default stops on a machine without a GPU
    return SFTTrainer(
        model=enable(AutoModelForImageTextToText.from_pretrained(model)),
        args=SFTConfig(
            output_dir=output,
            max_length=None,  # a cut would go through images; the collator's max_length refuses instead
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},  # the collator does all of it
            **(defaults | settings),
        ),
        # TRL takes tables only, and the rows of a file need not share a schema: a table of row numbers.
        train_dataset=Dataset.from_dict({"row": range(len(rows))}),
        data_collator=collate_rows,
        processing_class=processor,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", help="a folder or a hub id")
    options.add_argument("data", help="a JSONL file")
    options.add_argument("output", help="the folder for the trained model")
    options.add_argument("--max-steps", type=int, default=100)
    args = options.parse_args()
    trainer = build(args.model, args.data, args.output, max_steps=args.max_steps, logging_steps=10, report_to="none")
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
