"""Time and peak memory of a training step of a Qwen3-VL with random weights: whole images, pruned, and the bound.

For each image: ``whole``; ``pruned``; and ``dense``, noise of as many blocks as were kept, the bound that pruning could
reach if it cost nothing. A step goes from the decoded PIL image over its preprocessing and selection, forward and
backward pass, to AdamW's update. With distillation every variant's teacher sees the whole image.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from typing import Any

import common
import prefill
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, TrainingArguments
from transformers.utils import logging

from pixelprune.check.tiny import build_tiny
from pixelprune.hf import PrunedProcessor
from pixelprune.train import ChatCollator, DistillationTrainer, PruneTrainer, linear_patches

VARIANTS = ("whole", "pruned", "dense")
COLUMNS = {
    "image": "{image}",
    "loss": "{loss}",
    "blocks": "{blocks}",
    "kept": "{kept}",
    "retained": "{retained:.1%}",
    **{f"{name} ms": "{" + name + "_ms:.0f}" for name in VARIANTS},
    "speed-up": "{speedup:.2f}",
    "efficiency": "{efficiency:.2f}",
    **{f"{name} peak MB": "{" + name + "_peak}" for name in VARIANTS},
}


def main(arguments: list[str] | None = None) -> None:
    args = options().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(f"--device {args.device}: this torch sees no CUDA device; use --device cpu")
    logging.set_verbosity_error()
    facts = common.machine(args.device)
    print(common.machine_line(facts), flush=True)

    bench = Bench(args)
    pictures = common.load(args.images)
    losses = ["ce", "distill"] if args.loss == "both" else [args.loss]
    rows = [bench.measure(picture, loss, args.repeats) for picture in pictures for loss in losses]
    where = "torch's peak of device memory, weights included" if bench.cuda else "resident memory above the start"
    print(
        f"\nQwen3-VL {args.shape}, {bench.parameters / 1e6:.0f} M parameters, random, {args.dtype} on {args.device}, "
        f"{args.attn}; AdamW on all of them; median of {args.repeats} interleaved steps; peak: {where}\n"
    )
    print(common.table(rows, COLUMNS))
    patches = None
    if not bench.cuda:
        patches = bench.patch_embedding(max(row["blocks"] for row in rows) * 4, args.repeats)
        print(
            f"\nPatch embedding of {patches['patches']} patches, forward and backward: "
            f"{patches['convolution']:.0f} ms as a convolution, {patches['linear']:.0f} ms as a matrix product"
        )
    settings = {key: value for key, value in vars(args).items() if key not in ("images", "json")}
    common.save(args.json, facts, settings=settings, parameters=bench.parameters, images=rows, patch_embedding=patches)


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--shape", choices=prefill.SHAPES, default="tiny", help="the model's size (%(default)s)")
    parser.add_argument("--loss", choices=["ce", "distill", "both"], default="both", help="(%(default)s)")
    parser.add_argument("--answer", type=int, default=64, help="tokens of the answer (%(default)s)")
    parser.add_argument("--threshold", type=float, default=0.0, help="of pred2d, on the 0..1 scale (%(default)s)")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--conv", action="store_true", help="keep the patch embedding's convolution on a CPU")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the weights")
    parser.add_argument("--attn", choices=["sdpa", "eager", "flash_attention_2"], default="sdpa", help="(%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of torch (its own choice)")
    return parser


class Bench:
    """The model, its trainers and collators, and one image's measurement."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        self.answer = args.answer
        self.folder = tempfile.TemporaryDirectory()
        build_tiny(self.folder.name, "qwen3_vl", weights=False)
        pruned = PrunedProcessor.from_pretrained(self.folder.name, threshold=args.threshold)
        whole = PrunedProcessor.from_pretrained(self.folder.name)
        whole.prune = None
        # Noise must not be scaled up to the model's least number of blocks: the counts would not be the kept.
        dense = PrunedProcessor.from_pretrained(self.folder.name)
        dense.prune = None
        self.block = dense.image_processor.patch_size * dense.image_processor.merge_size
        dense.image_processor.size = {**dict(dense.image_processor.size), "shortest_edge": self.block**2}
        self.pruned, self.teacher = ChatCollator(pruned), ChatCollator(whole)
        self.collators = {"whole": self.teacher, "pruned": self.pruned, "dense": ChatCollator(dense)}

        torch.manual_seed(0)
        with self.device:
            self.model: Any = AutoModelForImageTextToText.from_config(
                prefill.build_config(args.shape, AutoConfig.from_pretrained(self.folder.name)),
                dtype=getattr(torch, args.dtype),
                attn_implementation=args.attn,
            )
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        linear_patches(self.model, not self.cuda and not args.conv)
        if args.checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        settings = TrainingArguments(self.folder.name, report_to="none", disable_tqdm=True, use_cpu=not self.cuda)
        self.trainers = {
            "ce": PruneTrainer(self.model, settings),
            "distill": DistillationTrainer(self.model, settings, teacher=copy.deepcopy(self.model)),
        }
        if args.loss == "ce":
            del self.trainers["distill"]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6)

    def measure(self, picture: common.Picture, loss: str, repeats: int) -> dict[str, Any]:
        """All variants of one image, taking turns."""
        self.pruned([self.row(picture.image)])
        (report,) = self.pruned.processor.last_report
        noise = prefill.noise(report.kept, self.block)
        images = {"whole": picture.image, "pruned": picture.image, "dense": noise}
        steps: dict[str, Callable[[], Any]] = {
            name: lambda name=name: self.step(name, loss, images[name], picture.image) for name in VARIANTS
        }
        steps["whole"]()  # AdamW makes its state in its first step
        times = common.interleaved(steps, repeats)
        peaks = {name: self.peak_memory(step) for name, step in steps.items()}
        return {
            "image": picture.name,
            "loss": loss,
            "blocks": report.total,
            "kept": report.kept,
            "retained": report.retain_ratio,
            "dense_blocks": noise.width * noise.height // self.block**2,
            "selection_ms": report.selection_ms,
            **{f"{name}_ms": times[name] for name in VARIANTS},
            "speedup": times["whole"] / times["pruned"],
            "efficiency": times["dense"] / times["pruned"],
            **{f"{name}_bytes": peaks[name] for name in VARIANTS},
            **{f"{name}_peak": common.megabytes(peaks[name]) for name in VARIANTS},
        }

    def row(self, image: Image.Image) -> dict[str, Any]:
        """A question about an image, with an answer of as many tokens as wanted (the end of the answer is one)."""
        question = {"role": "user", "content": "<image>What does this page say?"}
        return {"messages": [question, {"role": "assistant", "content": "x" * (self.answer - 1)}], "images": [image]}

    def step(self, variant: str, loss: str, image: Image.Image, whole: Image.Image) -> float:
        """One optimizer step; reading the loss waits for the device."""
        batch = self.collators[variant]([self.row(image)])
        if loss == "distill":
            batch["teacher"] = self.teacher([self.row(whole)])
        trainer = self.trainers[loss]
        self.model.train()
        value = trainer.compute_loss(self.model, trainer._prepare_inputs(batch))
        value.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(value.detach())

    def peak_memory(self, run: Callable[[], Any]) -> int | None:
        """Bytes: of the device with the weights, or of this process above its start. See the table's heading."""
        return common.peak_memory(run, self.device) if self.cuda else common.peak_rss_growth(run)

    def patch_embedding(self, patches: int, repeats: int) -> dict[str, Any]:
        """Milliseconds of the patch embedding alone, both ways."""
        embedding = self.model.base_model.visual.patch_embed
        dtype = next(embedding.parameters()).dtype
        values = torch.randn(patches, 3 * embedding.temporal_patch_size * embedding.patch_size**2).to(dtype)

        def run(linear: bool) -> None:
            linear_patches(self.model, linear)
            embedding(values).sum().backward()
            self.optimizer.zero_grad()

        times = common.interleaved({"convolution": lambda: run(False), "linear": lambda: run(True)}, repeats)
        return {"patches": patches, **times}


if __name__ == "__main__":
    common.run(main)
