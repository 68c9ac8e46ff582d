"""What tiny-emu3 is: its sizes, and an untrained model of them.

Knows no training.
"""

from __future__ import annotations

import torch
from torch.nn.utils import parametrize
from transformers import Emu3Config, Emu3ForConditionalGeneration, Emu3TextConfig, Emu3VQVAEConfig

from assets.recipes.code_features import BuiltOn
from assets.recipes.codes import CODE_DIM, CODES
from assets.recipes.pictures import SEED

WIDTH = 128


def make_config(processor) -> Emu3Config:
    """8 layers × 128 wide × 8 heads on 4 key-value heads; 8 × 8 codes of 2,048; text and codes in one vocabulary."""
    tokenizer = processor.tokenizer
    text = Emu3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=352,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        attention_dropout=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vq = Emu3VQVAEConfig(
        codebook_size=CODES,
        embed_dim=CODE_DIM,
        latent_channels=CODE_DIM,
        temporal_downsample_factor=1,  # pictures only, no video
        base_channels=32,
        channel_multiplier=(1, 2, 2, 4),
        num_res_blocks=1,
        attn_resolutions=(),
        hidden_size=128,
    )
    return Emu3Config(
        vq_config=vq.to_dict(),
        text_config=text.to_dict(),
        vocabulary_map=dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])),
    )


def make_model(processor) -> Emu3ForConditionalGeneration:
    torch.manual_seed(SEED)
    return Emu3ForConditionalGeneration(make_config(processor)).float()


def set_generation(model: Emu3ForConditionalGeneration, processor) -> None:
    """The ids that end a text, and the guidance that drawings are scored at."""
    generation = model.generation_config
    generation.bos_token_id = processor.tokenizer.bos_token_id
    generation.eos_token_id = processor.tokenizer.eos_token_id
    generation.pad_token_id = processor.tokenizer.pad_token_id


def start_tables(model: Emu3ForConditionalGeneration, features: torch.Tensor, first_code: int) -> None:
    """Token tables whose rows of codes are built on the codes' features until `fold_tables`."""
    for table, own, scale in ((model.get_input_embeddings(), 0.05, 0.4), (model.lm_head, 0.01, 0.1)):
        torch.nn.init.normal_(table.weight, std=own)
        built = BuiltOn(features, first_code, table.weight.shape[1], scale)
        parametrize.register_parametrization(table, "weight", built)


def fold_tables(model: Emu3ForConditionalGeneration) -> None:
    for table in (model.get_input_embeddings(), model.lm_head):
        parametrize.remove_parametrizations(table, "weight", leave_parametrized=True)
