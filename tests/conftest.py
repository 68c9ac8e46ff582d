"""Fixtures shared by the rooms' tests: the embedded model, and a random Janus checkpoint in the real format."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from assets.recipes.processor import CHAT_TEMPLATE, SPECIAL
from backend.families import load_model
from backend.specs import SPECS, ModelSpec

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_janus():
    """The embedded model, loaded once."""
    return load_model(SPECS[0])


@pytest.fixture
def tiny_janus_copy():
    """The embedded model, loaded for one test that changes it."""
    return load_model(SPECS[0])


@pytest.fixture(scope="session")
def random_janus_spec(tmp_path_factory) -> ModelSpec:
    """A folder as the hub would hold it: byte-level BPE, grouped-query heads, 16 image tokens, random weights."""
    folder = tmp_path_factory.mktemp("random-janus")
    tokenizer = make_byte_tokenizer()
    processor = JanusProcessor(
        JanusImageProcessorPil(size={"height": 32, "width": 32}, min_size=8),
        tokenizer,
        chat_template=CHAT_TEMPLATE,
        num_image_tokens=16,
    )
    processor.save_pretrained(folder)
    torch.manual_seed(1)
    JanusForConditionalGeneration(make_random_config(tokenizer)).save_pretrained(folder)
    return dataclasses.replace(SPECS[0], name="random-janus", title="random-janus", source=str(folder))


@pytest.fixture(scope="session")
def random_janus(random_janus_spec):
    return load_model(random_janus_spec)


def make_byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, as the large models have, with Janus' special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["what colour is the zebra", "a red circle left of a blue square"], trainer)
    bos = SPECIAL[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    names = dict(zip(("pad", "bos", "eos", "unk", "image", "boi", "eoi"), SPECIAL, strict=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": names[name] for name in ("pad", "bos", "eos")},
        padding_side="left",
        extra_special_tokens={f"{name}_token": names[name] for name in ("image", "boi", "eoi")},
    )


def make_random_config(tokenizer: PreTrainedTokenizerFast) -> JanusConfig:
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = JanusVisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        num_image_tokens=16,
        projection_dim=64,
    )
    vq = JanusVQVAEConfig(
        embed_dim=8,
        num_embeddings=32,
        latent_channels=32,
        base_channels=32,
        channel_multiplier=(1, 1),
        num_res_blocks=1,
        projection_dim=64,
        image_token_embed_dim=64,
    )
    return JanusConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        vq_config=vq.to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids(tokenizer.image_token),
    )
