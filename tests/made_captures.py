"""Captures made by hand: the share of attention that crosses is given for every layer, head and step."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from aia.intensity import GROUPS, Group, Task, group_index
from backend.kept.captures import Capture, CaptureKey, Sampling

WORDS = ("a", "red", "circle")


def make_picture(rows: int, columns: int) -> bytes:
    """A PNG of 8 px a patch."""
    out = io.BytesIO()
    Image.new("RGB", (8 * columns, 8 * rows), (40, 90, 200)).save(out, "PNG")
    return out.getvalue()


def make_mass(shares: np.ndarray, on: Group) -> np.ndarray:
    """Masses [C, L, H, Q, G] with `shares` [C, L, H, Q] on one group and the rest on what was made so far."""
    mass = np.zeros((*shares.shape, len(GROUPS)), np.float32)
    mass[..., group_index(on)] = shares
    mass[..., group_index(Group.GENERATED)] = 1 - shares
    return mass


def make_answer(shares: np.ndarray, grid: tuple[int, int] = (2, 3), prompt: str = "what is there?", **key) -> Capture:
    """An answer of as many tokens as rows: shares [L, H, Q] on the image; row q chose token q, row 0 is the prefill."""
    layers, _, rows = shares.shape
    image = [Group.IMAGE] * (grid[0] * grid[1] - 1) + [Group.IMAGE_LAST]
    groups = [Group.BOS, Group.PROMPT, Group.BOI, *image, *[Group.GENERATED] * (rows - 1)]
    words = [f"word{i}" for i in range(1, rows + 1)]
    patches = np.arange(3, 3 + len(image), dtype=np.int32)
    return Capture(
        key=_key(Task.UNDERSTANDING, prompt, Sampling(temperature=0.0), **key),
        text=" ".join(words),
        tokens=("<s>", "what", "<image>", *["<patch>"] * len(image), *words[: rows - 1]),
        token_groups=tuple(group.value for group in groups),
        grid=grid,
        seconds=0.5,
        created=1_760_000_000.0,
        picture_png=make_picture(*grid),
        mass=make_mass(shares[None], Group.IMAGE),
        query_positions=(2 + len(image) + np.arange(rows)).astype(np.int32),
        cross=np.full((layers, rows, len(image)), 1 / len(image), np.float16),
        cross_positions=patches,
    )


def make_drawing(
    shares: np.ndarray,
    grid: tuple[int, int] = (2, 3),
    prompt: str = " ".join(WORDS),
    patch_rows: Sequence[int] | None = None,
    **key,
) -> Capture:
    """A drawing: shares [C, L, H, Q] on the prompt's words; C is 2 with guidance. Row q chose image token q."""
    branches, layers, _, rows = shares.shape
    groups = [Group.BOS, *[Group.PROMPT] * 3, Group.BOI, *[Group.GENERATED] * (rows - 1)]
    return Capture(
        key=_key(Task.GENERATION, prompt, Sampling(seed=1, guidance=3.0 if branches == 2 else 1.0), **key),
        text="",
        tokens=("<s>", *WORDS, "<image>", *(f"code {i}" for i in range(rows - 1))),
        token_groups=tuple(group.value for group in groups),
        grid=grid,
        seconds=0.5,
        created=1_760_000_000.0,
        picture_png=make_picture(*grid),
        mass=make_mass(shares, Group.PROMPT),
        query_positions=(4 + np.arange(rows)).astype(np.int32),
        cross=np.full((layers, rows, 3), 0.1, np.float16),
        cross_positions=np.arange(1, 4, dtype=np.int32),
        patch_rows=None if patch_rows is None else np.array(patch_rows, np.int32),
    )


def _key(task: Task, prompt: str, sampling: Sampling, model: str = "tiny-janus", adapter: str = "") -> CaptureKey:
    digest = "0" * 64 if task == Task.UNDERSTANDING else ""
    return CaptureKey(model, "r", "float32", task, prompt, digest, sampling, adapter)
