"""The last stage: a language model trained on both tasks, by one process or two; checkpoints and resuming.

Knows no model: a `Course` says what is trained and how a step's losses come about.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn

from assets.recipes.optimizers import Muon, log, parameter_groups

KEEP = 3  # checkpoints
LOG_STEPS = 20
Losses = Iterator[tuple[torch.Tensor, dict[str, float]]]  # parts of a task's loss, and what to log of each


@dataclass(frozen=True)
class Course:
    """What is trained, and each task's loss at a step, in parts that add up: (step, batch) → losses.

    Parameters whose name holds `matrices` and that are matrices are those that Muon trains.
    """

    module: nn.Module
    understanding: Callable[[int, int], Losses]
    drawing: Callable[[int, int], Losses]
    matrices: str


@dataclass(frozen=True)
class Schedule:
    """Steps `first` … `steps` − 1, of `batch` pictures with questions and twice as many drawings each.

    The rate is constant after `warm_up` steps and decays to zero over the last `decay_steps`. From step
    `muon_from` on matrices are trained by Muon, all else by AdamW. A checkpoint every `save_steps` steps or
    `save_minutes`, whichever is first.
    """

    steps: int
    decay_steps: int
    batch: int
    rate: float
    first: int = 0
    warm_up: int = 200
    muon_from: int = 0
    save_steps: int = 250
    save_minutes: float = 10

    def rate_at(self, step: int) -> float:
        return self.rate * min(1, (step + 1 - self.first) / self.warm_up, (self.steps - step) / self.decay_steps)


def train_language(work: Path, course: Course, schedule: Schedule) -> None:
    """Questions and drawings together. A SIGTERM ends it after the step under way, with a checkpoint.

    With two processes (torchrun) each computes one task; the gradients are summed, so the result is
    the same up to rounding.
    """
    rank, ranks = start_ranks()
    first, optimizers = resume(work, course, schedule)
    stopping = Stopping()
    report: dict[str, list[float]] = defaultdict(list)
    started = saved = time.monotonic()
    for step in range(first, schedule.steps):
        if step == schedule.muon_from and step != first:
            optimizers = make_language_optimizers(course, schedule.rate, muon=True)
        take_step(course, schedule, optimizers, step, (rank, ranks), report)
        if (step + 1) % LOG_STEPS == 0:
            seconds = (time.monotonic() - started) / (step - first + 1)
            means = {key: sum(values) / len(values) for key, values in report.items()}
            log(work, f"language{rank}", step=step + 1, seconds=seconds, rate=schedule.rate_at(step), **means)
            report.clear()
        due = time.monotonic() - saved > 60 * schedule.save_minutes or (step + 1) % schedule.save_steps == 0
        if rank == 0 and (due or stopping.asked or step + 1 == schedule.steps):
            save_checkpoint(work, course.module, optimizers, step + 1)
            saved = time.monotonic()
        if stopping.asked and ranks == 1:
            return


def take_step(
    course: Course, schedule: Schedule, optimizers: list, step: int, place: tuple[int, int], report: dict
) -> None:
    """One step of all optimizers; `place` is this process' rank and how many there are."""
    rank, ranks = place
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = schedule.rate_at(step)
    course.module.zero_grad()
    if rank == 0:
        add_gradients(course.understanding(step, schedule.batch), report)
    if rank == ranks - 1:
        add_gradients(course.drawing(step, 2 * schedule.batch), report)
    sum_gradients(course.module, ranks)
    nn.utils.clip_grad_norm_(course.module.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()


class Stopping:
    """Whether the process was asked to end (SIGTERM)."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_) -> None:
        self.asked = True


def add_gradients(losses: Losses, report: dict[str, list[float]]) -> None:
    for loss, values in losses:
        loss.backward()
        for key, value in values.items():
            report[key].append(value)


def start_ranks() -> tuple[int, int]:
    if not dist.is_torchelastic_launched():
        return 0, 1
    dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def sum_gradients(module: nn.Module, ranks: int) -> None:
    if ranks == 1:
        return
    wanted = [p for p in module.parameters() if p.requires_grad]
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in wanted])
    dist.all_reduce(flat)
    for parameter, gradient in zip(wanted, flat.split([p.numel() for p in wanted]), strict=True):
        parameter.grad = gradient.view_as(parameter)


def make_language_optimizers(course: Course, rate: float, muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the language model's matrices and AdamW for the rest."""
    named = course.module.named_parameters()
    matrices = [p for n, p in named if course.matrices in n and p.ndim == 2] if muon else []
    taken = {id(p) for p in matrices}
    groups = [
        group | {"params": [p for p in group["params"] if id(p) not in taken]}
        for group in parameter_groups(course.module)
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)]
    if muon:
        optimizers.append(Muon(matrices, rate, weight_decay=0.05))
    return optimizers


def save_checkpoint(work: Path, module: nn.Module, optimizers, step: int) -> None:
    names = {id(p): n for n, p in module.named_parameters()}
    tensors = {f"model.{n}": p.data for n, p in module.named_parameters() if p.requires_grad}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            tensors |= {f"{key}.{names[id(parameter)]}": value for key, value in state.items()}
    path = work / f"language-{step:06d}.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, path.with_suffix(".part"), {"step": str(step)})
    path.with_suffix(".part").rename(path)
    for old in sorted(work.glob("language-*.safetensors"))[:-KEEP]:
        old.unlink()


def load_checkpoint(work: Path, module: nn.Module) -> tuple[int, dict[str, torch.Tensor]]:
    """Put the newest checkpoint, if any, into the module: its step (else 0), and all of its tensors."""
    found = sorted(work.glob("language-*.safetensors"))
    if not found:
        return 0, {}
    tensors = load_file(found[-1])
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(tensors[f"model.{name}"])
    return int(found[-1].stem.split("-")[1]), tensors


def resume(work: Path, course: Course, schedule: Schedule) -> tuple[int, list[torch.optim.Optimizer]]:
    """Load the newest checkpoint, if any: the step to go on from, and the optimizers with their state."""
    step, tensors = load_checkpoint(work, course.module)
    step = max(step, schedule.first)
    optimizers = make_language_optimizers(course, schedule.rate, muon=step >= schedule.muon_from)
    names = {id(p): n for n, p in course.module.named_parameters()}
    for optimizer in optimizers:
        keys = ("momentum_buffer",) if isinstance(optimizer, Muon) else ("step", "exp_avg", "exp_avg_sq")
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            name = names[id(parameter)]
            if all(f"{key}.{name}" in tensors for key in keys):
                optimizer.state[parameter] = {key: tensors[f"{key}.{name}"].to(parameter.device) for key in keys}
    return step, optimizers
