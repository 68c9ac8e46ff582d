"""A random Janus: byte-level BPE, grouped-query heads, 16 image tokens."""

from __future__ import annotations

import dataclasses
from pathlib import Path

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

from aia.intensity import Group
from assets.recipes.processor import BOI, BOS, CHAT_TEMPLATE, EOI, IMAGE, SPECIAL
from backend.families.decoding import branches_of
from backend.models.specs import BOTH_TASKS, SPECS, ModelSpec

TASKS = BOTH_TASKS
MARKERS = {Group.BOS: BOS, Group.BOI: BOI, Group.EOI: EOI}
CONTROL = IMAGE


def make(folder: Path) -> ModelSpec:
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
    return dataclasses.replace(SPECS[0], name="random-janus", title="random-janus", source=str(folder), tasks=TASKS)


def draw_uncached(model, prefill, sampling, codes):
    """Both branches have one length: the prompt's words are replaced by padding tokens that are attended to."""
    janus, tokenizer = model.model, model.tokenizer
    kept = torch.isin(prefill.ids, torch.tensor([tokenizer.bos_token_id, tokenizer.boi_token_id]))
    blank = torch.where(kept, prefill.ids, tokenizer.pad_token_id)
    ids = torch.stack([prefill.ids, blank][: branches_of(sampling)])
    drawn = janus.prepare_embeddings_for_image_generation(torch.tensor([codes]).expand(len(ids), -1))
    embeds = torch.cat([janus.get_input_embeddings()(ids), drawn], 1)
    maps = janus.model.language_model(inputs_embeds=embeds, output_attentions=True, use_cache=False).attentions
    return [[attention[[branch]] for attention in maps] for branch in range(len(ids))]


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
        channel_multiplier=(1, 1, 1, 1),
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
