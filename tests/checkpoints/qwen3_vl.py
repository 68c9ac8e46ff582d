"""A random Qwen3-VL: byte-level BPE, M-RoPE, features of two depths of the vision encoder (DeepStack)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig, Qwen3VLVisionConfig

from aia.intensity import Group, Task
from backend.families.qwen_vl import Qwen3StillsProcessor
from backend.models.specs import SPECS, ModelSpec

TASKS = frozenset({Task.UNDERSTANDING})
MARKERS = {Group.BOI: "<|vision_start|>", Group.EOI: "<|vision_end|>"}
CONTROL = "<|image_pad|>"

END, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (TURN_START, TURN_END, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

# As the checkpoints' own for pictures and texts; tools and videos left out.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for content in message.content %}"
    "{% if content.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ content.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make(folder: Path) -> ModelSpec:
    tokenizer = make_tokenizer(SPECIAL)
    pictures = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, size={"shortest_edge": 48 * 48, "longest_edge": 96 * 96}
    )
    Qwen3StillsProcessor(pictures, tokenizer, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    torch.manual_seed(1)
    text = Qwen3VLTextConfig(
        **make_text_settings(tokenizer),
        head_dim=16,
        rope_parameters={
            "rope_theta": 10000.0,
            "rope_type": "default",
            "mrope_section": [4, 2, 2],
            "mrope_interleaved": True,
        },
    )
    vision = Qwen3VLVisionConfig(
        depth=3,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        patch_size=8,
        out_hidden_size=64,
        num_position_embeddings=36,
        deepstack_visual_indexes=(0, 1),
    )
    config = Qwen3VLConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), **make_token_ids(tokenizer))
    save_weights(Qwen3VLForConditionalGeneration(config), tokenizer, folder)
    return make_spec("qwen3_vl", folder)


def make_tokenizer(special: tuple[str, ...], **settings) -> Qwen2Tokenizer:
    """A Qwen tokenizer of bytes, a few merges and these special tokens."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    learnt.train_from_iterator(["what colour is the zebra", "how many red circles are there"] * 3, trainer)
    bpe = json.loads(learnt.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(pair) for pair in bpe["merges"]],
        eos_token=TURN_END,
        pad_token=END,
        **settings,
    )
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def make_text_settings(tokenizer: Qwen2Tokenizer) -> dict:
    """A language model of 3 layers, 4 heads on 2 key-value heads, 64 wide."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def make_token_ids(tokenizer: Qwen2Tokenizer) -> dict[str, int]:
    """The tokens that a Qwen-VL configuration names."""
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}


def save_weights(model: PreTrainedModel, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """The weights, and generation settings as the hub has them: two end tokens, sampling, a penalty."""
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        repetition_penalty=1.05,
    )
    model.save_pretrained(folder)


def make_spec(family: str, folder: Path) -> ModelSpec:
    """The spec of a random model of that family."""
    return dataclasses.replace(
        SPECS[0],
        name=f"random-{family}",
        title=f"random-{family}",
        family=family,
        source=str(folder),
        tasks=TASKS,
        layers=3,
        heads=4,
    )
