"""A random Emu3: its own kind of tokenizer (GPT-2's, with reserved and visual tokens), pictures of 4 to 25 patches."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Emu3Config,
    Emu3ForConditionalGeneration,
    Emu3ImageProcessor,
    Emu3Processor,
    Emu3TextConfig,
    Emu3VQVAEConfig,
    GPT2Tokenizer,
)

from aia.intensity import Group
from backend.families.decoding import branches_of
from backend.models.specs import BOTH_TASKS, ModelSpec

TASKS = BOTH_TASKS
PAD, BOS, EOS, ROW_END, EOF = "<|endoftext|>", "<|extra_203|>", "<|extra_204|>", "<|extra_200|>", "<|extra_201|>"
IMAGE, BOI, EOI, WRAPPER = "<image>", "<|image start|>", "<|image end|>", "<|image token|>"
CODES = 64
MARKERS = {Group.BOS: BOS, Group.BOI: BOI, Group.EOI: EOI}
CONTROL = WRAPPER

# That of Emu3-Chat-hf: it leaves the system sentence out where no system message is given.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def make(folder: Path) -> ModelSpec:
    pictures = Emu3ImageProcessor(min_pixels=16 * 16, max_pixels=40 * 40)
    Emu3Processor(pictures, make_tokenizer(), chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    tokenizer = Emu3Processor.from_pretrained(folder).tokenizer
    torch.manual_seed(1)
    model = Emu3ForConditionalGeneration(make_config(tokenizer))
    model.generation_config.update(do_sample=True, top_k=2048, max_new_tokens=50_000)  # as the large ones have it
    model.save_pretrained(folder)
    return ModelSpec(
        name="random-emu3",
        title="random-emu3",
        family="emu3",
        source=str(folder),
        revision="",
        tasks=TASKS,
        decoupling="none",
        layers=2,
        heads=4,
        image_tokens=25,
        parameters=sum(p.numel() for p in model.parameters()),
        licence="Apache-2.0",
        memory_mib={"float32": 20},
        note="random",
    )


def make_tokenizer(codes: int = CODES) -> GPT2Tokenizer:
    """Bytes and a few merges, then the reserved tokens, then one token for each code."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    learnt.train_from_iterator(["what colour is the zebra", "a red circle left of a blue square"], trainer)
    special = [PAD, IMAGE, BOI, EOI, WRAPPER, ROW_END, EOF, "<|extra_202|>", BOS, EOS]
    special += [f"<|visual token {code:06d}|>" for code in range(codes)]
    merges = [tuple(pair) for pair in _merges(learnt)]
    tokenizer = GPT2Tokenizer(
        vocab=learnt.get_vocab(),
        merges=merges,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=None,
        padding_side="left",
        extra_special_tokens={
            "image_token": IMAGE,
            "boi_token": BOI,
            "eoi_token": EOI,
            "image_wrapper_token": WRAPPER,
            "eof_token": EOF,
        },
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in special], special_tokens=True)
    return tokenizer


def _merges(tokenizer: Tokenizer) -> list:
    import json

    return json.loads(tokenizer.to_str())["model"]["merges"]


def make_config(tokenizer: GPT2Tokenizer) -> Emu3Config:
    text = Emu3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vq = Emu3VQVAEConfig(codebook_size=CODES, base_channels=32, num_res_blocks=1, attn_resolutions=(), hidden_size=128)
    return Emu3Config(vq_config=vq.to_dict(), text_config=text.to_dict(), vocabulary_map=tokenizer.get_vocab())


def draw_uncached(model, prefill, sampling, codes):
    """Each branch by itself: the prompt, and for guidance the empty prompt, as the processor makes them."""
    rows, columns = prefill.grid
    settings = {"return_for_image_generation": True, "image_area": 64 * rows * columns, "ratio": f"{columns}:{rows}"}
    prompt = model.tokenizer.decode(prefill.ids[prefill.groups == list(Group).index(Group.PROMPT)])
    branches = []
    for text in [prompt.strip(), ""][: branches_of(sampling)]:
        ids = torch.tensor(model.processor(text=[text], **settings).input_ids)
        whole = torch.cat([ids, torch.tensor([codes])], 1)
        branches.append(model.model(input_ids=whole, output_attentions=True, use_cache=False).attentions)
    return branches
