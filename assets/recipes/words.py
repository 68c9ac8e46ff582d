"""The words of the shapes world as a word-level tokenizer. Knows no model's special tokens."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from aia import world


def make_word_level(vocabulary: dict[str, int], unknown: str) -> Tokenizer:
    """A tokenizer that lowers the case, splits words from signs, and decodes with plain English spacing."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return tokenizer


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
