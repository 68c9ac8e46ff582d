"""How large a drawing may be: rows and columns of patches, or an aspect, for models that draw more than one size.

Owns how a size is written ("32x48", "16:9") and read. Knows specs; no tokens, loads nothing.
"""

from __future__ import annotations

import math
import re

from aia.intensity import Task
from backend.interface import UserError
from backend.models.model_spec import ModelSpec

MOST_PATCHES = 512  # on a side: a picture of 8 px a patch is then as large as a capture may keep
MOST_ASPECT = 32
ASPECTS = ("1:1", "4:3", "3:4", "16:9", "9:16")  # width to height
FREE = {"emu3": 8}  # families whose drawings may have any size, and the side of their patches in px

_GRID = re.compile(r"\s*(\d{1,3})\s*[x×*]\s*(\d{1,3})\s*")
_ASPECT = re.compile(r"\s*(\d{1,3})\s*:\s*(\d{1,3})\s*")


def allows_sizes(spec: ModelSpec) -> bool:
    """Whether a model's drawings may have any size."""
    return Task.GENERATION in spec.tasks and spec.family in FREE and not spec.one_size


def check_size(spec: ModelSpec, size: str) -> None:
    """Refuse a size for a model that draws one size only, before it is loaded. Raises `UserError`."""
    if size and not allows_sizes(spec):
        raise UserError(f"Expected no size for {spec.title}, which draws one size only, got {size}; leave it out.")


def normal_size(size: str) -> str:
    """A size as it is kept: "32x48", "16:9", or empty for the model's own. Raises `UserError` for anything else."""
    if not size.strip():
        return ""
    aspect = _ASPECT.fullmatch(size)
    return "{}:{}".format(*parse_aspect(aspect, size)) if aspect else "{}x{}".format(*parse_size(size))


def parse_size(size: str) -> tuple[int, int]:
    """Rows and columns of patches of "32x48". Raises `UserError`."""
    found = _GRID.fullmatch(size)
    rows, columns = map(int, found.groups()) if found else (0, 0)
    if not (1 <= rows <= MOST_PATCHES and 1 <= columns <= MOST_PATCHES):
        raise UserError(
            f"Expected a size of rows and columns of patches, each from 1 to {MOST_PATCHES}, such as 32x48, or an "
            f"aspect such as 16:9, got “{size[:20]}”; change it or leave it out."
        )
    return rows, columns


def parse_aspect(found: re.Match, size: str) -> tuple[int, int]:
    """Width and height in lowest terms. Raises `UserError` for a side of nothing, or a very long strip."""
    width, height = map(int, found.groups())
    if not (width and height and max(width, height) <= MOST_ASPECT * min(width, height)):
        raise UserError(
            f"Expected an aspect from 1:{MOST_ASPECT} to {MOST_ASPECT}:1, got “{size[:20]}”; change it or leave it out."
        )
    shared = math.gcd(width, height)
    return width // shared, height // shared


def grid_of(size: str, usual: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a size; an aspect has about as many patches as the usual grid. Raises `UserError`."""
    if not size:
        return usual
    aspect = _ASPECT.fullmatch(size)
    if not aspect:
        return parse_size(size)
    width, height = parse_aspect(aspect, size)
    unit = math.sqrt(usual[0] * usual[1] / (width * height))
    return tuple(min(max(1, round(side * unit)), MOST_PATCHES) for side in (height, width))


def usual_grid(spec: ModelSpec) -> tuple[int, int]:
    """Rows and columns of a model's usual drawing, a square: (0, 0) where the registry does not know.

    The number of image tokens of a family with row ends is rows · (columns + 1).
    """
    tokens = spec.image_tokens
    side = (math.isqrt(4 * tokens + 1) - 1) // 2 if spec.family in FREE else math.isqrt(tokens)
    return side, side


def image_tokens(spec: ModelSpec, size: str) -> int:
    """Tokens of a drawing of that size, row ends included; those of the registry for none."""
    if not (size and allows_sizes(spec)):
        return spec.image_tokens
    rows, columns = grid_of(size, usual_grid(spec))
    return rows * (columns + 1)
