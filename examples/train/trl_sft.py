"""Fine-tune with TRL's SFTTrainer: pruned images through the collator, everything else as TRL has it.

    python examples/train/trl_sft.py Qwen/Qwen3-VL-2B-Instruct data/train.jsonl out/trl

The JSONL file is in the messages form with ``<image>`` marks in the texts and a list ``images``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import AutoModelForImageTextToText
from trl import SFTConfig, SFTTrainer

from pixelprune.hf import PrunedProcessor, enable
from pixelprune.train import ChatCollator


def build(model: str, data: str, output: str, **settings: Any) -> SFTTrainer:
    """A trainer; ``settings`` are those of ``SFTConfig``."""
    processor = PrunedProcessor.from_pretrained(model, threshold=0.0)
    rows = load_dataset("json", data_files=data, split="train")
    folder = Path(data).resolve().parent
    rows = rows.map(lambda row: {"images": [str(folder / image) for image in row["images"]]})
    return SFTTrainer(
        model=enable(AutoModelForImageTextToText.from_pretrained(model)),
        args=SFTConfig(
            output_dir=output,
            max_length=None,  # a cut would go through images; the collator's max_length refuses instead
            remove_unused_columns=False,  # rows are conversations
            dataset_kwargs={"skip_prepare_dataset": True},  # the collator does all of it
            **settings,
        ),
        train_dataset=rows,
        data_collator=ChatCollator(processor),
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
