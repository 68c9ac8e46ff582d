"""A random LLaVA-OneVision: byte-level BPE, an overview of 16 tokens, tiles of 32 pixels with line ends."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from backend.families.llava_onevision import LlavaStillsProcessor
from backend.models.specs import ModelSpec
from tests.checkpoints import qwen3_vl

TASKS = qwen3_vl.TASKS
MARKERS: dict = {}
CONTROL = "<image>"
TILE_PX = 32
SIZES = [[TILE_PX * rows, TILE_PX * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]

# As transformers' conversion script writes it for pictures and texts: pictures first; videos left out.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% for content in message.content if content.type == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message.content if content.type == 'text' %}{{ content.text }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make(folder: Path) -> ModelSpec:
    tokenizer = qwen3_vl.make_tokenizer((*qwen3_vl.SPECIAL[:2], "<image>", "<video>"))
    pictures = LlavaOnevisionImageProcessorPil(size={"height": TILE_PX, "width": TILE_PX}, image_grid_pinpoints=SIZES)
    processor = LlavaStillsProcessor(
        pictures,
        tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    torch.manual_seed(1)
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=TILE_PX,
        patch_size=8,
        vision_use_head=False,
    )
    config = LlavaOnevisionConfig(
        text_config=Qwen2Config(**qwen3_vl.make_text_settings(tokenizer)).to_dict(),
        vision_config=vision.to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=SIZES,
    )
    qwen3_vl.save_weights(LlavaOnevisionForConditionalGeneration(config), tokenizer, folder)
    return qwen3_vl.make_spec("llava_onevision", folder)
