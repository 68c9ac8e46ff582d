"""Synthetic captures of Janus-Pro's size: 30 layers, 32 heads, 576 patches, 128 answer tokens. Shared by measurements.

The masses are those of noisy softmaxes over the groups that such a sequence has, drifting from step to step, so that
they do not pack well; nothing in them is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aia.intensity import GROUPS, Group, Task, group_index
from backend.kept.captures import Capture, CaptureKey, Sampling
from backend.kept.rounding import round_if_large
from tests.made_captures import make_picture

LAYERS, HEADS, SIDE, ANSWER_TOKENS, PROMPT_TOKENS = 30, 32, 24, 128, 16
PATCHES = SIDE * SIDE
_BEFORE = (Group.BOS, Group.TEMPLATE, Group.PROMPT, Group.BOI)
_SEEN = (*_BEFORE, Group.IMAGE, Group.IMAGE_LAST, Group.EOI)


def big_drawing(seed: int = 0, prompt: str = "a large drawing", drawn: bool = True) -> Capture:
    """A drawing of 24 × 24 patches with both branches of guidance; `drawn`: with what each patch looked at."""
    random = np.random.default_rng(seed)
    words = PROMPT_TOKENS
    groups = [Group.BOS, *[Group.TEMPLATE] * 4, *[Group.PROMPT] * words, Group.BOI]
    return _make(
        CaptureKey("big", "r", "bfloat16", Task.GENERATION, prompt, "", Sampling(seed=seed, guidance=5.0)),
        groups=[*groups, *[Group.GENERATED] * (PATCHES - 1)],
        mass=_masses(random, (2, LAYERS, HEADS, PATCHES), (*_BEFORE, Group.GENERATED)),
        cross=_attention(random, (LAYERS, PATCHES, words), 0.2),
        cross_positions=np.arange(5, 5 + words, dtype=np.int32),
        first=len(groups) - 1,
        drawn=_attention(random, (LAYERS, PATCHES, PATCHES), 0.6, before=True) if drawn else None,
        made_ids=random.integers(0, 16_384, PATCHES - 1).astype(np.int32) if drawn else None,
    )


def big_answer(seed: int = 0, prompt: str = "a large answer", tokens: int = ANSWER_TOKENS) -> Capture:
    """An answer of 128 tokens about a picture of 576 patches."""
    random = np.random.default_rng(seed)
    image = [*[Group.IMAGE] * (PATCHES - 1), Group.IMAGE_LAST]
    groups = [Group.BOS, Group.TEMPLATE, Group.BOI, *image, Group.EOI, *[Group.PROMPT] * PROMPT_TOKENS]
    sampling = Sampling(temperature=0.0)
    return _make(
        CaptureKey("big", "r", "bfloat16", Task.UNDERSTANDING, prompt, f"{seed:064x}", sampling),
        groups=[*groups, *[Group.GENERATED] * tokens],
        mass=_masses(random, (1, LAYERS, HEADS, tokens + 1), (*_SEEN, Group.GENERATED)),
        cross=_attention(random, (LAYERS, tokens + 1, PATCHES), 0.4),
        cross_positions=np.arange(3, 3 + PATCHES, dtype=np.int32),
        first=len(groups) - 1,
        text=" ".join(f"word{i}" for i in range(tokens)),
    )


def _make(key: CaptureKey, groups: list[Group], mass: np.ndarray, first: int, text: str = "", **arrays) -> Capture:
    rows = mass.shape[3]
    made = [f"word{i}" if text else f"code {i}" for i in range(rows - 1)]
    return Capture(
        key=key,
        text=text,
        tokens=(*(f"<{group}>" for group in groups[: len(groups) - len(made)]), *made),
        token_groups=tuple(group.value for group in groups),
        grid=(SIDE, SIDE),
        seconds=60.0,
        created=1_760_000_000.0,
        picture_png=make_picture(SIDE, SIDE),
        mass=round_if_large(mass),
        query_positions=(first + np.arange(rows)).astype(np.int32),
        **arrays,
    )


def _masses(random: np.random.Generator, shape: tuple[int, ...], groups: Sequence[Group]) -> np.ndarray:
    """Masses [*shape, G] on some groups alone: every head has its liking, which drifts and trembles over the steps."""
    count = len(groups)
    scores = random.normal(0, 2, (*shape[:-1], 1, count)).astype(np.float32)
    scores = scores + random.standard_normal((*shape, count), np.float32) * np.float32(0.5)
    scores += random.standard_normal((*shape, count), np.float32).cumsum(-2) * np.float32(0.05)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mass = np.zeros((*shape, len(GROUPS)), np.float32)
    mass[..., [group_index(group) for group in groups]] = shares / shares.sum(-1, keepdims=True)
    return mass


def _attention(random: np.random.Generator, shape: tuple[int, ...], share: float, before: bool = False) -> np.ndarray:
    """Attention on single keys, float16 of that shape, `share` of it in all; `before`: on earlier ones alone."""
    weights = np.exp(random.standard_normal(shape, np.float32) * np.float32(1.5))
    if before:
        weights *= np.tri(shape[1], shape[2], -1, dtype=np.float32)
    return (weights * share / np.maximum(weights.sum(-1, keepdims=True), 1e-9)).astype(np.float16)
