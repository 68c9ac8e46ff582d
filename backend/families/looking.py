"""A second look at a capture: its sequence once more through the model, for what the capture did not keep.

A capture holds the mean over heads; this runs one pass of the same tokens and takes single heads. Owns how a capture's
sequence is found again. Does not know any family's tokens, nor stores or pages.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from aia.head_probe import HeadProbe
from aia.intensity import Group, Task, group_index
from backend.families.base import FamilyModel, Prefill
from backend.interface import Looks, UserError
from backend.kept.captures import Capture

MOST_LOOKED = 2**26  # values of one look: 256 MiB; all heads of 60 rows of Janus-Pro, or any number of one head's


@torch.inference_mode()
def look(model: FamilyModel, capture: Capture, rows: range, head: tuple[int, int] | None = None) -> Looks:
    """The attention of these rows' heads, or of one (layer, head), on the keys of `cross` and on earlier patches.

    The rows' mean over heads is the capture's own, up to rounding. Raises `UserError` where the capture's prompt does
    not give its tokens any more, for rows that it does not have, and for more values than `MOST_LOOKED`.
    """
    _check_rows(capture, rows, head)
    prefill = read_again(model, capture)
    made = made_again(model, capture, prefill)[: rows[-1]]  # a row sees nothing later
    groups = torch.cat([prefill.groups, prefill.groups.new_full((len(made),), group_index(Group.GENERATED))])
    kept = capture.patch_rows[capture.patch_rows < len(made)]
    keys = np.concatenate([capture.cross_positions, prefill.length + kept]).astype(np.int64)
    first = prefill.length - 1
    places = slice(first + rows[0], first + rows[-1] + 1)
    probe = HeadProbe(groups[None], places, torch.from_numpy(keys).to(model.device), head)
    answering = capture.task == Task.UNDERSTANDING
    (model.pass_answer if answering else model.pass_drawing)(prefill, made, probe)
    found = probe.weights().float().cpu().numpy()
    count = len(capture.cross_positions)
    if answering:
        return Looks(found[..., :count])
    drawn = np.zeros((*found.shape[:-1], len(capture.patch_rows)), np.float32)
    drawn[..., : len(kept)] = found[..., count:]  # patches are made in raster order
    return Looks(np.ascontiguousarray(found[..., :count]), drawn)


def _check_rows(capture: Capture, rows: range, head: tuple[int, int] | None) -> None:
    count = len(capture.query_positions)
    if not (len(rows) and rows.step == 1 and rows[0] >= 0 and rows[-1] < count):
        raise UserError(f"Expected rows from 0 to {count - 1}, got {rows.start} to {rows.stop - 1}; choose others.")
    if head is not None and not (0 <= head[0] < capture.layers and 0 <= head[1] < capture.heads):
        raise UserError(
            f"Expected a head of {capture.layers} layers × {capture.heads} heads, got head {head[1] + 1} of layer "
            f"{head[0] + 1}; choose another."
        )
    heads = 1 if head else capture.layers * capture.heads
    values = heads * len(rows) * (len(capture.cross_positions) + len(capture.patch_rows))
    if values > MOST_LOOKED:
        raise UserError(
            f"Expected at most {MOST_LOOKED:,} values of attention at once, got {values:,}; choose one row or one head."
        )


def read_again(model: FamilyModel, capture: Capture) -> Prefill:
    """The capture's prompt, tokenised again and found equal."""
    key = capture.key
    if key.task == Task.UNDERSTANDING:
        prefill = model.prefill(key.prompt, Image.open(io.BytesIO(capture.picture_png), formats=("PNG",)))
    else:
        prefill = model.drawing_prefill(key.prompt, key.sampling.size)
    tokens = tuple(model.tokenizer.decode([i]) for i in prefill.ids.tolist())
    if tokens != capture.tokens[: capture.query_positions[0] + 1]:
        raise UserError(
            f"Expected {model.name} to read the prompt as when this was captured, but it reads other tokens; run the "
            "prompt again."
        )
    return prefill


def made_again(model: FamilyModel, capture: Capture, prefill: Prefill) -> list[int]:
    """The token ids made; captures that do not hold them are decoded again, from their own seed."""
    if capture.made_ids is not None:
        return capture.made_ids.tolist()
    fed = len(capture.query_positions) - 1
    if capture.task == Task.UNDERSTANDING:
        made = list(model.answer_tokens(prefill, capture.key.sampling))[:fed]
        strings = [model.tokenizer.decode([token]) for token in made]
    else:
        made = list(model.image_codes(prefill, capture.key.sampling))[:fed]
        strings = [model.describe_code(code) for code in made]
    if tuple(strings) != capture.tokens[prefill.length :]:
        raise UserError(
            f"Expected {model.name} to make the tokens of this capture again, but it makes others; run it anew."
        )
    return made
