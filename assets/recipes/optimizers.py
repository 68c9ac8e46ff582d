"""Optimizers and the log that the stages share. Knows no model."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from torch import nn


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by five Newton–Schulz steps, scaled to AdamW's step size.

    `torch.optim.Muon` does the same in bfloat16, which took 2 s a step on a CPU without bfloat16
    arithmetic; here it is float32, all matrices of a shape at once.
    """

    def __init__(self, params, lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = orthogonalise(torch.stack([self._momentum(p, group["momentum"]) for p in parameters]))
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> torch.Tensor:
        state = self.state[parameter]
        buffer = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
        buffer.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum)  # Nesterov


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Push the singular values of each matrix [N, R, C] towards 1 by Newton–Schulz steps."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


def parameter_groups(module: nn.Module) -> list[dict]:
    """Weight decay on matrices only."""
    wanted = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in wanted if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in wanted if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizer(module: nn.Module, rate: float, steps: int):
    optimizer = torch.optim.AdamW(parameter_groups(module), lr=rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    return optimizer, schedule


def step_optimizer(loss: torch.Tensor, module: nn.Module, optimizer, schedule) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    schedule.step()


def log(work: Path, stage: str, **values) -> None:
    line = {"time": round(time.time(), 1)} | {k: round(v, 4) for k, v in values.items()}
    with (work / f"{stage}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
