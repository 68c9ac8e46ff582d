"""Every sentence that the page makes from data. Knows captures and definitions; no page, no figure."""

from __future__ import annotations

import math

import numpy as np

from aia.intensity import Definition, Task
from backend.interface import Preparing, Waiting
from backend.kept.captures import Capture

CURVE_SUBTITLE = {
    Task.UNDERSTANDING: "Share of attention that the answer's tokens give to the image, layer by layer. "
    "Line: mean over heads; band: ±1 standard deviation between heads.",
    Task.GENERATION: "Share of attention that the image's tokens give to the text, layer by layer. "
    "Line: mean over heads; band: ±1 standard deviation between heads.",
}

EXPLANATIONS = {
    (Definition.FIGURE, Task.UNDERSTANDING): "figure, as the published figures count it: "
    "answer tokens looking at the begin-of-image token and all image tokens.",
    (Definition.TRAINING, Task.UNDERSTANDING): "training, as the authors' training code counts it: "
    "like figure, but without the last image token (their slice is off by one).",
    (Definition.STRICT, Task.UNDERSTANDING): "strict, closest to the paper's text: "
    "answer tokens looking at image tokens and nothing else.",
    (Definition.FIGURE, Task.GENERATION): "figure, as the published figures count it: "
    "image tokens looking at everything before the image, template and begin-of-image token included.",
    (Definition.TRAINING, Task.GENERATION): "training, as the authors' training code counts it: "
    "like figure, but without the begin-of-image token (their slice is off by one).",
    (Definition.STRICT, Task.GENERATION): "strict, closest to the paper's text: "
    "image tokens looking at the words of the prompt and nothing else.",
}

BROKEN = "Something went wrong inside; the server's log says what, and the page can be used on."
UNKNOWN_TOKEN = "<unk>"  # what tokenizers put for a word that they have no token for
UNKNOWN_TITLE = "a word the model does not know"

_SUBJECTS = {
    Task.UNDERSTANDING: ("The answer", "looks most at the image"),
    Task.GENERATION: ("The drawing", "looks most at the text"),
}


def describe_curve(intensity: np.ndarray, task: Task) -> str:
    """One sentence on where a curve [L] is highest and lowest."""
    subject, looks = _SUBJECTS[task]
    if not np.isfinite(intensity).all():
        return f"{subject} is too short to measure: no token of it was fed back to the model."
    top, low = int(intensity.argmax()), int(intensity.argmin())
    if len(intensity) == 1 or intensity[top] - intensity[low] < 0.005:
        return f"{subject} looks about equally in every layer ({intensity.mean():.2f})."
    return (
        f"{subject} {looks} in layer {top + 1} ({intensity[top]:.2f}), least in layer {low + 1} ({intensity[low]:.2f})."
    )


def describe_run(capture: Capture, cached: bool, saved: bool | None) -> str:
    """The line of small facts, such as "0.4 s · seed 0 · saved"; None where it is not known yet."""
    facts = [format_seconds(capture.seconds)]
    if cached:
        facts = ["from the store", f"first made in {facts[0]}"]
    facts.append(describe_choice(capture))
    if capture.key.adapter:
        facts.append(describe_adapter(capture.key.adapter))
    if not cached and saved is not None:
        facts.append("saved" if saved else "not saved")
    return " · ".join(facts)


def describe_choice(capture: Capture) -> str:
    """How tokens were chosen: greedily, or by a seed."""
    sampling = capture.key.sampling
    return "greedy" if sampling.temperature == 0 else f"seed {sampling.seed}"


def describe_adapter(adapter: str) -> str:
    """The adapter at work by the start of its digest, with its strength where that is not 1."""
    digest, _, strength = adapter.partition("@")
    return f"adapter {digest[:6]}" + (f" × {strength}" if strength else "")


def format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.095 else f"{max(1, round(seconds * 1000))} ms"


def format_share(share: float) -> str:
    """0.31 → "31 %"; below a tenth with one decimal. The space does not break."""
    digits = 0 if share >= 0.0995 else 1
    return f"{100 * float(share):.{digits}f}\u00a0%"


def quote(token: str) -> str:
    """A token as a sentence names it."""
    return UNKNOWN_TITLE if token == UNKNOWN_TOKEN else f"“{token}”"


def describe_look(token: str, share: float, layer_shares: np.ndarray) -> str:
    """How much of its attention a token had for the image: share in 0…1, layer_shares [L]."""
    top = int(layer_shares.argmax())
    return (
        f"Choosing {quote(token)}, the model gave {format_share(share)} of its attention to the image, "
        f"most in layer {top + 1} ({format_share(layer_shares[top])})."
    )


def describe_pull(word: str, layer_shares: np.ndarray) -> str:
    """Where a prompt word was looked at while drawing: layer_shares [L], means over patches."""
    top = int(layer_shares.argmax())
    return (
        f"Bright patches looked most at {quote(word)} while they were drawn; "
        f"on average it got {format_share(layer_shares.mean())} of their attention, "
        f"most in layer {top + 1} ({format_share(layer_shares[top])})."
    )


def describe_preparing(event: Preparing) -> str:
    """What is done before a model runs, such as "fetching Janus-Pro-1B, 1.2 of 4.0 GiB"."""
    if not event.total:
        return event.text
    return f"{event.text}, {event.done / 2**30:.1f} of {event.total / 2**30:.1f} GiB"


def describe_waiting(event: Waiting) -> str:
    """A place in the queue, such as "waiting, 2 ahead, about 12 s"."""
    ahead = f"waiting, {event.ahead} ahead" if event.ahead else "next in turn"
    if event.seconds is None:
        return ahead
    if event.seconds < 90:
        return f"{ahead}, about {max(event.seconds, 1):.0f} s"
    return f"{ahead}, about {event.seconds / 60:.0f} min"


# --- numbers ---


def describe_hinge(r: float, without: np.ndarray) -> str:
    """Where the sign of r hangs on one layer, which; empty where it does not. `without` is r without each layer [L]."""
    if math.isnan(r) or not np.isfinite(without).any():
        return ""
    turned = np.where(np.isfinite(without), without * np.sign(r), np.inf)
    layer = int(turned.argmin())
    if turned[layer] >= 0:
        return ""
    return f"The sign hangs on layer {layer + 1}: without it r = {signed(float(without[layer]))}."


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
