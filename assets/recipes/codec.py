"""Stage 1: the VQ tokenizer that names the codes of the code book and draws them.

Knows no language model.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from assets.recipes.codes import BARE, CODE_DIM, load_code_book, nearest_codes
from assets.recipes.janus import make_model
from assets.recipes.optimizers import log, make_optimizer, step_optimizer
from assets.recipes.pictures import pixels_of, scenes_for
from assets.recipes.processor import make_processor


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
        elif isinstance(module, nn.Conv2d) and name.endswith(("conv2", "proj_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
