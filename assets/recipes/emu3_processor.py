"""A small real `Emu3Processor`: word-level tokenizer with Emu3's special and visual tokens, and its chat template.

Knows the words of the shapes world; does not know any weights.
"""

from __future__ import annotations

from tokenizers import AddedToken, pre_tokenizers
from transformers import Emu3ImageProcessor, Emu3Processor, PreTrainedTokenizerFast

from aia import world
from assets.recipes.codes import CODES
from assets.recipes.words import make_word_level, world_words

PAD, BOS, EOS, UNK = "<|endoftext|>", "<|extra_203|>", "<|extra_204|>", "<unk>"
IMAGE, BOI, EOI, WRAPPER = "<image>", "<|image start|>", "<|image end|>", "<|image token|>"
EOL, EOF = "<|extra_200|>", "<|extra_201|>"
SPECIAL = (PAD, BOS, EOS, UNK, IMAGE, BOI, EOI, WRAPPER, EOL, EOF)
ROLES = ("USER", "ASSISTANT")
SYSTEM = "You are a helpful assistant."
PIXELS = world.CANVAS_PX**2

# The turn format of Emu3-Chat: "You are a helpful assistant. USER: <image>question ASSISTANT:". Its own template
# leaves the system sentence out where no system message is given; here it is then put in.
CHAT_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}{{ 'You are a helpful assistant. ' }}{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] != 'system' -%}{{ message['role'].upper() + ': ' }}{%- endif -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'image') -%}{{ '<image>' }}{%- endfor -%}
{%- for part in message['content'] | selectattr('type', 'equalto', 'text') -%}
{%- if message['role'] == 'assistant' -%}
{% generation %}{{ part['text'] + ' ' }}{% endgeneration %}
{%- else -%}{{ part['text'] + ' ' }}{%- endif -%}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""


def visual_token(code: int) -> str:
    return f"<|visual token {code:06d}|>"


def make_processor() -> Emu3Processor:
    """Build the processor: 64×64 pixels in −1…1, every word of the world and every code in one vocabulary."""
    image_processor = Emu3ImageProcessor(
        image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5], min_pixels=PIXELS, max_pixels=PIXELS
    )
    return Emu3Processor(image_processor, make_tokenizer(), chat_template=CHAT_TEMPLATE)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Special tokens, roles, digits of the size prefix, words, then the 2,048 visual tokens in order."""
    words = (*ROLES, *"0123456789*", *"you are a helpful assistant".split(), *world_words())
    visual = [visual_token(code) for code in range(CODES)]
    tokens = dict.fromkeys((*SPECIAL, *words, *visual))
    tokenizer = make_word_level({token: i for i, token in enumerate(tokens)}, UNK)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.add_tokens([AddedToken(role, single_word=True, normalized=False) for role in ROLES])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (*SPECIAL, *visual)])
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
            "image_wrapper_token": WRAPPER,
            "eof_token": EOF,
        },
    )
