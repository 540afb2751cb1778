"""Stage 2: the whole model learns to answer questions about pages, small ones first, whole or with pruned images.

    python -m recipes.tiny_reader.pretrain_pages --state OUT/pages.pt --base OUT/dense.pt --sides 96 192 --steps 1500

Killed and started again, it resumes from the last saved state; the data of a step depend on its number alone. Several
processes share the work under ``torchrun``, each with batches of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from . import attention, canvas, conversation, model, tasks, tower
from .optimizer import Optimizer
from .pretrain_dense import loss_and_accuracy, slots, targets


class Reader(nn.Module):
    """The model, and the head that keeps the tower's eye on single characters."""

    def __init__(self) -> None:
        super().__init__()
        self.full, self.tokenizer = model.build()
        self.full.model.language_model.set_attn_implementation(attention.NAME)
        width = self.full.config.text_config.hidden_size
        self.head = nn.Linear(width, 4 * canvas.SLOTS * (len(canvas.ALPHABET) + 1))

    def forward(self, batch: conversation.Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits at the places that predict answers (count, vocabulary), their tokens, and the dense logits of the kept
        blocks (1, count, 4, slots, characters)."""
        ids, wanted = torch.from_numpy(batch.ids), torch.from_numpy(batch.wanted)
        kept = torch.from_numpy(batch.kept)
        encoded, deep = tower.encode(self.full.model.visual, torch.from_numpy(batch.images), kept)
        features = encoded[kept >= 0]
        where = ids == self.full.config.image_token_id
        embedded = self.full.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter(where[..., None], features)
        hidden = self.full.model.language_model(
            inputs_embeds=embedded,
            position_ids=torch.from_numpy(batch.positions),
            attention_mask=attention.additive(mask(torch.from_numpy(batch.segment)), embedded.dtype),
            visual_pos_masks=where,
            deepstack_visual_embeds=[layer[kept >= 0] for layer in deep],
            use_cache=False,
        ).last_hidden_state
        asked = wanted >= 0
        return self.full.lm_head(hidden[asked]), wanted[asked], slots(self.head(features)[None])


def characters(batch: conversation.Batch) -> Tensor:
    """What the dense logits should say, (1, count, 4, slots)."""
    row, place = (torch.from_numpy(a) for a in np.nonzero(batch.kept >= 0))
    return targets(torch.from_numpy(batch.characters))[row, torch.from_numpy(batch.kept)[row, place]][None]


def mask(segment: Tensor) -> Tensor:
    """Who may look at whom, (batch, 1, length, length): back, within the same question or at the page."""
    causal = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool).tril()
    page = (segment == 0)[:, None, :]
    return ((segment[:, :, None] == segment[:, None, :]) | page)[:, None] & causal


def size_of(step: int, sides: tuple[int, int]) -> tuple[int, int]:
    rng = random.Random(step * 7919 + 1)
    return tuple(rng.randrange(sides[0], sides[1] + 1, 32) for _ in range(2))  # type: ignore[return-value]


def job(step: int, args: argparse.Namespace) -> tuple[object, ...]:
    width, height = size_of(step, args.sides)
    seen = 1 - 0.4 * args.pruned  # of the blocks, about
    count = max(2, int(args.tokens / (seen * width * height / 1024 + 28 * args.questions)))
    seed = 10_000_000 * (1 + rank()) + step
    return (seed, count, width, height, args.questions, "train", tuple(args.fonts), args.pruned)


def exact(logits: Tensor, truth: Tensor, batch: conversation.Batch) -> dict[str, list[bool]]:
    """By task: which answers are right in every token when the earlier tokens are given."""
    asked = torch.from_numpy(batch.wanted) >= 0
    row = torch.arange(len(asked))[:, None].expand_as(asked)[asked]
    question = torch.from_numpy(batch.segment)[asked]
    wrong = logits.argmax(-1) != truth
    bad = torch.zeros(len(asked), batch.task.shape[1] + 1, dtype=torch.bool)
    bad[row[wrong], question[wrong]] = True
    found = defaultdict(list)
    for line, numbers in enumerate(batch.task):
        for number, task in enumerate(numbers):
            if task >= 0:
                found[conversation.TASKS[task]].append(not bool(bad[line, number + 1]))
    return found


def near(logits: Tensor, truth: Tensor, batch: conversation.Batch, tokenizer: Any) -> list[bool]:
    """Which points lie within 3 % of the width and 2 % of the height of where they belong, digits given as above."""
    asked = batch.wanted >= 0
    row, question = np.nonzero(asked)[0], batch.segment[asked]
    guess = logits.argmax(-1).numpy()
    found = []
    for line, numbers in enumerate(batch.task):
        for number, task in enumerate(numbers):
            if task == conversation.TASKS.index("point"):
                here = (row == line) & (question == number + 1)
                at, wanted = (tasks.parse_point(tokenizer.decode(ids[here])) for ids in (guess, truth.numpy()))
                found.append(bool(at and wanted and abs(at[0] - wanted[0]) <= 30 and abs(at[1] - wanted[1]) <= 20))
    return found


def load(reader: Reader, optimizer: Optimizer, args: argparse.Namespace) -> int:
    if args.state.exists():
        saved = torch.load(args.state)
        optimizer.load(saved)
        return int(saved["step"])
    if args.base:
        saved = torch.load(args.base)
        names = {
            n.replace("visual.", "full.model.visual.", 1) if n.startswith("visual.") else n: v
            for n, v in saved["masters"].items()
        }
        optimizer.load({"masters": names, "parts": saved["parts"]})
    return 0


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def share_gradients(reader: Reader) -> None:
    """Average gradients over the processes, in one message."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in reader.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten().float() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="a saved state to begin with")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--sides", type=int, nargs=2, required=True, help="smallest and largest side in pixels")
    parser.add_argument("--fonts", type=int, nargs=2, default=(18, 26))
    parser.add_argument("--pruned", type=float, default=0.0, help="share of the pages that are pruned")
    parser.add_argument("--tokens", type=int, default=5000, help="of a batch, about")
    parser.add_argument("--questions", type=int, default=8, help="of a page at most")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.2, help="share of the steps over which the rate falls to 0")
    parser.add_argument("--dense", type=float, default=0.3, help="weight of the dense loss")
    parser.add_argument("--save-every", type=int, default=100)
    args = parser.parse_args()
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    reader = Reader().bfloat16()
    optimizer = Optimizer(reader.named_parameters(), args.lr)
    step = load(reader, optimizer, args)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ahead = [pool.submit(conversation.make, *job(n, args)) for n in range(step, step + 4)]
        start, answers, accuracies, counts = time.time(), [], [], defaultdict(list)
        while step < args.steps:
            batch = ahead.pop(0).result()
            ahead.append(pool.submit(conversation.make, *job(step + 4, args)))
            logits, truth, dense = reader(batch)
            answer = F.cross_entropy(logits.float(), truth)
            character, accuracy = loss_and_accuracy(dense, characters(batch))
            (answer + args.dense * character).backward()
            share_gradients(reader)
            warm = min(1.0, (step + 1) / 50)
            left = min(1.0, (args.steps - step) / max(1.0, args.decay * args.steps))
            optimizer.step(warm * left)
            step += 1
            answers.append(answer.item())
            accuracies.append(accuracy)
            for task, each in exact(logits, truth, batch).items():
                counts[task] += each
            counts["near"] += near(logits, truth, batch, reader.tokenizer)
            if step % 20 == 0 and rank() == 0:
                shares = " ".join(f"{t} {sum(c) / len(c):.2f}" for t, c in sorted(counts.items()) if c)
                print(
                    f"{step} loss {sum(answers) / 20:.3f} characters {sum(accuracies) / 20:.3f} | {shares} | "
                    f"{(time.time() - start) / 20:.2f} s/step",
                    flush=True,
                )
                start, answers, accuracies, counts = time.time(), [], [], defaultdict(list)
            if rank() == 0 and (step % args.save_every == 0 or step == args.steps):
                torch.save(optimizer.state() | {"step": step}, args.state.with_suffix(".tmp"))
                args.state.with_suffix(".tmp").rename(args.state)


if __name__ == "__main__":
    main()
