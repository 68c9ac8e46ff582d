"""Stage 2: the vision encoder, taught to tell at every patch which thing it belongs to.

Knows no text.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from aia import world
from assets.recipes.janus import WIDTH, make_model
from assets.recipes.optimizers import log, make_optimizer, step_optimizer
from assets.recipes.pictures import patch_labels, pixels_of, scenes_for
from assets.recipes.processor import make_processor


def train_vision(work: Path, steps: int, batch: int) -> None:
    """Teach the vision encoder to tell, at every patch, which thing it belongs to."""
    vision = make_model(make_processor()).model.vision_model.train()
    sizes = (len(world.COLOURS), len(world.SHAPES), len(world.SIZES_PX), 9)
    heads = nn.Linear(WIDTH, sum(sizes) + 1)
    both = nn.ModuleDict({"vision": vision, "heads": heads})
    optimizer, schedule = make_optimizer(both, 1e-3, steps)
    for step in range(steps):
        scenes, _ = scenes_for("vision", step, batch)
        labels = patch_labels(scenes).flatten(0, 1)
        logits = heads(vision(pixels_of(scenes)).last_hidden_state).flatten(0, 1)
        *kinds, covered = logits.split((*sizes, 1), -1)
        losses = [F.cross_entropy(kind, labels[:, i]) for i, kind in enumerate(kinds)]
        losses.append(F.binary_cross_entropy_with_logits(covered[:, 0], (labels[:, 0] >= 0).float()))
        step_optimizer(sum(losses), both, optimizer, schedule)
        if step % 25 == 0 or step == steps - 1:
            inside = labels[:, 0] >= 0
            hits = [(k.argmax(-1) == labels[:, i])[inside].float().mean().item() for i, k in enumerate(kinds)]
            log(work, "vision", step=step, colour=hits[0], shape=hits[1], size=hits[2], cell=hits[3])
    save_file({k: v.contiguous() for k, v in vision.state_dict().items()}, work / "vision.safetensors")
