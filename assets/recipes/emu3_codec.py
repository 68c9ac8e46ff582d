"""The VQ tokenizer of tiny-emu3: an encoder that names codes by construction, and a decoder that learns to draw them.

Knows no language model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from assets.recipes.codec import start_as_identity
from assets.recipes.codes import BARE, CODE_DIM, load_code_book, nearest_codes
from assets.recipes.emu3 import make_model
from assets.recipes.emu3_processor import make_processor
from assets.recipes.optimizers import log, make_optimizer, step_optimizer
from assets.recipes.pictures import GRID, PATCH_PX, patches_of, pixels_of, scenes_for

STEADY = 1000.0  # a constant beside which a group's own spread vanishes, so that GroupNorm only scales


def principal_axes(book: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean patch [192] and the first 32 principal axes [32, 192] of the code book."""
    mean = book.mean(0)
    return mean, torch.linalg.svd(book - mean, full_matrices=False).Vh[:CODE_DIM]


@torch.no_grad()
def name_exactly(vq: nn.Module, book: torch.Tensor) -> None:
    """Set the encoder and the code vectors so that each patch's nearest code, by 32 principal components, is named.

    The three strided convolutions gather a patch's 192 numbers and take its components; each component x
    then goes through the last GroupNorm in a group (x, −x, STEADY, −STEADY), whose mean is zero and whose
    spread is constant, and through x·sigmoid(x) as the pair x, −x, whose difference is x again.
    """
    mean, axes = principal_axes(book)
    encoder = vq.encoder
    for module in (encoder, vq.quant_conv):
        for parameter in (p for n, p in module.named_parameters() if "norm" not in n):
            parameter.zero_()
    stages = encoder.down_block.down
    encoder.conv_in.weight[range(3), range(3), 1, 1] = 1
    gather(stages[0].downsample.conv, 3)
    stages[1].block[0].nin_shortcut.weight[range(12), range(12)] = 1
    gather(stages[1].downsample.conv, 12)
    pixels = axes.view(CODE_DIM, 3, 2, 2, 2, 2, 2, 2)  # component, colour, y in steps of 4, 2, 1 px, x the same
    taps = pixels.permute(0, 3, 6, 4, 7, 1, 2, 5).reshape(CODE_DIM, 48, 2, 2)
    stages[2].downsample.conv.weight[:CODE_DIM, :48, :2, :2] = taps
    stages[2].downsample.conv.bias[:CODE_DIM] = -(axes @ mean)
    widen = stages[3].block[0].nin_shortcut
    for component in range(CODE_DIM):
        group = 4 * component
        widen.weight[group, component], widen.weight[group + 1, component] = 1, -1
        widen.bias[group + 2], widen.bias[group + 3] = STEADY, -STEADY
        encoder.conv_out.weight[component, group, 1, 1], encoder.conv_out.weight[component, group + 1, 1, 1] = 1, -1
    encoder.norm_out.weight.fill_(STEADY / 2**0.5)
    encoder.norm_out.bias.zero_()
    vq.quant_conv.conv.weight[range(CODE_DIM), range(CODE_DIM), 2] = 1  # of three frames the last
    vq.quantize.embedding.weight.copy_((book - mean) @ axes.T)


def gather(conv: nn.Conv2d, channels: int) -> None:
    """Make a strided convolution put the four pixels of a 2×2 block side by side: y, x, channel."""
    for place in range(4):
        y, x = divmod(place, 2)
        conv.weight[range(place * channels, (place + 1) * channels), range(channels), y, x] = 1


@torch.no_grad()
def start_decoder(vq: nn.Module) -> None:
    """As `start_as_identity`; what the codes add to the norms, and the convolutions over time, start at nothing."""
    start_as_identity(vq.decoder)
    for name, module in vq.decoder.named_modules():
        if name.endswith(("conv_y", "conv_b")):
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.bias, float(name.endswith("conv_y")))
        elif name.endswith("out_proj") or ("time_res" in name and name.endswith("conv2.conv")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    vq.post_quant_conv.conv.weight.zero_()
    vq.post_quant_conv.conv.bias.zero_()
    vq.post_quant_conv.conv.weight[range(CODE_DIM), range(CODE_DIM), 2] = 1


def centre_codes(book: torch.Tensor, scenes: int) -> torch.Tensor:
    """The mean of the patches that each code is nearest to, over training scenes: [2048, 192].

    The code book rounds to whole grey values; patches that differ by one would be taken for each other.
    """
    sums, seen = book.double() * 1e-3, torch.full((len(book), 1), 1e-3, dtype=torch.double)
    drawn, _ = scenes_for("codes", 0, scenes)
    for chunk in (drawn[i : i + 500] for i in range(0, scenes, 500)):
        pixels = pixels_of(chunk)
        codes = nearest_codes(pixels, book).flatten()
        sums.index_add_(0, codes, patches_of(pixels).flatten(0, 1).double())
        seen.index_add_(0, codes, torch.ones(len(codes), 1, dtype=torch.double))
    return (sums / seen).float()


def make_codec(book: torch.Tensor, scenes: int) -> nn.Module:
    """The VQ tokenizer with its encoder done, its codes centred on so many scenes, and its decoder at the start."""
    vq = make_model(make_processor()).model.vqmodel
    name_exactly(vq, centre_codes(book, scenes))
    start_decoder(vq)
    return vq


def train_decoder(work: Path, steps: int, batch: int, rate: float, scenes: int, device: str = "cpu") -> None:
    """Teach the decoder to draw what the codes say; the convolutions over time stay as they are.

    Where the work folder has a trained VQ tokenizer already, that is trained on, under a schedule of its own.
    """
    book, _ = load_code_book(work)
    vq, first = load_or_make_codec(work, book, scenes)
    vq.to(device).eval().requires_grad_(False)  # frames are single: no batch statistics
    parts = nn.ModuleList([vq.decoder.conv_in, vq.decoder.middle_block, vq.decoder.up_block])
    parts.extend([vq.decoder.norm_out, vq.decoder.conv_out]).requires_grad_(True)
    optimizer, schedule = make_optimizer(parts, rate, steps)
    for step in range(first, first + steps):
        drawn, _ = scenes_for("codec", step, batch)
        codes = nearest_codes(pixels_of(drawn), book)
        wanted = pixels_from(book, codes).to(device)
        error = vq.decode(codes.view(batch, GRID, GRID).to(device)) - wanted
        step_optimizer(error.abs().mean() + error.square().mean(), parts, optimizer, schedule)
        last = step == first + steps - 1
        if step % 25 == 0 or last:
            log(work, "codec", step=step, absolute=error.abs().mean().item(), worst=error.abs().max().item())
        if (step + 1) % 100 == 0 or last:
            tensors = {k: v.contiguous() for k, v in vq.state_dict().items()}
            save_file(tensors, work / "codec.part", {"step": str(step + 1)})
            (work / "codec.part").rename(work / "codec.safetensors")


def load_or_make_codec(work: Path, book: torch.Tensor, scenes: int) -> tuple[nn.Module, int]:
    """The VQ tokenizer of the work folder and its decoder's steps, or one at the start."""
    path = work / "codec.safetensors"
    if not path.exists():
        return make_codec(book, scenes), 0
    vq = make_model(make_processor()).model.vqmodel
    load_codec(work, vq)
    with safe_open(path, "pt") as file:
        return vq, int(file.metadata()["step"])


def pixels_from(book: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The pictures that codes stand for: codes [B, 64] → [B, 3, 64, 64]."""
    return nn.functional.fold(book[codes].mT, GRID * PATCH_PX, PATCH_PX, stride=PATCH_PX)


def load_codec(work: Path, vq: nn.Module) -> None:
    vq.load_state_dict(load_file(work / "codec.safetensors"))


def naming_score(vq: nn.Module, book: torch.Tensor, scenes) -> tuple[float, float]:
    """Share of patches that the encoder names as the code book does: of all, and of those not of bare background."""
    pixels = pixels_of(scenes)
    wanted = nearest_codes(pixels, book)
    with torch.no_grad():
        named = torch.stack(vq.encode(pixels, torch.full((len(pixels), 2), 64)).image_tokens).flatten(1)
    right = named == wanted
    return right.float().mean().item(), right[wanted != BARE].float().mean().item()
