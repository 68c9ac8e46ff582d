"""What each code shows and what it usually belongs to, as a table that the codes' token vectors are built on.

Knows no model.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from aia import world
from assets.recipes.codes import BARE, CODE_DIM, CODES, nearest_codes
from assets.recipes.pictures import GRID, PATCH_PX, patch_labels, pixels_of, scenes_for

REACH = 4  # a thing's centre is at most so many half patches away


def make_features(book: torch.Tensor, scenes: int) -> torch.Tensor:
    """A vector for each code [2048, 65]: its 32 first principal components, then what it is part of.

    The second half are shares over so many training scenes: colour, shape and size of the thing that covers
    the patch most, how far its centre is to the right and below, and whether there is a thing at all.
    """
    centred = book - book[BARE]
    _, _, axes = torch.linalg.svd(centred - centred.mean(0), full_matrices=False)
    looks = centred @ axes[:CODE_DIM].T
    drawn, _ = scenes_for("codes", 0, scenes)
    sizes = (len(world.COLOURS), len(world.SHAPES), len(world.SIZES_PX), 2 * REACH + 1, 2 * REACH + 1)
    tables = [torch.zeros(CODES, size) for size in sizes]
    seen = torch.zeros(CODES)
    for chunk in (drawn[i : i + 500] for i in range(0, scenes, 500)):
        codes, labels = nearest_codes(pixels_of(chunk), book).flatten(), owner_labels(chunk).flatten(0, 1)
        seen += torch.bincount(codes, minlength=CODES)
        inside = labels[:, 0] >= 0
        for table, label in zip(tables, labels[inside].T, strict=True):
            table.index_put_((codes[inside], label), torch.ones(()), accumulate=True)
    shares = torch.cat([table / seen.clamp(min=1)[:, None] for table in tables], 1)
    nothing = 1 - tables[0].sum(1, keepdim=True) / seen.clamp(min=1)[:, None]
    looks = looks / looks.std(0).sqrt()  # half whitened, or brightness would drown the rest
    return torch.cat([2 * looks / looks.norm(dim=1).mean(), shares, nothing], 1)


def owner_labels(scenes: list[world.Scene]) -> torch.Tensor:
    """Colour, shape, size, and the centre's offset in half patches of the thing at each patch: [B, 64, 5], or −100."""
    labels = patch_labels(scenes)
    centres = torch.full((len(scenes), 9, 2), -1000)
    for b, scene in enumerate(scenes):
        for thing in scene.things:
            row, column = thing.cell
            centres[b, 3 * row + column] = torch.tensor([thing.x, thing.y])
    cell = labels[..., 3].clamp(min=0)
    at = torch.arange(GRID) * PATCH_PX + PATCH_PX // 2
    here = torch.stack([at.repeat(GRID), at.repeat_interleave(GRID)], 1)  # x, y of the patch centres
    offsets = centres.gather(1, cell[..., None].expand(-1, -1, 2)) - here
    steps = (offsets * 2 // PATCH_PX + REACH).clamp(0, 2 * REACH)
    return torch.cat([labels[..., :3], steps.masked_fill(labels[..., :1] < 0, -100)], -1)


def load_features(work: Path, book: torch.Tensor, scenes: int = 8_000) -> torch.Tensor:
    """The features of this work folder's code book, made on first use."""
    path = work / "features.safetensors"
    if not path.exists():
        save_file({"features": make_features(book, scenes).contiguous()}, path)
    return load_file(path)["features"]


class BuiltOn(nn.Module):
    """A parametrization: the rows of codes in a token table are `features` times a learnt matrix, plus their own part.

    What is learnt about one red patch so helps all of them. It is folded into a plain table at export.
    """

    def __init__(self, features: torch.Tensor, first: int, width: int, scale: float):
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.first = first
        mix = torch.linalg.qr(torch.randn(max(width, features.shape[1]), features.shape[1])).Q[:width]
        self.mix = nn.Parameter(mix.T.contiguous() * scale)

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        built = self.features @ self.mix
        return table + F.pad(built, (0, 0, self.first, len(table) - self.first - len(built)))
