"""What the contract's tests share: a picture, a question, and how to read captures."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from PIL import Image

from aia import world
from aia.probe import ATTENTION_NAME
from backend.interface import Finished
from backend.kept.captures import Sampling

GREEDY = Sampling(temperature=0.0, max_new_tokens=12)
SCENE = world.Scene((world.Thing("red", "circle", "large", 12, 32), world.Thing("blue", "square", "small", 52, 32)))
PICTURE = Image.fromarray(world.draw_scene(SCENE))
QUESTION = "what colour is the circle?"


def finish(events):
    """The capture at the end of a stream of events."""
    *_, last = events
    assert isinstance(last, Finished)
    return last.capture


def answered(model, question=QUESTION, sampling=GREEDY):
    """The capture of a question about the picture, made once for all tests that only look at it."""
    return _once(model, "understand", PICTURE, question, sampling)


def drawn_once(model, prompt, sampling):
    """The capture of a drawing, made once for all tests that only look at it."""
    return _once(model, "generate", prompt, sampling)


def _once(model, verb, *asked):
    kept = vars(model).setdefault("captures_of_tests", {})
    key = (verb, *asked[-2:])
    if key not in kept:
        kept[key] = finish(getattr(model, verb)(*asked))
    return kept[key]


def tokens_of(capture, group):
    return [t for t, g in zip(capture.tokens, capture.token_groups, strict=True) if g == group]


def squeeze(text: str) -> str:
    return "".join(text.split())


@contextmanager
def eager_attention(model):
    """The language model on eager attention, and back."""
    model.model.set_attn_implementation({model.language_config: "eager"})
    try:
        with torch.inference_mode():
            yield
    finally:
        model.model.set_attn_implementation({model.language_config: ATTENTION_NAME})
