"""A small real `JanusProcessor`: word-level tokenizer, Janus special tokens and chat template.

Knows the words of the shapes world; does not know any weights.
"""

from __future__ import annotations

from tokenizers import processors
from transformers import JanusProcessor, PreTrainedTokenizerFast
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from aia import world
from assets.recipes.words import make_word_level, world_words

BOS, EOS, PAD, UNK = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<unk>"
IMAGE, BOI, EOI = "<image_placeholder>", "<begin_of_image>", "<end_of_image>"
USER, ASSISTANT = "<|User|>", "<|Assistant|>"
SPECIAL = (PAD, BOS, EOS, UNK, IMAGE, BOI, EOI, USER, ASSISTANT)

# The turn format of Janus: "<|User|>: text\n\n<|Assistant|>: text<eos>", an image on a line of its own.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- set user = message['role'] | lower == 'user' -%}
{{ '<|User|>: ' if user else '<|Assistant|>: ' }}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{ ('' if loop.first else '\\n') + '<image_placeholder>' + ('' if loop.last else '\\n') }}
{%- else -%}
{{ part['text'] | trim }}
{%- endif -%}
{%- endfor -%}
{{ '\\n\\n' if user else '<｜end▁of▁sentence｜>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|Assistant|>:' }}{%- endif -%}
"""


def make_processor() -> JanusProcessor:
    """Build the processor: 64×64 pixels in, 64 image tokens, every word of the world in the vocabulary."""
    image_processor = JanusImageProcessorPil(
        size={"height": world.CANVAS_PX, "width": world.CANVAS_PX},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        min_size=8,
    )
    return JanusProcessor(image_processor, make_tokenizer(), chat_template=CHAT_TEMPLATE, num_image_tokens=64)


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *world_words()))}
    tokenizer = make_word_level(vocabulary, UNK)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        padding_side="left",
        model_max_length=512,
        extra_special_tokens={
            "image_token": IMAGE,
            "boi_token": BOI,
            "eoi_token": EOI,
            "user_token": USER,
            "assistant_token": ASSISTANT,
        },
    )
