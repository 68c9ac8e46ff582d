"""The world's scenes and pictures as tensors, the same for every run of a recipe. Knows no model."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F

from aia import world

SEED = 20251122
PATCH_PX, GRID = 8, 8


def scenes_for(stage: str, step: int, n: int, weights=None) -> tuple[list[world.Scene], random.Random]:
    """The scenes of one step, the same for every run of that stage and step."""
    rng = random.Random(f"{SEED}/{stage}/{step}")
    counts = rng.choices((1, 2, 3, 4), weights, k=n) if weights else [None] * n
    return [world.make_scene(rng, count=count) for count in counts], rng


def pixels_of(scenes: list[world.Scene]) -> torch.Tensor:
    """Float pictures [B, 3, 64, 64] in −1…1, as the processor makes them."""
    pictures = np.stack([world.draw_scene(scene) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def patches_of(pixels: torch.Tensor) -> torch.Tensor:
    """[B, 3, 64, 64] → [B, 64 patches, 192]."""
    return F.unfold(pixels, PATCH_PX, stride=PATCH_PX).transpose(1, 2)


def patch_labels(scenes: list[world.Scene]) -> torch.Tensor:
    """For each patch the colour, shape, size and cell of the thing that covers it most: [B, 64, 4], −100 for none."""
    labels = np.full((len(scenes), GRID, GRID, 4), -100, np.int64)
    for b, scene in enumerate(scenes):
        best = np.full((GRID, GRID), 0.04)
        for thing in scene.things:
            left, top, right, bottom = thing.box
            cover = np.zeros((world.CANVAS_PX, world.CANVAS_PX), np.float32)
            cover[top:bottom, left:right] = world.shape_mask(thing.shape, thing.size)
            cover = cover.reshape(GRID, PATCH_PX, GRID, PATCH_PX).mean((1, 3))
            row, column = thing.cell
            label = (
                list(world.COLOURS).index(thing.colour),
                world.SHAPES.index(thing.shape),
                list(world.SIZES_PX).index(thing.size),
                3 * row + column,
            )
            labels[b][cover > best] = label
            best = np.maximum(best, cover)
    return torch.from_numpy(labels).flatten(1, 2)
