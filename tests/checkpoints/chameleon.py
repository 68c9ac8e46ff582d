"""A random Chameleon: byte-level BPE with the codes of pictures in its vocabulary, 16 tokens a picture."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    ChameleonProcessor,
    ChameleonVQVAEConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil

from aia.intensity import Group
from backend.models.specs import ModelSpec
from tests.checkpoints import qwen3_vl

TASKS = qwen3_vl.TASKS
MARKERS = {Group.BOS: "<s>", Group.BOI: "<racm3:break>", Group.EOI: "<eoss>"}
CONTROL = "<image>"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<racm3:break>", "<eoss>", "<reserved08706>", "<image>")
CODES = 32


def make(folder: Path) -> ModelSpec:
    tokenizer = make_tokenizer()
    pictures = ChameleonImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    ChameleonProcessor(pictures, tokenizer, image_seq_length=16).save_pretrained(folder)
    torch.manual_seed(1)
    codec = ChameleonVQVAEConfig(
        embed_dim=8,
        num_embeddings=CODES,
        latent_channels=32,
        resolution=32,
        base_channels=32,
        channel_multiplier=(1, 1, 1, 1),
        num_res_blocks=1,
    )
    settings = qwen3_vl.make_text_settings(tokenizer) | {"bos_token_id": tokenizer.bos_token_id}
    config = ChameleonConfig(**settings, vocabulary_map=tokenizer.get_vocab(), vq_config=codec.to_dict())
    model = ChameleonForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    return qwen3_vl.make_spec("chameleon", folder)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, a few merges, and a word for each code: letters for the digits of its number."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    codes = ["IMGIMG" + "".join(chr(ord("A") + int(digit)) for digit in str(code)) + "Z" for code in range(CODES)]
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=[*SPECIAL, *codes],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["what colour is the zebra", "how many red circles are there"] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "sep": "<reserved08706>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": AddedToken(token) for name, token in names.items()}
    )
