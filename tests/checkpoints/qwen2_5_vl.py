"""A random Qwen2.5-VL: byte-level BPE, M-RoPE, windows in the vision encoder, a system prompt in the template."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from backend.families.qwen_vl import Qwen25StillsProcessor
from backend.models.specs import ModelSpec
from tests.checkpoints import qwen3_vl

TASKS, MARKERS, CONTROL = qwen3_vl.TASKS, qwen3_vl.MARKERS, qwen3_vl.CONTROL

CHAT_TEMPLATE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + qwen3_vl.CHAT_TEMPLATE


def make(folder: Path) -> ModelSpec:
    tokenizer = qwen3_vl.make_tokenizer(qwen3_vl.SPECIAL)
    pictures = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, size={"shortest_edge": 48 * 48, "longest_edge": 96 * 96}
    )
    Qwen25StillsProcessor(pictures, tokenizer, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    torch.manual_seed(1)
    text = Qwen2_5_VLTextConfig(
        **qwen3_vl.make_text_settings(tokenizer),
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default", "mrope_section": [4, 2, 2]},
    )
    vision = Qwen2_5_VLVisionConfig(
        depth=2,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        patch_size=8,
        window_size=32,
        out_hidden_size=64,
        fullatt_block_indexes=(1,),
    )
    config = Qwen2_5_VLConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), **qwen3_vl.make_token_ids(tokenizer)
    )
    qwen3_vl.save_weights(Qwen2_5_VLForConditionalGeneration(config), tokenizer, folder)
    return qwen3_vl.make_spec("qwen2_5_vl", folder)
