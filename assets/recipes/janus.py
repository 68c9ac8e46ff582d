"""What tiny-janus is: its sizes, an untrained model of them, and the world's pictures as tensors.

Knows no training.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from transformers import JanusConfig, JanusForConditionalGeneration, LlamaConfig
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig

from aia import world

SEED = 20251122
CODES, CODE_DIM, PATCH_PX, GRID, WIDTH = 2048, 32, 8, 8, 128
BARE = 0  # the code of bare background: the most frequent patch


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
