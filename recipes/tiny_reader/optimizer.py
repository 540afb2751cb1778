"""bfloat16 weights with float32 masters: Muon for the matrices, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Optimizer:
    """Steps float32 copies of a module's parameters and writes them back in the module's own dtype."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], lr: float) -> None:
        self.names, self.working = zip(*named, strict=True)
        self.masters = [parameter.detach().float().clone() for parameter in self.working]
        matrices, others = [], []
        for name, master in zip(self.names, self.masters, strict=True):
            hidden = master.ndim == 2 and not any(part in name for part in ("embed", "head"))
            (matrices if hidden else others).append(master)
        self.lr = lr
        self.parts: list[Any] = [
            torch.optim.Muon(matrices, lr=lr, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]

    def step(self, scale: float = 1.0, clip: float = 1.0) -> float:
        """One step at ``lr * scale``; gives the norm of the gradient."""
        used = []
        for working, master in zip(self.working, self.masters, strict=True):
            master.grad = None if working.grad is None else working.grad.float()
            working.grad = None
            used += [] if master.grad is None else [master]
        norm = float(torch.nn.utils.clip_grad_norm_(used, clip))
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.lr * scale
            part.step()
        with torch.no_grad():
            for working, master in zip(self.working, self.masters, strict=True):
                working.copy_(master)
        return norm

    def state(self) -> dict[str, Any]:
        return {
            "masters": dict(zip(self.names, self.masters, strict=True)),
            "parts": [part.state_dict() for part in self.parts],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state; parameters that it does not know keep their values, their momenta start anew."""
        known: dict[str, Tensor] = state["masters"]
        for name, working, master in zip(self.names, self.working, self.masters, strict=True):
            if name in known and known[name].shape == master.shape:
                master.copy_(known[name])
            with torch.no_grad():
                working.copy_(master)
        if tuple(known) == self.names:
            for part, saved in zip(self.parts, state["parts"], strict=True):
                part.load_state_dict(saved)
