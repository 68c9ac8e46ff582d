"""A random InternVL3: byte-level BPE, tiles of 64 pixels and a thumbnail, 4 tokens a tile."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from aia.intensity import Group
from backend.families.internvl import InternVLStillsProcessor
from backend.models.specs import ModelSpec
from tests.checkpoints import qwen3_vl

TASKS = qwen3_vl.TASKS
MARKERS = {Group.BOI: "<img>", Group.EOI: "</img>"}
CONTROL = "<IMG_CONTEXT>"
TILE_PX = 64

# As the checkpoints' own for pictures and texts; videos left out.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for content in message.content %}"
    "{% if content.type == 'image' %}<IMG_CONTEXT>\n{% else %}{{ content.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make(folder: Path) -> ModelSpec:
    tokenizer = qwen3_vl.make_tokenizer(
        (*qwen3_vl.SPECIAL[:2], "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    pictures = GotOcr2ImageProcessorPil(size={"height": TILE_PX, "width": TILE_PX}, crop_to_patches=True)
    processor = InternVLStillsProcessor(pictures, tokenizer, image_seq_length=4, chat_template=CHAT_TEMPLATE)
    processor.save_pretrained(folder)
    torch.manual_seed(1)
    vision = InternVLVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=(TILE_PX, TILE_PX),
        patch_size=(16, 16),
    )
    config = InternVLConfig(
        text_config=Qwen2Config(**qwen3_vl.make_text_settings(tokenizer)).to_dict(),
        vision_config=vision.to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    qwen3_vl.save_weights(InternVLForConditionalGeneration(config), tokenizer, folder)
    return qwen3_vl.make_spec("internvl", folder)
