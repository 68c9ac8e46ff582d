"""A small real `JanusProcessor`: word-level tokenizer, Janus special tokens and chat template.

Knows the words of the shapes world; does not know any weights.
"""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import JanusProcessor, PreTrainedTokenizerFast
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from aia import world

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
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
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


def world_words() -> list[str]:
    """Every word and sign that the world's captions, questions and answers use, in a fixed order."""
    words: dict[str, None] = dict.fromkeys(": , . ?".split())
    phrases = [
        *world.COLOURS,
        *world.SHAPES,
        *(f"{shape}s" for shape in world.SHAPES),
        *world.SIZES_PX,
        *world.COUNT_WORDS,
        *(place for row in world.PLACES for place in row),
        *world.RELATIONS,
        "a an and is there what color colour shape the object objects how many are",
        "describe the image yes no",
    ]
    for phrase in phrases:
        words.update(dict.fromkeys(phrase.split()))
    return list(words)
