"""What tiny-janus is: its sizes, and an untrained model of them.

Knows no training.
"""

from __future__ import annotations

import torch
from transformers import JanusConfig, JanusForConditionalGeneration, LlamaConfig
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig

from aia import world
from assets.recipes.codes import CODE_DIM, CODES
from assets.recipes.pictures import GRID, PATCH_PX, SEED

WIDTH = 128


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
