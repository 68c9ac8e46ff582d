"""Does it matter? What the card shows of one or two captures and of what was knocked out of them.

Pure functions on captures, reports and remakes: chart, sentences, drops by token, files. Runs no model; see
`matters_route.py`.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aia.intensity import Definition, Task
from app.closer import matters_words, words
from app.closer.asked import Asked
from app.closer.maps import encode
from app.closer.matters_figure import Half, make_matters_figure
from app.explore.views import data_url
from backend.interface import UserError
from backend.kept.captures import Capture
from backend.kept.knockouts import (
    MOST_DRAWS,
    MOST_LAYERS,
    Cut,
    HeadReport,
    HeadSettings,
    KnockoutReport,
    Remade,
    Settings,
    Way,
    default_width,
    window_layers,
)

ALL_LAYERS = "all"
KEEP, CUT = "look", "cut"  # a head alone looks, or alone does not


@dataclass(frozen=True)
class Found:
    """What is known of one capture: settings it is asked with, and what was found, None where nobody has asked yet."""

    capture: Capture
    settings: Settings
    report: KnockoutReport | None = None
    heads: HeadReport | None = None
    keep: bool = False  # whether the report on heads leaves one at a time looking, or cuts it
    remade: Remade | None = None


# --- what is asked ---


def read_matters(asked: Asked) -> dict[str, Any]:
    """What the card's controls need of each capture."""
    return {"captures": [_about(capture) for capture in asked.captures]}


def _about(capture: Capture) -> dict[str, Any]:
    return {
        **words.describe(capture),
        "empty": matters_words.missing(capture),
        "width": default_width(capture.layers),
    }


def settings_of(asked: Asked, capture: Capture) -> Settings:
    """The settings that a query asks for. Raises `UserError` for what does not fit the capture."""
    width = _whole(asked, "width", "layers in a window", default_width(capture.layers), 1, capture.layers)
    draws = _whole(asked, "draws", "random controls", 3, 0, MOST_DRAWS)
    way = asked.values.get("way") or Way.DIRECT.value
    if way not in set(Way):
        raise UserError(f"Expected the rows {' or '.join(Way)}, got “{way[:12]}”; choose one of them.")
    return Settings(width=width, draws=draws, way=Way(way))


def head_settings_of(asked: Asked, settings: Settings) -> HeadSettings:
    """Whether single heads are cut, or all but one. Raises `UserError`."""
    alone = asked.values.get("alone") or KEEP
    if alone not in (KEEP, CUT):
        raise UserError(f"Expected heads that {KEEP} or {CUT}, got “{alone[:12]}”; choose one of them.")
    return HeadSettings(way=settings.way, keep=alone == KEEP)


def _whole(asked: Asked, name: str, what: str, default: int, low: int, high: int) -> int:
    text = asked.values.get(name) or str(default)
    if not text.isascii() or not text.isdecimal() or not low <= int(text[:9]) <= high:
        raise UserError(f"Expected {low} to {high} {what}, got “{text[:12]}”; change it.")
    return int(text)


def cut_of(asked: Asked, settings: Settings, layers: int) -> Cut | None:
    """The window that a query chooses, by the layer it is centred on, or all layers; None for none."""
    text = asked.values.get("cut", "")
    if not text:
        return None
    if layers > MOST_LAYERS:
        raise UserError(f"Expected at most {MOST_LAYERS} layers, got {layers:,}; choose another model.")
    if text == ALL_LAYERS:
        return Cut(way=settings.way, layers=list(range(layers)))
    place = _whole(asked, "cut", "as the window's layer", 1, 1, layers)
    return Cut(way=settings.way, layers=list(window_layers(layers, settings.width)[place - 1]))


# --- what is shown ---


def show_matters(asked: Asked, found: list[Found]) -> dict[str, Any]:
    """The card's content: chart, sentences, drops by token, what was made again, files."""
    letters = ("A", "B") if len(found) > 1 else ("",)
    halves = [_half(one, asked.definition, letter) for one, letter in zip(found, letters, strict=True)]
    return {
        "figure": make_matters_figure(halves, _chosen(asked, found[0])),
        "sentence": matters_words.describe_halves(halves),
        "notes": matters_words.explain(halves, asked),
        "known": [one.report is not None for one in found],
        "passes": sum(_passes(one) for one in found if one.report is None),
        "windows": matters_words.name_windows(found[0].capture.layers, found[0].settings.width),
        "tokens": [_tokens(one) for one in found],
        "heads": _heads(found),
        "remade": [_remade(one) for one in found],
        "csv": make_csv(halves),
    }


def _half(one: Found, definition: Definition, letter: str) -> Half:
    capture = one.capture
    heads = capture.head_intensity(definition)
    return Half(
        name=words.name(capture),
        letter=letter,
        task=capture.task,
        windows=matters_words.name_windows(capture.layers, one.settings.width),
        intensity=heads.mean(1).astype(np.float64),
        spread=heads.std(1).astype(np.float64),
        report=one.report,
    )


def _chosen(asked: Asked, one: Found) -> tuple[int, int] | None:
    """First and last layer, from 1, of the window that is chosen on the chart."""
    cut = cut_of(asked, one.settings, one.capture.layers)
    return None if cut is None else (cut.layers[0] + 1, cut.layers[-1] + 1)


def _passes(one: Found) -> int:
    """Copies of the sequence that a knock-out passes at least: each window and all layers, and as many per control."""
    return (one.capture.layers + 1) * (1 + one.settings.draws)


def _tokens(one: Found) -> dict[str, Any] | None:
    """Drops by window and token, a row per layer; None where there is nothing to tell apart."""
    if one.report is None or len(one.report.tokens) < 2:
        return None
    drops = np.array(one.report.drops)
    most = round_up(float(np.abs(drops).max()))
    answering = one.capture.task == Task.UNDERSTANDING
    names = [token.strip() or "␣" for token in one.report.tokens] if answering else None
    return {"map": encode(drops, (-most, most)), "names": names, "task": one.capture.task.value}


def _heads(found: list[Found]) -> dict[str, Any]:
    """What each head alone gives back or costs, in nats, a row per head: a map of each capture, on one scale."""
    keep = found[0].keep
    changes = [None if one.heads is None else change_by_head(one.heads, keep) for one in found]
    known = [values for values in changes if values is not None]
    most = round_up(max((float(np.abs(values).max()) for values in known), default=0.0))
    letters = ("A", "B") if len(found) > 1 else ("",)
    return {
        "keep": keep,
        "maps": [None if values is None else encode(values.T, (-most, most)) for values in changes],
        "passes": sum(one.capture.layers * one.capture.heads + 1 for one in found if one.heads is None),
        "sentence": matters_words.describe_heads(changes, [one.heads for one in found], found, letters),
    }


def change_by_head(report: HeadReport, keep: bool) -> np.ndarray:
    """Drops with each head cut, or what each gives back of the drop of all when it alone looks: float64 [L, H]."""
    drops = np.array(report.drops)
    return report.all_heads - drops if keep else drops


def round_up(nats: float) -> float:
    """To two digits, so that a legend can be read: 16.31 → 17, 0.123 → 0.13, at least 0.01."""
    unit = 10.0 ** max(math.floor(math.log10(max(nats, 0.01))) - 1, -2)
    return round(max(math.ceil(nats / unit - 1e-9) * unit, 0.01), 2)


def _remade(one: Found) -> dict[str, Any] | None:
    """What was made again without the chosen layers, beside what was made with them."""
    if one.remade is None:
        return None
    if one.capture.task == Task.UNDERSTANDING:
        return {"before": one.capture.text, "after": one.remade.text, "sentence": matters_words.describe_answer(one)}
    picture = f"data:image/png;base64,{one.remade.picture}"
    return {
        "pictures": [data_url(one.capture.picture_png), picture],
        "changed": [place for place, changed in enumerate(one.remade.changed) if changed],
        "grid": one.capture.grid,
        "sentence": matters_words.describe_drawing(one),
    }


def make_csv(halves: list[Half]) -> str:
    """What the chart shows, a row per window of each capture and one for all layers."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(["capture", "layer", "window", "intensity", "drop", "control", "control_low", "control_high", "fewer_own"])
    for half in halves:
        drops, others, fewer = half.drops, half.others, half.fewer
        for place in range(len(half.windows) + 1):
            whole = place == len(half.windows)
            across = [None] * 3 if others is None else [others[:, place].mean(), others[:, place].min()]
            across += [] if others is None else [others[:, place].max()]
            looked = None if whole else half.intensity[place]
            drop = None if drops is None else half.all_layers if whole else drops[place]
            own = None if fewer is None else fewer[:, place].mean()
            about = [half.name, "" if whole else place + 1, "all layers" if whole else half.windows[place]]
            write([*about, *map(_cell, [looked, drop, *across, own])])
    return out.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{float(value):.5f}"
