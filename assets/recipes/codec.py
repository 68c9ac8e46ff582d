"""Stage 1: the code book, and the VQ tokenizer that names its codes and draws them.

Knows no language model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from assets.recipes.janus import (
    BARE,
    CODE_DIM,
    CODES,
    SEED,
    make_model,
    patches_of,
    pixels_of,
    scenes_for,
)
from assets.recipes.optimizers import log, make_optimizer, step_optimizer
from assets.recipes.processor import make_processor


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


def train_codec(work: Path, steps: int, batch: int) -> None:
    """Teach the VQ encoder to name the nearest code, and the decoder to draw what the codes say."""
    book, embedding = load_code_book(work)
    vq = make_model(make_processor()).model.vqmodel.train()
    start_as_identity(vq)
    vq.quantize.embedding.weight.data.copy_(embedding)
    vq.quantize.embedding.weight.requires_grad_(False)
    encoder = nn.ModuleList([vq.encoder, vq.quant_conv])
    decoder = nn.ModuleList([vq.decoder, vq.post_quant_conv])
    optimizers = [make_optimizer(part, 2e-3, steps) for part in (encoder, decoder)]
    for step in range(steps):
        scenes, _ = scenes_for("codec", step, batch)
        pixels = pixels_of(scenes)
        codes = nearest_codes(pixels, book).flatten()
        z = vq.quant_conv(vq.encoder(pixels)).permute(0, 2, 3, 1).reshape(-1, CODE_DIM)
        weight = torch.where(codes == BARE, 0.05, 1.0)
        losses = F.cross_entropy(20 * z @ embedding.T, codes, reduction="none")
        naming = (losses * weight).sum() / weight.sum()
        step_optimizer(naming, encoder, *optimizers[0])
        error = vq.decode(codes.view(len(scenes), -1)) - pixels
        drawing = error.abs().mean() + error.square().mean()
        step_optimizer(drawing, decoder, *optimizers[1])
        if step % 25 == 0 or step == steps - 1:
            hit = ((z @ embedding.T).argmax(-1) == codes)[codes != BARE].float().mean()
            log(work, "codec", step=step, naming=naming.item(), drawing=drawing.item(), hit=hit.item())
        if (step + 1) % 250 == 0 or step == steps - 1:
            tensors = {f"vq.{k}": v.contiguous() for k, v in vq.state_dict().items()}
            save_file(tensors, work / "codec.safetensors")


def start_as_identity(vq: nn.Module) -> None:
    """Start with empty residual branches and plain upsampling: the first pictures are blocks in the right colours.

    From transformers' own starting values the decoder stays at bare background for hundreds of steps.
    """
    for module in vq.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    for name, module in vq.named_modules():
        if name.endswith("upsample.conv"):
            nn.init.dirac_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith(("conv2", "proj_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
