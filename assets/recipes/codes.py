"""The code book: the patches of the world that a picture is made of, and a vector for each. Knows no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from assets.recipes.pictures import SEED, patches_of, pixels_of, scenes_for

CODES, CODE_DIM = 2048, 32
BARE = 0  # the code of bare background: the most frequent patch


def make_code_book() -> tuple[torch.Tensor, torch.Tensor]:
    """The 2,048 most frequent patches of 20,000 scenes [K, 192], and an embedding of each [K, 32].

    The embedding is the patch's first 31 principal components and a constant, scaled to unit length,
    because Janus normalises code vectors before it decodes them.
    """
    scenes, _ = scenes_for("codes", 0, 20_000)
    chunks = (patches_of(pixels_of(scenes[i : i + 500])).flatten(0, 1) for i in range(0, len(scenes), 500))
    patches = torch.cat([(chunk * 127.5).round().to(torch.int16) for chunk in chunks]).numpy()
    key = np.random.default_rng(SEED).integers(1, 2**40, patches.shape[1])  # a hash: sorting whole rows is slow
    _, first, counts = np.unique(patches.astype(np.int64) @ key, return_index=True, return_counts=True)
    unique, order = patches[first], np.argsort(-counts, kind="stable")[:CODES]
    book = torch.from_numpy(unique[order].astype(np.float32) / 127.5)
    centred = book - book.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    components = centred @ axes[: CODE_DIM - 1].T
    components = components / components.norm(dim=1).mean()
    constant = torch.full((CODES, 1), 0.5)
    return book, F.normalize(torch.cat([components, constant], 1), dim=1)


def nearest_codes(pixels: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """Index of the nearest code-book patch for every patch: [B, 64]."""
    patches = patches_of(pixels)
    score = 2 * patches @ book.T - book.square().sum(1)
    return score.argmax(-1)


def load_code_book(work: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The code book of this work folder, made on first use."""
    path = work / "codes.safetensors"
    if not path.exists():
        book, embedding = make_code_book()
        save_file({"book": book.contiguous(), "embedding": embedding.contiguous()}, path)
    tensors = load_file(path)
    return tensors["book"], tensors["embedding"]
