"""Which heads read what: single heads, or chosen ones together, knocked out of many held-out answers of each kind.

Owns the report. Asks as `backend.knockout_study` does. Knows a loaded model of a family; no file, no page.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from aia.intensity import Task
from aia.knockout import single_heads
from backend.families.base import FamilyModel
from backend.interface import CancelFlag, UserError
from backend.kept.captures import round_finite
from backend.kept.knockouts import Way
from backend.knockout import HeadCuts, cut_heads, with_all
from backend.knockout_intervals import mean_interval
from backend.knockout_study import ask_kind, check_kinds
from backend.measurement import check_samples
from backend.scores import Progress

Heads = Sequence[tuple[int, int]]  # layer and head, from 0


def study_heads(
    model: FamilyModel,
    kinds: Collection[str],
    samples: int,
    seed: int,
    way: Way,
    together: Heads = (),
    keep: bool = False,
    draws: int = 10,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> dict:
    """Knock heads out of `samples` held-out answers of each kind: plain data.

    Each head alone, by kind: `n`, `right`, `tokens`, `all_heads` at once, and over [L][H] the mean `change` in nats of
    an answer with its 95 % interval `low` … `high`, and `intact`, the share of answers whose every token stays the
    likeliest. The change is the drop when that head alone may not look; with `keep`, when all others may not, what it
    gives back of the drop of all. With `together` these heads at once: single numbers, and as `control` the mean over
    `draws` random sets of as many other heads of the same layers. Raises as `study_knockout`.
    """
    check_samples(samples)
    check_kinds(kinds)
    layers, heads = model.text_config.num_hidden_layers, model.text_config.num_attention_heads
    sets = _sets(together, layers, heads, draws, seed) if together else single_heads(layers, heads)
    cuts = with_all(sets, keep)
    report: dict = {"model": model.name, "samples": samples, "seed": seed, "way": way.value, "keep": keep}
    if together:
        report |= {"heads": name_heads(together), "draws": draws}
    for kind in dict.fromkeys(kinds):
        rows = []
        for capture, right in ask_kind(model, kind, samples, seed, cancel):
            if capture.task == Task.GENERATION or capture.text:
                *_, found = cut_heads(model, capture, way, cuts, cancel)
                rows.append((found, right))
            if progress:
                progress(kind, len(rows), samples)
        report[kind] = _describe(rows, keep, None if together else heads)
    return report


def parse_heads(text: str, layers: int, heads: int) -> list[tuple[int, int]]:
    """ "2.3,4.1" as layers and heads from 0. Raises `UserError` for what the model does not have."""
    found = []
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        layer, _, head = piece.partition(".")
        if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in (layer, head)):
            raise UserError(f"Expected heads as LAYER.HEAD by commas, such as 2.3,4.1, got “{piece[:20]}”; correct it.")
        if not (1 <= int(layer) <= layers and 1 <= int(head) <= heads):
            raise UserError(f"Expected heads of {layers} layers × {heads} heads, got “{piece}”; choose others.")
        found.append((int(layer) - 1, int(head) - 1))
    if not found:
        raise UserError("Expected heads such as 2.3,4.1, or each, got none; name some.")
    return list(dict.fromkeys(found))


def name_heads(heads: Heads) -> list[str]:
    return [f"{layer + 1}.{head + 1}" for layer, head in heads]


def _sets(together: Heads, layers: int, heads: int, draws: int, seed: int) -> torch.Tensor:
    """The chosen heads, then random others, as many in each layer: bool [1 + draws, L, H]."""
    cuts, rng = torch.zeros(1 + draws, layers, heads, dtype=torch.bool), random.Random(seed)
    for layer, head in together:
        cuts[0, layer, head] = True
    for layer in {layer for layer, _ in together}:
        own = [head for at, head in together if at == layer]
        others = [head for head in range(heads) if head not in own]
        if draws and len(others) < len(own):
            raise UserError(
                f"Expected as many other heads in layer {layer + 1} for the control, got {len(others)} beside "
                f"{len(own)}; name fewer, or leave the control out with --draws 0."
            )
        for draw in range(1, 1 + draws):
            cuts[draw, layer, rng.sample(others, len(own))] = True
    return cuts


def _describe(rows: list[tuple[HeadCuts, bool | None]], keep: bool, heads: int | None) -> dict:
    """One kind's part; `heads` per layer where each is a set of its own."""
    if not rows:
        raise UserError("Expected answers of at least one word to knock out, got none; choose another kind.")
    drops = np.stack([found.drops.numpy() for found, _ in rows])  # [N, W]
    stays = np.stack([(found.cut_likeliest == found.tokens).numpy() for found, _ in rows])
    judged = [right for _, right in rows if right is not None]
    changes = drops[:, :1] - drops[:, 1:] if keep else drops[:, 1:]
    whole = _means(drops[:, 0], stays[:, 0] if judged else None)
    part = {
        "n": len(rows),
        "right": round(sum(judged) / len(judged), 4) if judged else None,
        "tokens": round(float(np.mean([found.tokens for found, _ in rows])), 2),
        "all_heads": {name: round_finite(found) for name, found in whole.items()},
    }
    if heads is not None:
        values = _means(changes, stays[:, 1:] if judged else None)
        return part | {name: [_plain(row) for row in found.reshape(-1, heads)] for name, found in values.items()}
    values = _means(changes[:, 0], stays[:, 1] if judged else None)
    part |= {name: round_finite(found) for name, found in values.items()} | {"control": None}
    if changes.shape[1] > 1:
        control = _means(changes[:, 1:].mean(1), stays[:, 2:].mean(1) if judged else None)
        part["control"] = {name: round_finite(found) for name, found in control.items()}
    return part


def _means(changes: np.ndarray, stays: np.ndarray | None) -> dict[str, np.ndarray]:
    """Means over samples [N, …] with the interval of the first; answers that stay are not counted where None."""
    low, high = mean_interval(changes)
    found = {"change": changes.mean(0), "low": low, "high": high}
    return found if stays is None else found | {"intact": stays.mean(0)}


def _plain(values: np.ndarray) -> list[float | None]:
    return [round_finite(value) for value in values]


def strongest(part: dict, count: int) -> Iterator[tuple[int, int]]:
    """The heads, layer and head from 0, that change one kind's answers most."""
    changes = np.array(part["change"])
    for place in np.argsort(-changes, axis=None, kind="stable")[:count]:
        yield divmod(int(place), changes.shape[1])
