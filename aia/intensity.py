"""Cross-modal interaction intensity (paper Eq. 1) and the three definitions in use.

A capture stores, for every query, the attention mass on each *group* of keys. A definition is
nothing but a set of groups per task, so changing it never re-runs a model. This file does not know
where masses come from or how they are stored.

The rows of all three definitions are the tokens fed back while decoding: step t's query is the
token fed in at step t, and the first step (the prefill, whose query is the end of the prompt) is
left out, as in the authors' plotting scripts (`und_plot.py`, `gen_plot.py`).
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np


class Task(StrEnum):
    """What the model does: answer about an image, or draw one."""

    UNDERSTANDING = "understanding"
    GENERATION = "generation"


class Group(StrEnum):
    """What a key position is. Every position of a sequence belongs to exactly one group."""

    BOS = "bos"
    TEMPLATE = "template"  # role words and separators
    PROMPT = "prompt"
    BOI = "boi"  # begin of image
    IMAGE = "image"  # image tokens but the last
    IMAGE_LAST = "image_last"  # apart, because the authors' training slice stops one short
    EOI = "eoi"  # end of image
    GENERATED = "generated"  # text or image tokens made so far


GROUPS: tuple[Group, ...] = tuple(Group)
PAD_GROUP = -1  # a padded position: belongs to no group and must never be attended to


class Definition(StrEnum):
    """Which keys count as "the other modality"; see `KEY_GROUPS`."""

    FIGURE = "figure"  # the authors' plotting scripts, so the published figures
    TRAINING = "training"  # the authors' training forward pass, both slices off by one
    STRICT = "strict"  # the words of the paper: text tokens only, image tokens only


KEY_GROUPS: dict[Definition, dict[Task, frozenset[Group]]] = {
    Definition.FIGURE: {
        Task.GENERATION: frozenset({Group.BOS, Group.TEMPLATE, Group.PROMPT, Group.BOI}),
        Task.UNDERSTANDING: frozenset({Group.BOI, Group.IMAGE, Group.IMAGE_LAST}),
    },
    Definition.TRAINING: {
        Task.GENERATION: frozenset({Group.BOS, Group.TEMPLATE, Group.PROMPT}),
        Task.UNDERSTANDING: frozenset({Group.BOI, Group.IMAGE}),
    },
    Definition.STRICT: {
        Task.GENERATION: frozenset({Group.PROMPT}),
        Task.UNDERSTANDING: frozenset({Group.IMAGE, Group.IMAGE_LAST}),
    },
}


def group_index(group: Group) -> int:
    """Column of a group on the last axis of a mass array."""
    return GROUPS.index(group)


def sum_groups(mass: np.ndarray, task: Task, definition: Definition) -> np.ndarray:
    """Sum the mass on the definition's key groups: [..., G] → [...]."""
    columns = sorted(group_index(g) for g in KEY_GROUPS[definition][task])
    return mass[..., columns].sum(-1)


def head_intensity(mass: np.ndarray, task: Task, definition: Definition) -> np.ndarray:
    """Intensity of each head: mass [L, H, Q, G] over decoding steps → [L, H] in 0…1, NaN without rows.

    Row 0 is the prefill step and is left out (see the module's words on rows). Paper Eq. 1 before
    the mean over heads.
    """
    if mass.ndim != 4 or mass.shape[-1] != len(GROUPS):
        raise ValueError(f"expected masses of shape [L, H, Q, {len(GROUPS)}], got {list(mass.shape)}")
    rows = sum_groups(mass[:, :, 1:], task, definition)
    if rows.shape[2] == 0:
        return np.full(rows.shape[:2], np.nan, np.float32)
    return rows.mean(2)


def intensity(mass: np.ndarray, task: Task, definition: Definition) -> np.ndarray:
    """Intensity of each layer (paper Eq. 1): mass [L, H, Q, G] → [L] in 0…1, NaN without rows."""
    return head_intensity(mass, task, definition).mean(1)
