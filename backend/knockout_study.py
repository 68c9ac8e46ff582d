"""Knock-outs over many held-out questions of the shapes world: by kind, which layers an answer cannot do without.

Owns which questions are asked and the report. Knows a loaded model of a family; no file, no page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from aia import world
from aia.curves import correlate_curves
from aia.evaluation import held_out_drawings, held_out_questions, plain
from aia.intensity import Definition, Task
from backend.families.base import FamilyModel
from backend.interface import CancelFlag, Finished, UserError
from backend.kept.captures import Capture, round_finite
from backend.kept.knockouts import KnockoutReport, Settings
from backend.knockout import check_settings, knock_out
from backend.knockout_intervals import mean_interval, share_difference, share_interval
from backend.measurement import check_samples
from backend.sampling import GENERATION_SAMPLING, UNDERSTANDING_SAMPLING
from backend.scores import Progress

DRAWING = "drawing"
KINDS = (*world.QUESTION_KINDS, DRAWING)


def study_knockout(
    model: FamilyModel,
    kinds: Collection[str],
    samples: int,
    seed: int,
    settings: Settings,
    definition: Definition = Definition.FIGURE,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> dict:
    """Knock windows out of `samples` held-out answers of each kind and report the mean drops, as plain data.

    By kind, see `describe_kind`. Raises `UserError` for an unknown kind, too few samples or a window that does not fit;
    `Cancelled`.
    """
    check_samples(samples)
    check_settings(settings, model.text_config.num_hidden_layers)
    check_kinds(kinds)
    report: dict = {
        "model": model.name,
        "samples": samples,
        "seed": seed,
        "definition": definition.value,
        "settings": settings.model_dump(mode="json"),
    }
    drops = {}
    for kind in dict.fromkeys(kinds):
        rows = []
        for capture, right in ask_kind(model, kind, samples, seed, cancel):
            if capture.task == Task.GENERATION or capture.text:
                *_, found = knock_out(model, capture, settings, cancel)
                rows.append((found, capture.intensity(definition), right))
            if progress:
                progress(kind, len(rows), samples)
        report[kind] = describe_kind(rows)
        drops[kind] = _drops_of(rows)
    report["differences"] = describe_differences(drops)
    return report


def check_kinds(kinds: Collection[str]) -> None:
    """Raises `UserError` for an unknown kind."""
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"Expected kinds among {', '.join(KINDS)}, got “{kind[:40]}”; choose some of them.")


def ask_kind(
    model: FamilyModel, kind: str, samples: int, seed: int, cancel: CancelFlag | None = None
) -> Iterator[tuple[Capture, bool | None]]:
    """Captures of held-out questions of one kind, and whether the answer is right; of drawings it is not said."""
    if kind == DRAWING:
        for number, drawing in enumerate(held_out_drawings(samples, seed)):
            sampling = replace(GENERATION_SAMPLING, seed=seed + number)
            yield _finished(model.generate(drawing.prompt, sampling, cancel)), None
        return
    asked, scenes = 0, samples
    while asked < samples:  # not every scene has a question of every kind; more scenes begin with the same ones
        scenes *= 2
        pairs = [(scene, q) for scene, q in held_out_questions(scenes, seed) if q.kind == kind]
        for scene, question in pairs[asked:samples]:
            picture = Image.fromarray(world.draw_scene(scene))
            capture = _finished(model.understand(picture, question.text, UNDERSTANDING_SAMPLING, cancel))
            yield capture, plain(capture.text) == plain(question.answer)
            asked += 1


def _finished(events) -> Capture:
    *_, last = events
    assert isinstance(last, Finished), "an event stream ends with Finished"
    return last.capture


def describe_kind(rows: list[tuple[KnockoutReport, np.ndarray, bool | None]]) -> dict:
    """One kind's part. Drops are in nats, summed over an answer's tokens; then the mean over samples.

    `n`; `right` the share of right answers; `tokens` per answer; `log_probability` without a knock-out; by window [L]
    `drop`, its standard `error` and bootstrap interval `low` … `high`; `share`, the mean drop as a share of that of all
    layers, with `share_low` … `share_high`, which answers of other lengths can be compared by; `intact`,
    the share of answers whose every token stays the likeliest, so that greedy decoding would give them again (None of
    drawings, which are drawn by lot); the same of `all_layers`; `others` and `fewer_targets` the controls' drops [L]
    and that of all layers (None without); `intensity` [L], and `r` of its curve with that of the drops.
    """
    if not rows:
        raise UserError("Expected answers of at least one word to knock out, got none; choose another kind.")
    reports = [report for report, _, _ in rows]
    drops, totals = _drops_of(rows)
    (low, high), (share_low, share_high) = mean_interval(drops), share_interval(drops, totals)
    intensities = np.stack([curve for _, curve, _ in rows]).astype(np.float64)
    intensities = intensities[~np.isnan(intensities).any(1)]  # of answers that fed no token back
    judged = [right for _, _, right in rows if right is not None]
    return {
        "n": len(rows),
        "right": round(sum(judged) / len(judged), 4) if judged else None,
        "tokens": round(float(np.mean([len(report.tokens) for report in reports])), 2),
        "log_probability": round(float(np.mean([report.total for report in reports])), 5),
        "drop": _plain(drops.mean(0)),
        "error": _plain(_error(drops)),
        "low": _plain(low),
        "high": _plain(high),
        "share": _plain(drops.mean(0) / totals.mean()),
        "share_low": _plain(share_low),
        "share_high": _plain(share_high),
        "intact": _plain(np.mean([_intact(r, r.window_likeliest) for r in reports], 0)) if judged else None,
        "all_layers": {
            "drop": round_finite(totals.mean()),
            "error": round_finite(_error(totals)),
            "intact": round_finite(np.mean([_intact(r, [r.all_likeliest])[0] for r in reports])) if judged else None,
        },
        "others": _mean_control(reports, "others"),
        "fewer_targets": _mean_control(reports, "fewer_targets"),
        "intensity": _plain(intensities.mean(0)) if len(intensities) else None,
        "r": round_finite(correlate_curves(intensities.mean(0), drops.mean(0))) if len(intensities) else None,
    }


def _drops_of(rows: list[tuple[KnockoutReport, np.ndarray, bool | None]]) -> tuple[np.ndarray, np.ndarray]:
    """Drops by window [N, L], and of all layers at once [N], summed over tokens."""
    reports = [report for report, _, _ in rows]
    return np.array([r.total_drops for r in reports]), np.array([sum(r.all_layers) for r in reports])


def describe_differences(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict:
    """The first kind against each other one: `share` of the other less that of the first, `low` … `high`, each [L]."""
    (first, mine), *others = found.items()
    return {
        f"{kind} − {first}": dict(zip(("share", "low", "high"), map(_plain, share_difference(its, mine)), strict=True))
        for kind, its in others
    }


def _error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over samples."""
    return values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros(values.shape[1:])


def _intact(report: KnockoutReport, counts: list[int]) -> list[bool]:
    return [count == len(report.tokens) for count in counts]


def _mean_control(reports: list[KnockoutReport], name: str) -> list[float] | None:
    found = [np.mean(getattr(r.controls, name), 0) for r in reports if r.controls and getattr(r.controls, name)]
    return _plain(np.mean(found, 0)) if found else None


def _plain(values: np.ndarray) -> list[float | None]:
    return [round_finite(value) for value in values]
