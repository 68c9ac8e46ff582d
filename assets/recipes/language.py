"""Stage 3: the language model, trained on both tasks, by one process or two; checkpoints and resuming."""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn

from assets.recipes.codec import load_code_book
from assets.recipes.janus import make_model
from assets.recipes.optimizers import Muon, log, parameter_groups
from assets.recipes.processor import make_processor
from assets.recipes.tasks import (
    drawing_loss,
    make_drawing_batch,
    make_understanding_batch,
    understanding_loss,
)


def load_stages(work: Path) -> tuple:
    """A model with the code vectors and the vision encoder of the first two stages, its processor and the code book."""
    processor = make_processor()
    model = make_model(processor)
    book, embedding = load_code_book(work)
    model.model.vision_model.load_state_dict(load_file(work / "vision.safetensors"))
    model.model.generation_embeddings.weight.data.copy_(embedding * 4)
    model.model.vqmodel.requires_grad_(False)
    model.model.vision_model.requires_grad_(False)
    return model, processor, book


def train_language(
    work: Path, steps: int, decay_steps: int, batch: int, rate: float, muon_from: int, focus_from: int
) -> None:
    """Questions and drawings together, at a constant rate, then a decay to zero over the last steps.

    From step `muon_from` on the language model's matrices are trained by Muon, all else by AdamW;
    from step `focus_from` on drawings are chosen as `make_drawing_batch` says.

    With two processes (torchrun) each computes one task; the gradients are summed, so the result is
    the same up to rounding.
    """
    rank, ranks = start_ranks()
    model, processor, book = load_stages(work)
    model.train()
    first, optimizers = resume(work, model, rate, muon_from)
    started = time.monotonic()
    for step in range(first, steps):
        if step == muon_from and step != first:
            optimizers = make_language_optimizers(model, rate, muon=True)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate * min(1, (step + 1) / 200, (steps - step) / decay_steps)
        model.zero_grad()
        losses = {}
        if rank == 0:
            losses["understanding"] = understanding_loss(model, make_understanding_batch(processor, step, batch))
        if rank == ranks - 1:
            drawings = make_drawing_batch(processor, book, step, 2 * batch, focus=step >= focus_from)
            losses["drawing"] = drawing_loss(model, drawings)
        sum(losses.values()).backward()
        sum_gradients(model, ranks)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if step % 20 == 0:
            seconds = (time.monotonic() - started) / (step - first + 1)
            log(work, f"language{rank}", step=step, seconds=seconds, **{k: v.item() for k, v in losses.items()})
        if rank == 0 and ((step + 1) % 250 == 0 or step + 1 == steps):
            save_checkpoint(work, model, optimizers, step + 1)


def start_ranks() -> tuple[int, int]:
    if not dist.is_torchelastic_launched():
        return 0, 1
    dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def sum_gradients(model, ranks: int) -> None:
    if ranks == 1:
        return
    wanted = [p for p in model.parameters() if p.requires_grad]
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in wanted])
    dist.all_reduce(flat)
    for parameter, gradient in zip(wanted, flat.split([p.numel() for p in wanted]), strict=True):
        parameter.grad = gradient.view_as(parameter)


def make_language_optimizers(model, rate: float, muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the language model's matrices and AdamW for the rest."""
    matrices = [p for n, p in model.named_parameters() if "language_model.layers" in n and p.ndim == 2] if muon else []
    taken = {id(p) for p in matrices}
    groups = [
        group | {"params": [p for p in group["params"] if id(p) not in taken]} for group in parameter_groups(model)
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)]
    if muon:
        optimizers.append(Muon(matrices, rate, weight_decay=0.05))
    return optimizers


def save_checkpoint(work: Path, model, optimizers, step: int) -> None:
    names = {id(p): n for n, p in model.named_parameters()}
    tensors = {f"model.{n}": p.data for n, p in model.named_parameters() if p.requires_grad}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            tensors |= {f"{key}.{names[id(parameter)]}": value for key, value in state.items()}
    path = work / f"language-{step:06d}.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, path.with_suffix(".part"), {"step": str(step)})
    path.with_suffix(".part").rename(path)
    for old in sorted(work.glob("language-*.safetensors"))[:-3]:
        old.unlink()


def resume(work: Path, model, rate: float, muon_from: int) -> tuple[int, list[torch.optim.Optimizer]]:
    """Load the newest language checkpoint, if any: the step to go on from, and the optimizers with their state."""
    found = sorted(work.glob("language-*.safetensors"))
    step = int(found[-1].stem.split("-")[1]) if found else 0
    optimizers = make_language_optimizers(model, rate, muon=step >= muon_from)
    if not found:
        return step, optimizers
    tensors = load_file(found[-1])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(tensors[f"model.{name}"])
    names = {id(p): n for n, p in model.named_parameters()}
    for optimizer in optimizers:
        keys = ("momentum_buffer",) if isinstance(optimizer, Muon) else ("step", "exp_avg", "exp_avg_sq")
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            name = names[id(parameter)]
            if all(f"{key}.{name}" in tensors for key in keys):
                optimizer.state[parameter] = {key: tensors[f"{key}.{name}"] for key in keys}
    return step, optimizers
