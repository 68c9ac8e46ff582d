"""Checkpoints of any size with random weights, in the hub's format: speed and memory of a model without its weights.

Written shard by shard, so that one larger than the memory comes about too. Processors are those of tests/checkpoints:
a few hundred words. Knows two families' configurations; measures nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    Emu3Config,
    Emu3ForConditionalGeneration,
    Emu3ImageProcessor,
    Emu3Processor,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from assets.recipes.processor import CHAT_TEMPLATE
from backend.models.local_models import spec_of_folder
from backend.models.specs import BOTH_TASKS, ModelSpec
from tests.checkpoints import emu3, janus

SHARD_BYTES = 4 * 2**30
INDEX = "model.safetensors.index.json"


def write_random_janus(folder: Path, config: JanusConfig, name: str, dtype: torch.dtype = torch.float32) -> ModelSpec:
    """A Janus of that configuration, with the words of the tests' processor."""
    tokenizer = janus.make_byte_tokenizer()
    config = copy.deepcopy(config)
    config.image_token_id = tokenizer.convert_tokens_to_ids(tokenizer.image_token)
    eyes = config.vision_config
    pictures = JanusImageProcessorPil(size={"height": eyes.image_size, "width": eyes.image_size}, min_size=8)
    tokens = (eyes.image_size // eyes.patch_size) ** 2
    processor = JanusProcessor(pictures, tokenizer, chat_template=CHAT_TEMPLATE, num_image_tokens=tokens)
    processor.save_pretrained(folder)
    write_random_weights(folder, JanusForConditionalGeneration, config, dtype)
    return replace(spec_of_folder(folder), name=name, title=name)


def write_random_emu3(folder: Path, config: Emu3Config, name: str, dtype: torch.dtype = torch.float32) -> ModelSpec:
    """An Emu3 of that configuration, with the words of the tests' processor and as many codes as the configuration."""
    tokenizer = emu3.make_tokenizer(config.vq_config.codebook_size)
    pictures = Emu3ImageProcessor(min_pixels=16 * 16, max_pixels=720 * 720)
    Emu3Processor(pictures, tokenizer, chat_template=emu3.CHAT_TEMPLATE).save_pretrained(folder)
    config = copy.deepcopy(config)
    config.vocabulary_map = Emu3Processor.from_pretrained(folder).tokenizer.get_vocab()
    write_random_weights(folder, Emu3ForConditionalGeneration, config, dtype)
    return replace(spec_of_folder(folder), name=name, title=name, tasks=BOTH_TASKS)


def janus_config(width: int, inner: int, layers: int, heads: int, side: int) -> JanusConfig:
    """A Janus whose language model has that size and draws `side`² tokens; its encoders are the tests'."""
    config = janus.make_random_config(janus.make_byte_tokenizer())
    set_language_model(config.text_config, width, inner, layers, heads, heads, side**2 + 256)
    eyes, codec = config.vision_config, config.vq_config
    eyes.image_size, eyes.patch_size, eyes.num_image_tokens, eyes.projection_dim = 16 * side, 16, side**2, width
    codec.num_embeddings, codec.num_patches = 16_384, side
    codec.channel_multiplier = [1, 1, 2, 2, 4]
    codec.projection_dim = codec.image_token_embed_dim = width
    return config


def emu3_config(width: int, inner: int, layers: int, heads: int, side: int) -> Emu3Config:
    """An Emu3 whose language model has that size and can draw `side`² patches; its VQ tokenizer is the test's."""
    config = emu3.make_config(emu3.make_tokenizer())
    set_language_model(config.text_config, width, inner, layers, heads, heads, side * (side + 1) + 256)
    return config


def set_language_model(
    text: PreTrainedConfig, width: int, inner: int, layers: int, heads: int, kv_heads: int, context: int
) -> None:
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = width, inner, layers
    text.num_attention_heads, text.num_key_value_heads, text.head_dim = heads, kv_heads, width // heads
    text.max_position_embeddings = max(512, context)


def write_random_weights(
    folder: Path, model_class: type[PreTrainedModel], config: PreTrainedConfig, dtype: torch.dtype
) -> None:
    """Configuration and weights, as `save_pretrained` would leave them, no more than one shard in memory."""
    config.dtype, config.tie_word_embeddings = dtype, False
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)
    with torch.device("meta"):
        empty = model_class(config)
    placed, total = {}, 0
    for number, names in enumerate(_shards(empty, dtype.itemsize), start=1):
        file = f"model-{number:05}.safetensors"
        shapes = empty.state_dict()
        tensors = {name: _random(name, shapes[name].shape, dtype) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(names, file)
        total += sum(t.nbytes for t in tensors.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": placed}))


def _shards(model: PreTrainedModel, itemsize: int) -> Iterator[list[str]]:
    names, held = [], 0
    for name, tensor in model.state_dict().items():
        if held and held + tensor.numel() * itemsize > SHARD_BYTES:
            yield names
            names, held = [], 0
        names.append(name)
        held += tensor.numel() * itemsize
    yield names


def _random(name: str, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Matrices from a narrow normal distribution; norms pass through, biases are 0."""
    if len(shape) > 1:
        device = "cuda" if torch.cuda.is_available() else "cpu"  # a CPU takes a minute for a large model
        return torch.empty(shape, dtype=dtype, device=device).normal_(0, 0.02)
    return torch.full(shape, 1.0 if "norm" in name and name.endswith("weight") else 0.0, dtype=dtype)
