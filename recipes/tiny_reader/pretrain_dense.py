"""Stage 1: the tower learns to read characters from dense labels, four slots for each patch.

    python -m recipes.tiny_reader.pretrain_dense --state OUT/dense.pt --steps 3000

Killed and started again, it resumes from the last saved state; the data of a step depend on its number alone.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import canvas, dense, model, tower
from .optimizer import Optimizer

SIZES = ((192, 192), (128, 288), (288, 128), (96, 384))


class DenseReader(nn.Module):
    """A tower with a head that names the characters of each patch from the features of its block."""

    def __init__(self, visual: nn.Module, width: int) -> None:
        super().__init__()
        self.visual = visual
        self.head = nn.Linear(width, 4 * canvas.SLOTS * (len(canvas.ALPHABET) + 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, blocks, patches of a block, slots, characters)."""
        features, _ = tower.encode(self.visual, images)
        return slots(self.head(features))


def slots(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], 4, canvas.SLOTS, len(canvas.ALPHABET) + 1)


def targets(labels: Tensor) -> Tensor:
    """(batch, rows, columns, slots) to the order of `DenseReader`: (batch, blocks, 4, slots)."""
    batch, rows, columns, count = labels.shape
    x = labels.view(batch, rows // 2, 2, columns // 2, 2, count)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, 4, count)


def loss_and_accuracy(logits: Tensor, wanted: Tensor) -> tuple[Tensor, float]:
    """Mean loss, blank slots weighted down, and the share of characters read right."""
    flat, truth = logits.float().flatten(0, -2), wanted.flatten()
    each = F.cross_entropy(flat, truth, reduction="none")
    there = truth > 0
    loss = (each * torch.where(there, 1.0, 0.15)).sum() / there.sum().clamp_min(1)
    return loss, float((flat.argmax(-1) == truth)[there].float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="a saved state to begin with, of this stage or the next")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--save-every", type=int, default=100)
    args = parser.parse_args()
    full, _ = model.build()
    reader = DenseReader(full.model.visual, full.config.text_config.hidden_size).bfloat16()
    optimizer = Optimizer(reader.named_parameters(), args.lr)
    step = 0
    if args.base and not args.state.exists():
        saved = torch.load(args.base)
        saved["masters"] = {name.removeprefix("full.model."): value for name, value in saved["masters"].items()}
        optimizer.load(saved)
    if args.state.exists():
        saved = torch.load(args.state)
        optimizer.load(saved)
        step = saved["step"]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ahead = [pool.submit(dense.batch, n, args.batch, *SIZES[n % len(SIZES)]) for n in range(step, step + 3)]
        start, losses, accuracies = time.time(), [], []
        while step < args.steps:
            images, labels = (torch.from_numpy(part) for part in ahead.pop(0).result())
            ahead.append(pool.submit(dense.batch, step + 3, args.batch, *SIZES[(step + 3) % len(SIZES)]))
            loss, accuracy = loss_and_accuracy(reader(images), targets(labels))
            loss.backward()
            warm, left = min(1.0, (step + 1) / 50), min(1.0, (args.steps - step) / (0.3 * args.steps))
            optimizer.step(warm * left)
            step += 1
            losses.append(loss.item())
            accuracies.append(accuracy)
            if step % 20 == 0:
                print(
                    f"{step} loss {sum(losses) / 20:.3f} characters {sum(accuracies) / 20:.3f} "
                    f"{(time.time() - start) / 20:.2f} s/step",
                    flush=True,
                )
                start, losses, accuracies = time.time(), [], []
            if step % args.save_every == 0 or step == args.steps:
                torch.save(optimizer.state() | {"step": step}, args.state.with_suffix(".tmp"))
                args.state.with_suffix(".tmp").rename(args.state)


if __name__ == "__main__":
    main()
