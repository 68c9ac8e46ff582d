"""What the page's cards show of a capture: pure functions from captures and events to views.

Knows captures, figures and sentences; no engine, no handler, no Gradio event.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from aia.intensity import Definition, Group, Task, group_index, intensity
from app import words
from app.components.chart import Alternative, ChartView, Download
from app.components.result import Chip, ResultView, State
from app.explore import exports
from app.figures import make_curve_figure
from backend.kept.captures import Capture

PREVIEW_PX = 320
HINTS = {
    Task.UNDERSTANDING: "Click a word to see where the model looked when it chose it.",
    Task.GENERATION: "Click a word to see which patches looked at it while they were drawn.",
}
_IMAGE_COLUMNS = [group_index(g) for g in (Group.IMAGE, Group.IMAGE_LAST)]


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def preview_url(picture: Image.Image) -> str:
    """A small copy of a picture for the eye: data URL of at most 320 pixels a side."""
    small = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    small.thumbnail((PREVIEW_PX, PREVIEW_PX))
    out = io.BytesIO()
    small.save(out, "PNG" if small.mode == "RGBA" or max(small.size) <= 64 else "JPEG", quality=88)
    return data_url(out.getvalue(), Image.MIME["PNG" if out.getvalue()[:4] == b"\x89PNG" else "JPEG"])


# --- the result card ---


def finished_view(
    capture: Capture, cached: bool, saved: bool | None = True, notices: tuple[str, ...] = ()
) -> ResultView:
    """The result card of a finished capture; `saved` is None while nobody knows."""
    understanding = capture.task == Task.UNDERSTANDING
    chips = answer_chips(capture) if understanding else prompt_chips(capture)
    return ResultView(
        state=State.FINISHED,
        task=capture.task.value,
        prompt=capture.key.prompt,
        picture=data_url(capture.picture_png),
        answer=capture.text,
        chips=chips,
        hint=HINTS[capture.task] if chips else "",
        grid=capture.grid,
        facts=words.describe_run(capture, cached, saved),
        notices=notices,
    )


def answer_chips(capture: Capture) -> tuple[Chip, ...]:
    """A chip for each answer token, with the attention of the row that chose it on the patches.

    Row 0 chose the first token, row i the one after i tokens were fed back.
    """
    tokens = answer_tokens(capture)[: capture.mass.shape[3]]
    shares = capture.mass[0][..., _IMAGE_COLUMNS].sum(-1).mean(1)  # [L, Q]
    whole = capture.cross.shape[2] == capture.grid[0] * capture.grid[1]
    chips = []
    for row, token in enumerate(tokens):
        patches = capture.cross[:, row].astype(np.float32).mean(0)  # [X]
        says = words.describe_look(token, float(shares[:, row].mean()), shares[:, row])
        chips.append(make_chip(token, encode_map(patches) if whole else "", says))
    return tuple(chips)


def answer_tokens(capture: Capture) -> list[str]:
    """The answer's tokens; one that was made last but never fed back is what the text has beyond them."""
    fed = [t for t, g in zip(capture.tokens, capture.token_groups, strict=True) if g == Group.GENERATED]
    squeezed, joined = "".join(capture.text.split()), "".join("".join(fed).split())
    if squeezed.startswith(joined) and len(squeezed) > len(joined):
        fed.append(squeezed[len(joined) :])
    return [t.strip() or "␣" for t in fed]


def prompt_chips(capture: Capture) -> tuple[Chip, ...]:
    """A chip for each prompt token of a drawing, with how much each patch looked at it.

    A patch's row is the step that chose it; steps that chose row ends are left out.
    """
    if not len(capture.patch_rows):
        return ()
    chips = []
    for column, position in enumerate(capture.cross_positions):
        pull = capture.cross[:, capture.patch_rows, column].astype(np.float32)  # [L, rows · columns]
        token = capture.tokens[position].strip()
        chips.append(make_chip(token, encode_map(pull.mean(0)), words.describe_pull(token, pull.mean(1))))
    return tuple(chips)


def make_chip(token: str, patch_map: str, says: str) -> Chip:
    """A chip; the token that stands for every unknown word shows as a quiet question mark."""
    if token == words.UNKNOWN_TOKEN:
        return Chip("?", patch_map, says, title=words.UNKNOWN_TITLE)
    return Chip(token, patch_map, says)


def encode_map(values: np.ndarray) -> str:
    """Stretch values to 0…255, lowest to highest: base64 of one byte each."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return base64.b64encode(np.rint(scaled * 255).astype(np.uint8).tobytes()).decode()


# --- the curve card ---


def curve_view(capture: Capture, definition: str = "", link: str | None = None, pending: bool = False) -> ChartView:
    """The curve card: all three definitions at once. An unknown definition means the first.

    `link` is what opens the capture; none where it was not kept. While that is `pending`, neither link nor files.
    """
    names = [d.value for d in Definition]
    return ChartView(
        title="Cross-modal interaction by layer",
        subtitle=words.CURVE_SUBTITLE[capture.task],
        alternatives=tuple(_curve_alternative(capture, d) for d in Definition),
        chosen=definition if definition in names else names[0],
        link=query_of(link),
        link_key="definition",
        downloads=() if pending else make_downloads(capture),
        png_name=f"{exports.file_stem(capture)}-@.png",
        task=capture.task.value,
        pending=pending,
    )


def query_of(link: str | None) -> dict[str, str]:
    return {"capture": link} if link else {}


def make_downloads(capture: Capture) -> tuple[Download, ...]:
    """The files that a capture's curves are taken along in."""
    stem = exports.file_stem(capture)
    return (
        Download("CSV", f"{stem}.csv", "text/csv", exports.curve_csv(capture)),
        Download("JSON", f"{stem}.json", "application/json", exports.curve_json(capture)),
    )


def _curve_alternative(capture: Capture, definition: Definition) -> Alternative:
    unguided = intensity(capture.mass[1], capture.task, definition) if len(capture.mass) > 1 else None
    if definition == Definition.STRICT:
        unguided = None  # the branch without the prompt has no prompt words to look at
    figure = make_curve_figure(capture.head_intensity(definition), capture.task, unguided)
    return Alternative(
        name=definition.value,
        explanation=words.EXPLANATIONS[definition, capture.task],
        sentence=words.describe_curve(capture.intensity(definition), capture.task),
        figure=figure,
    )
