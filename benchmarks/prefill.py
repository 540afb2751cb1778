"""Time to first token and peak memory of a Qwen3-VL with random weights: unpruned, pruned, resized, and the bound.

For each image: ``full`` as it is; ``pruned``; ``resized``, scaled down to at most as many blocks as were kept, the
plain rival; and ``dense``, noise of as many blocks as were kept, the bound that pruning could reach if it cost
nothing. Times go from the decoded PIL image to the first token, preprocessing and selection inside.
"""

from __future__ import annotations

import argparse
import copy
import math
import tempfile
from collections.abc import Callable
from typing import Any

import common
import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText

from pixelprune.check.tiny import build_tiny
from pixelprune.hf import PrunedProcessor, enable
from pixelprune.models.cost import KNOWN_MODELS, ModelShape, compare

MESSAGES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What does this page say?"}]},
]
VARIANTS = ("full", "pruned", "resized", "dense")
COLUMNS = {
    "image": "{image}",
    "blocks": "{blocks}",
    "kept": "{kept}",
    "retained": "{retained:.1%}",
    **{f"{name} ms": "{" + name + "_ms:.0f}" for name in VARIANTS},
    "speed-up": "{speedup:.2f}",
    "by FLOPs": "{flops_speedup:.2f}",
    "over resized": "{over_resized:.2f}",
    "efficiency": "{efficiency:.2f}",
    **{f"{name} peak MB": "{" + name + "_peak}" for name in ("full", "pruned", "dense")},
}


def main(arguments: list[str] | None = None) -> None:
    options = common.parser(__doc__, repeats=5)
    options.add_argument("--shape", choices=SHAPES, default="tiny", help="the model's size (%(default)s)")
    options.add_argument("--threshold", type=float, default=0.0, help="of pred2d, on the 0..1 scale (%(default)s)")
    options.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    options.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of the model (%(default)s)"
    )
    options.add_argument(
        "--attn", choices=["sdpa", "eager", "flash_attention_2"], default="sdpa", help="attention kernel (%(default)s)"
    )
    options.add_argument("--threads", type=int, metavar="N", help="CPU threads of torch (its own choice)")
    args = options.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(f"--device {args.device}: this torch sees no CUDA device; use --device cpu")
    facts = common.machine(args.device)
    print(common.machine_line(facts), flush=True)

    bench = Bench(args)
    rows = [bench.measure(picture, args.repeats) for picture in common.load(args.images)]
    where = "torch's peak of device memory, weights included" if bench.cuda else "resident memory above the start"
    print(
        f"\nQwen3-VL {args.shape}, {bench.parameters / 1e6:.0f} M parameters, random, {args.dtype} on {args.device}, "
        f"{args.attn}; median of {args.repeats} interleaved runs; peak: {where}\n"
    )
    print(common.table(rows, COLUMNS))
    settings = {key: value for key, value in vars(args).items() if key not in ("images", "json")}
    common.save(args.json, facts, settings=settings, parameters=bench.parameters, images=rows)


class Bench:
    """The model and the processors, and one image's measurement."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        with tempfile.TemporaryDirectory() as folder:
            build_tiny(folder, "qwen3_vl", weights=False)
            self.pruned = PrunedProcessor.from_pretrained(folder, threshold=args.threshold)
            self.stock = AutoImageProcessor.from_pretrained(folder, backend="pil")
            self.config = build_config(args.shape, AutoConfig.from_pretrained(folder))
        # Small images must not be scaled up to the model's least number of blocks: the counts would not be the kept.
        self.small = copy.deepcopy(self.stock)
        self.block = self.stock.patch_size * self.stock.merge_size
        self.small.size = {**dict(self.stock.size), "shortest_edge": self.block**2}
        self.prompt = self.pruned.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
        torch.manual_seed(0)
        with self.device:
            model = AutoModelForImageTextToText.from_config(
                self.config, dtype=getattr(torch, args.dtype), attn_implementation=args.attn
            )
        self.model = enable(model.eval())
        self.shape = ModelShape.from_config(self.config)
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def measure(self, picture: common.Picture, repeats: int) -> dict[str, Any]:
        """All variants of one image, taking turns."""
        self.pruned_inputs(picture.image)
        report = self.pruned.last_report[0]
        rows, cols = grid_within(report.kept, picture.image.height / picture.image.width)
        size = (cols * self.block, rows * self.block)
        dense = noise(report.kept, self.block)
        variants: dict[str, Callable[[], int]] = {
            "full": lambda: self.first_token(self.stock_inputs(self.stock, picture.image)),
            "pruned": lambda: self.first_token(self.pruned_inputs(picture.image)),
            "resized": lambda: self.first_token(
                self.stock_inputs(self.small, picture.image.resize(size, Image.Resampling.BICUBIC))
            ),
            "dense": lambda: self.first_token(self.stock_inputs(self.small, dense)),
        }
        times = common.interleaved(variants, repeats)
        peaks = {name: self.peak_memory(run) for name, run in variants.items()}
        text_tokens = (
            self.stock_inputs(self.small, dense)["input_ids"].shape[1] - dense.width * dense.height // self.block**2
        )
        flops = compare(self.shape, (report.total, report.kept), text_tokens=text_tokens).flops_ratio
        return {
            "image": picture.name,
            "blocks": report.total,
            "kept": report.kept,
            "retained": report.retain_ratio,
            "resized_blocks": rows * cols,
            "dense_blocks": dense.width * dense.height // self.block**2,
            "selection_ms": report.selection_ms,
            **{f"{name}_ms": times[name] for name in VARIANTS},
            "speedup": times["full"] / times["pruned"],
            "flops_speedup": 1 / flops,
            "over_resized": times["resized"] / times["pruned"],
            "efficiency": times["dense"] / times["pruned"],
            **{f"{name}_bytes": peaks[name] for name in VARIANTS},
            **{f"{name}_peak": common.megabytes(peaks[name]) for name in VARIANTS},
        }

    def stock_inputs(self, processor: Any, image: Image.Image) -> dict[str, Any]:
        """What the stock processor makes of prompt and image (written out: it wants torchvision to be loaded)."""
        inputs = processor(images=[image], return_tensors="pt")
        blocks = int(inputs["image_grid_thw"].prod()) // processor.merge_size**2
        token = self.pruned.image_token
        text = self.pruned.tokenizer(self.prompt.replace(token, token * blocks), return_tensors="pt")
        types = (text["input_ids"] == self.pruned.image_token_id).long()
        return {**text, **inputs, "mm_token_type_ids": types}

    def pruned_inputs(self, image: Image.Image) -> dict[str, Any]:
        return dict(self.pruned(text=[self.prompt], images=[image], return_tensors="pt"))

    @torch.inference_mode()
    def first_token(self, inputs: dict[str, Any]) -> int:
        """One prefill; reading the token waits for the device."""
        inputs = {name: value.to(self.device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        output = self.model(**inputs, use_cache=True, logits_to_keep=1)
        return int(output.logits[0, -1].argmax())

    def peak_memory(self, run: Callable[[], Any]) -> int | None:
        """Bytes: of the device with the weights, or of this process above its start. See the table's heading."""
        return common.peak_memory(run, self.device) if self.cuda else common.peak_rss_growth(run)


#: Sizes by name: ``tiny`` as the tests use it, ``small`` 12 + 12 layers, the others as the models of that size.
SHAPES = ("tiny", "small", "2b", "4b", "8b")
_SMALL = {
    "vision_config": {
        "depth": 12,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_heads": 4,
        "out_hidden_size": 512,
        "deepstack_visual_indexes": [2, 5, 8],
    },
    "text_config": {
        "num_hidden_layers": 12,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "vocab_size": 4096,
    },
}


def build_config(shape: str, tiny: Any) -> Any:
    """A Qwen3-VL config of that size that knows the special tokens of the tiny one."""
    if shape == "tiny":
        return tiny
    sizes = _SMALL if shape == "small" else KNOWN_MODELS[f"Qwen3-VL-{shape.upper()}"]
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    tokens = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return AutoConfig.for_model(
        "qwen3_vl",
        vision_config=dict(sizes["vision_config"]),
        text_config={**sizes["text_config"], "rope_parameters": rope, "max_position_embeddings": 262144},
        tie_word_embeddings=shape in ("small", "2b", "4b"),
        **{name: getattr(tiny, name) for name in tokens},
    )


def grid_within(count: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of the largest grid of at most ``count`` blocks with about this height / width."""
    rows = max(1, min(count, math.floor(math.sqrt(count * aspect))))
    return rows, max(1, count // rows)


def noise(count: int, block: int) -> Image.Image:
    """An image of noise of ``count`` blocks, or the nearest smaller number with sides of at most 1 : 4."""
    blocks = count
    while blocks > 1:
        rows = next(r for r in range(math.isqrt(blocks), 0, -1) if blocks % r == 0)
        if blocks // rows <= 4 * rows:
            break
        blocks -= 1
    rows = next(r for r in range(math.isqrt(blocks), 0, -1) if blocks % r == 0)
    shape = (rows * block, blocks // rows * block, 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


if __name__ == "__main__":
    common.run(main)
