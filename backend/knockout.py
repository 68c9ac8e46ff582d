"""Does it matter? How much less likely an answer or a drawing gets when it may not look at the other modality.

Owns which keys are forbidden to which rows in which windows of layers, the controls, and the report. Knows a loaded
model of a family and captures; no store, no page. Masks are `aia.knockout`'s, passes `backend.families.forced`'s.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from aia.intensity import KEY_GROUPS, Definition, Task
from aia.knockout import Knockout, layer_windows, random_keys, single_heads
from backend.families.base import FamilyModel
from backend.families.decoding import branches_of, positions_of, stop_if
from backend.families.forced import Forced, force
from backend.families.looking import made_again, read_again
from backend.interface import CancelFlag, UserError
from backend.kept.captures import Capture
from backend.kept.knockouts import (
    MOST_DRAWS,
    Control,
    Cut,
    HeadReport,
    HeadSettings,
    KnockoutReport,
    Remade,
    Settings,
    Way,
)
from backend.pictures import picture_to_png


@dataclass(frozen=True)
class Progress:
    """Windows of layers passed so far, controls among them; or single heads."""

    done: int
    total: int


def check_settings(settings: Settings, layers: int) -> None:
    """Raises `UserError` for a window or a number of controls out of range."""
    if not 1 <= settings.width <= layers:
        raise UserError(f"Expected a window of 1 to {layers} layers, got {settings.width}; change it.")
    if not 0 <= settings.draws <= MOST_DRAWS:
        raise UserError(f"Expected 0 to {MOST_DRAWS} random controls, got {settings.draws}; change it.")


def knock_out(
    model: FamilyModel, capture: Capture, settings: Settings, cancel: CancelFlag | None = None
) -> Iterator[Progress | KnockoutReport]:
    """Knock each window of layers out of a capture's sequence, teacher-forced: progress, then the report.

    Raises `UserError` where there is nothing to score or to forbid, `Cancelled` when the flag was set.
    """
    check_settings(settings, capture.layers)
    targets, first = _targets(model, capture, settings.way)
    forced = force(model, capture, first)
    windows = torch.cat(
        [layer_windows(capture.layers, settings.width), torch.ones(1, capture.layers, dtype=torch.bool)]
    )
    plan = _plan_keys(forced, targets, first, settings)
    total, done = len(windows) * len(plan.keys), 0
    found: list[torch.Tensor] = []  # per kind of keys: [L + 1, n]
    likeliest: list[torch.Tensor] = []
    plain = forced.score()
    for keys in plan.keys:
        parts = []
        for part in windows.split(min(forced.most_copies, len(windows))):
            stop_if(cancel)
            yield Progress(done, total)
            parts.append(forced.score(Knockout(keys, part, first), len(part)))
            done += len(part)
        found.append(torch.cat([part.log_probabilities for part in parts]))
        likeliest.append(torch.cat([part.likeliest for part in parts]))
    yield Progress(done, total)
    drops = [plain.log_probabilities - one for one in found]
    yield KnockoutReport(
        tokens=forced.tokens,
        keys=len(targets),
        rows=len(forced.groups) - first,
        log_probabilities=_plain(plain.log_probabilities[0]),
        drops=[_plain(row) for row in drops[0][:-1]],
        all_layers=_plain(drops[0][-1]),
        likeliest=int(plain.likeliest.sum()),
        window_likeliest=likeliest[0][:-1].sum(1).tolist(),
        all_likeliest=int(likeliest[0][-1].sum()),
        controls=_controls(plan, drops),
    )


@dataclass(frozen=True)
class HeadCuts:
    """What sets of heads cost: drops in nats, summed over tokens, float64 [W]; how many tokens stay likeliest [W]."""

    tokens: int
    log_probability: float
    likeliest: int
    drops: torch.Tensor
    cut_likeliest: torch.Tensor


def cut_heads(
    model: FamilyModel, capture: Capture, way: Way, cuts: torch.Tensor, cancel: CancelFlag | None = None
) -> Iterator[Progress | HeadCuts]:
    """Knock sets of heads out, bool [W, L, H], teacher-forced: progress, then what they cost. Raises as `knock_out`."""
    targets, first = _targets(model, capture, way)
    forced = force(model, capture, first)
    keys = torch.zeros(1, 1, first, dtype=torch.bool)
    keys[..., targets.cpu()] = True
    plain, drops, likeliest, done = forced.score(), [], [], 0
    for part in cuts.split(_most_head_copies(forced, first, cuts.shape[2])):
        stop_if(cancel)
        yield Progress(done, len(cuts))
        scores = forced.score(Knockout(keys, part, first), len(part))
        drops.append((plain.log_probabilities - scores.log_probabilities).double().sum(-1))
        likeliest.append(scores.likeliest.sum(-1))
        done += len(part)
    yield Progress(done, len(cuts))
    whole = float(plain.log_probabilities.double().sum())
    yield HeadCuts(
        len(forced.tokens), round(whole, 5), int(plain.likeliest.sum()), torch.cat(drops), torch.cat(likeliest)
    )


def knock_out_heads(
    model: FamilyModel, capture: Capture, settings: HeadSettings, cancel: CancelFlag | None = None
) -> Iterator[Progress | HeadReport]:
    """Knock every head out alone, or all but one, teacher-forced: progress, then the report. Raises as `knock_out`."""
    heads = capture.heads
    cuts = with_all(single_heads(capture.layers, heads), settings.keep)
    for step in cut_heads(model, capture, settings.way, cuts, cancel):
        if isinstance(step, Progress):
            yield step
            continue
        yield HeadReport(
            tokens=step.tokens,
            log_probability=step.log_probability,
            drops=[_plain(row) for row in step.drops[1:].unflatten(0, (-1, heads))],
            all_heads=round(float(step.drops[0]), 5),
            likeliest=step.likeliest,
            head_likeliest=step.cut_likeliest[1:].unflatten(0, (-1, heads)).tolist(),
        )


def with_all(sets: torch.Tensor, keep: bool) -> torch.Tensor:
    """All heads, then each set [W, L, H]; or, to keep it, all heads but those of each: bool [1 + W, L, H]."""
    return torch.cat([torch.ones_like(sets[:1]), ~sets if keep else sets])


def _most_head_copies(forced: Forced, first: int, heads: int) -> int:
    """A mask for each head is larger than one for all: at most 2 ** 26 entries of it."""
    rows, keys = len(forced.groups) - first, len(forced.groups)
    return max(1, min(forced.most_copies, 2**26 // (heads * rows * keys)))


@dataclass(frozen=True)
class _Plan:
    """Which keys to forbid, bool [1, R, K] each: the targets first, then per draw other keys, and as few targets."""

    keys: list[torch.Tensor]
    draws: int
    keys_per_row: float  # of a control
    matched: bool  # whether the targets were thinned out to the controls' number


def _targets(model: FamilyModel, capture: Capture, way: Way) -> tuple[torch.Tensor, int]:
    """Positions of the keys to forbid, and of the first row they are forbidden to.

    The keys are those of the strict definition: image tokens alone, or the prompt's words alone.
    """
    prefill = read_again(model, capture)
    targets = positions_of(prefill.groups, tuple(KEY_GROUPS[Definition.STRICT][capture.task]))
    if not len(targets):
        what = "a word in the prompt" if capture.task == Task.GENERATION else "an image"
        raise UserError(f"Expected {what} to look at, got none; run another prompt.")
    return targets, (prefill.length - 1 if way == Way.DIRECT else int(targets[-1]) + 1)


def _plan_keys(forced: Forced, targets: torch.Tensor, first: int, settings: Settings) -> _Plan:
    """A control takes as many other keys from each row as it has targets, but at most half of what it sees of them."""
    length = len(forced.groups)
    wanted = torch.zeros(1, 1, first, dtype=torch.bool)
    wanted[..., targets.cpu()] = True
    rows = torch.arange(first, length)
    seen = torch.arange(length)[None] < rows[:, None]  # a row's own key is never forbidden
    is_target = torch.nn.functional.pad(wanted[0, 0], (0, length - first))
    others = seen & ~is_target
    counts = torch.minimum(torch.tensor(len(targets)), others.sum(1) // 2)
    matched = float((counts == len(targets)).float().mean()) < 0.9
    generator, keys = torch.Generator().manual_seed(settings.seed), [wanted]
    for _ in range(settings.draws):
        keys.append(random_keys(others, counts, generator)[None])
        if matched:
            keys.append(random_keys(is_target.expand(len(rows), -1), counts, generator)[None])
    return _Plan(keys, settings.draws, float(counts.float().mean()), matched)


def _controls(plan: _Plan, drops: list[torch.Tensor]) -> Control | None:
    """Drops of the controls by draw, summed over tokens; None where none was asked for."""
    if not plan.draws:
        return None
    totals = torch.stack(drops[1:]).sum(-1)  # [draws or twice as many, L + 1]
    step = 2 if plan.matched else 1
    return Control(
        keys_per_row=round(plan.keys_per_row, 3),
        others=[_plain(row) for row in totals[::step]],
        fewer_targets=[_plain(row) for row in totals[1::2]] if plan.matched else [],
    )


def _plain(values: torch.Tensor) -> list[float]:
    return [round(value, 5) for value in values.double().tolist()]


def remake(model: FamilyModel, capture: Capture, cut: Cut, cancel: CancelFlag | None = None) -> Remade:
    """Answer or draw again, same seed and settings, with layers knocked out. Raises as `knock_out`.

    With guidance only the branch that sees the prompt loses it.
    """
    if max(cut.layers) >= capture.layers:
        raise UserError(f"Expected layers of the {capture.layers} that there are, got others; choose a window again.")
    targets, first = _targets(model, capture, cut.way)
    prefill, sampling = read_again(model, capture), capture.key.sampling
    branches = branches_of(sampling) if capture.task == Task.GENERATION else 1
    keys = torch.zeros(branches, 1, first, dtype=torch.bool)
    keys[0, 0, targets.cpu()] = True
    layers = torch.zeros(branches, capture.layers, dtype=torch.bool)
    layers[:, cut.layers] = True
    knockout = Knockout(keys, layers, first)
    if capture.task == Task.UNDERSTANDING:
        made = list(model.answer_tokens(prefill, sampling, cancel=cancel, knockout=knockout))
        return Remade(text=model.tokenizer.decode(made, skip_special_tokens=True))
    codes = list(model.image_codes(prefill, sampling, cancel=cancel, knockout=knockout))
    before = made_again(model, capture, prefill)
    changed = [codes[row] != before[row] if row < len(before) else None for row in capture.patch_rows.tolist()]
    picture = picture_to_png(model.draw(codes, prefill.grid))
    return Remade(picture=base64.b64encode(picture).decode(), changed=changed)
