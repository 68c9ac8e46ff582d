"""Train `tiny-janus` from nothing: code book and VQ tokenizer, vision encoder, language model, export.

    python -m assets.recipes.tiny_janus all --work DIR --out assets/tiny-janus

Each stage reads what the one before it wrote to the work folder, and the long one resumes from its
last checkpoint. Knows the shapes world and `transformers`' Janus classes; knows no probe and no page.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import JanusConfig, JanusForConditionalGeneration, LlamaConfig
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig

from aia import world
from assets.recipes.processor import make_processor

SEED = 20251122
CODES, CODE_DIM, PATCH_PX, GRID, WIDTH = 2048, 32, 8, 8, 128
QUESTION_WEIGHTS = {"describe": 0.4, "existence": 1.5, "relation": 2.0}  # per answer token; others 1
DRAWING_SHARES = {"one object": 3, "counting": 5, "two objects": 4, "position": 4, "several objects": 1}
BARE = 0  # the code of bare background: the most frequent patch
CAPTION_DROP = 0.1  # share of prompts blanked for classifier-free guidance


def make_config(processor) -> JanusConfig:
    """8 layers × 128 wide × 8 heads; 64 image tokens; 2,048 codes."""
    tokenizer = processor.tokenizer
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=352,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    vision = JanusVisionConfig(
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=world.CANVAS_PX,
        patch_size=PATCH_PX,
        num_image_tokens=GRID * GRID,
        projection_dim=WIDTH,
        depth=2,
    )
    vq = JanusVQVAEConfig(
        embed_dim=CODE_DIM,
        num_embeddings=CODES,
        latent_channels=64,
        base_channels=32,
        channel_multiplier=(1, 1, 2, 2),
        num_res_blocks=1,
        projection_dim=WIDTH,
        image_token_embed_dim=WIDTH,
        num_patches=GRID,
    )
    return JanusConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        vq_config=vq.to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids(tokenizer.image_token),
    )


def make_model(processor) -> JanusForConditionalGeneration:
    torch.manual_seed(SEED)
    return JanusForConditionalGeneration(make_config(processor)).float()


# --- pictures as tensors --------------------------------------------------------------------


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


# --- stage 1: code book and VQ tokenizer ----------------------------------------------------


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


# --- stage 2: vision encoder ----------------------------------------------------------------


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


# --- stage 3: language model ----------------------------------------------------------------


def make_understanding_batch(processor, step: int, batch: int) -> dict:
    """Pictures, each with one question of every kind, all asked first.

    The questions of a picture share its tokens but do not see each other: the mask is causal within
    "prefix + own question", and positions start again after the prefix.
    """
    tokenizer = processor.tokenizer
    scenes, rng = scenes_for("understanding", step, batch)
    prefix = understanding_prefix(tokenizer)
    rows = []
    for scene in scenes:
        ids, weights, segments, positions = (
            list(prefix),
            [0.0] * len(prefix),
            [0] * len(prefix),
            list(range(len(prefix))),
        )
        for number, question in enumerate(world.make_questions(scene, rng).values(), start=1):
            asked = question_ids(tokenizer, question.text)
            told = [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            ids += asked + told
            weights += [0.0] * len(asked) + [QUESTION_WEIGHTS.get(question.kind, 1.0)] * len(told)
            segments += [number] * len(asked + told)
            positions += range(len(prefix), len(prefix) + len(asked + told))
        rows.append((ids, weights, segments, positions))
    length = max(len(row[0]) for row in rows)
    ids, weights, segments, positions = (
        torch.tensor([row[i] + [fill] * (length - len(row[i])) for row in rows])
        for i, fill in enumerate((tokenizer.pad_token_id, 0.0, -1, 0))
    )
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    sees = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    return {
        "pixels": pixels_of(scenes),
        "ids": ids,
        "weights": weights,
        "positions": positions,
        "mask": (causal & sees)[:, None],  # [B, 1, N, N]
    }


def understanding_prefix(tokenizer) -> list[int]:
    text = tokenizer.user_token + ": " + tokenizer.boi_token + tokenizer.image_token * GRID * GRID + tokenizer.eoi_token
    return tokenizer(text).input_ids


def question_ids(tokenizer, text: str) -> list[int]:
    return tokenizer(f"{text}\n\n{tokenizer.assistant_token}:", add_special_tokens=False).input_ids


def understanding_loss(model, batch: dict) -> torch.Tensor:
    with torch.no_grad():
        features = model.model.vision_model(batch["pixels"]).last_hidden_state
    features = model.model.aligner(features)
    embeds = model.get_input_embeddings()(batch["ids"])
    is_image = batch["ids"] == model.config.image_token_id
    embeds = embeds.masked_scatter(is_image[..., None], features)
    hidden = model.model.language_model(
        inputs_embeds=embeds, attention_mask=batch["mask"], position_ids=batch["positions"], use_cache=False
    ).last_hidden_state
    weights = batch["weights"][:, 1:]
    wanted = weights > 0
    losses = F.cross_entropy(model.lm_head(hidden[:, :-1][wanted]), batch["ids"][:, 1:][wanted], reduction="none")
    return (losses * weights[wanted]).sum() / weights.sum()


def make_drawing_batch(processor, book: torch.Tensor, step: int, batch: int, focus: bool) -> dict:
    """Prompts (some blanked for guidance) and the codes of their pictures.

    With `focus`, each kind of short prompt in a fixed share, and more of what only the prompt can tell:
    without it the model learns what pictures look like long before it listens to the prompt.
    """
    tokenizer = processor.tokenizer
    scenes, rng = scenes_for("drawing", step, batch, weights=(3, 4, 2, 2))
    prompts = [world.make_drawing(scene, rng).prompt for scene in scenes]
    if focus:
        kinds = rng.choices(tuple(DRAWING_SHARES), tuple(DRAWING_SHARES.values()), k=batch)
        pairs = [world.make_drawing_of_kind(rng, kind) for kind in kinds]
        scenes, prompts = [scene for scene, _ in pairs], [drawing.prompt for _, drawing in pairs]
    rows = []
    for scene, short in zip(scenes, prompts, strict=True):
        prompt = world.describe(scene) if rng.random() < (0.25 if focus else 0.35) else short
        ids = drawing_ids(tokenizer, prompt)
        if rng.random() < CAPTION_DROP:
            ids = [ids[0], *[tokenizer.pad_token_id] * (len(ids) - 2), ids[-1]]
        rows.append(ids)
    length = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
    codes = nearest_codes(pixels_of(scenes), book)
    return {
        "codes": codes,
        "first": find_first_patches(codes) if focus else torch.zeros(codes.shape, dtype=torch.bool),
        "ids": ids,
        "lengths": torch.tensor([len(row) for row in rows]),
    }


def find_first_patches(codes: torch.Tensor) -> torch.Tensor:
    """Where a thing's first patch is, in raster order: codes [B, 64] → bool [B, 64].

    It is bare background at the left and above, so nothing but the prompt tells what comes there; the
    patches after it mostly follow from it.
    """
    bare = F.pad((codes == BARE).view(-1, GRID, GRID).float(), (1, 1, 1, 0), value=1.0) > 0  # a border of background
    here, left = bare[:, 1:, 1:-1], bare[:, 1:, :-2]
    above = bare[:, :-1, 1:-1] & bare[:, :-1, :-2] & bare[:, :-1, 2:]
    return (~here & left & above).flatten(1)


def drawing_ids(tokenizer, prompt: str) -> list[int]:
    return tokenizer(f"{tokenizer.user_token}: {prompt}\n\n{tokenizer.assistant_token}:{tokenizer.boi_token}").input_ids


def drawing_loss(model, batch: dict) -> torch.Tensor:
    """Cross-entropy of the 64 codes; the picture follows its prompt at once, padding stands at the end.

    With focus, half as much again of "which code, given that it is not background" at the first patch
    of each thing; weighting the plain loss instead would teach wrong odds of background.
    """
    codes, lengths = batch["codes"], batch["lengths"]
    size, total = len(codes), batch["ids"].shape[1] + GRID * GRID - 1
    text = model.get_input_embeddings()(batch["ids"])
    embeds = torch.cat([text, text.new_zeros(size, total - text.shape[1], WIDTH)], 1)
    spots = lengths[:, None] + torch.arange(GRID * GRID - 1)  # positions of the fed-back codes
    fed = model.prepare_embeddings_for_image_generation(codes[:, :-1])
    embeds = embeds.scatter(1, spots[..., None].expand_as(fed), fed)
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    rows = lengths[:, None] - 1 + torch.arange(GRID * GRID)  # from begin-of-image to the last code but one
    hidden = hidden.gather(1, rows[..., None].expand(-1, -1, WIDTH))
    logits = model.model.generation_head(hidden)
    loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
    if not batch["first"].any():
        return loss
    which = logits[batch["first"]].index_fill(1, torch.tensor([BARE]), -torch.inf)
    return loss + 0.5 * F.cross_entropy(which, codes[batch["first"]])


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


# --- stage 4: export ------------------------------------------------------------------------


def export(work: Path, out: Path) -> None:
    """Write the trained model and its processor as a `from_pretrained` folder, no file over 9 MB."""
    model, processor, _ = load_stages(work)
    codec = load_file(work / "codec.safetensors")
    model.model.vqmodel.load_state_dict({k.removeprefix("vq."): v for k, v in codec.items() if k.startswith("vq.")})
    step, _ = resume(work, model, 1.0, 0)
    generation = model.generation_config
    generation.generation_kwargs = {
        "boi_token_id": processor.tokenizer.convert_tokens_to_ids(processor.tokenizer.boi_token)
    }
    generation.guidance_scale = 3.0
    generation.bos_token_id = processor.tokenizer.bos_token_id
    generation.eos_token_id = processor.tokenizer.eos_token_id
    generation.pad_token_id = processor.tokenizer.pad_token_id
    model.eval().save_pretrained(out, max_shard_size="9MB")
    processor.save_pretrained(out)
    print(f"wrote {out}, language model of step {step:,}")


# --- shared ---------------------------------------------------------------------------------


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("codec", "vision", "language", "export", "all"))
    parser.add_argument("--work", type=Path, default=Path("work-in-progress"))
    parser.add_argument("--out", type=Path, default=Path("assets/tiny-janus"))
    parser.add_argument("--codec-steps", type=int, default=2000)
    parser.add_argument("--vision-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=6000, help="language model steps")
    parser.add_argument("--decay-steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=24, help="pictures with questions a step; twice as many drawings")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--muon-from", type=int, default=0, help="step from which Muon trains the matrices")
    parser.add_argument("--focus-from", type=int, default=0, help="step from which drawing looks at small scenes more")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.stage in ("codec", "all"):
        train_codec(options.work, options.codec_steps, 8)
    if options.stage in ("vision", "all"):
        train_vision(options.work, options.vision_steps, 48)
    if options.stage in ("language", "all"):
        train_language(
            options.work,
            options.steps,
            options.decay_steps,
            options.batch,
            options.rate,
            options.muon_from,
            options.focus_from,
        )
    if options.stage in ("export", "all"):
        export(options.work, options.out)


if __name__ == "__main__":
    main()
