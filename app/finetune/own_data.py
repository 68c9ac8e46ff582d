"""The data on the Fine-tune form: a choice, an upload folded under it, and the report on what was uploaded.

Makes the fields and the report's HTML; the handlers are in `desk.py`. Checks no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app.components.dataset import DataUpload
from app.components.off import make_off_note
from app.finetune.request import DATASET
from backend.finetuning.datasets import Dataset, describe_rows
from backend.finetuning.image_zips import MAX_ARCHIVE_BYTES

WORLD = ("the shapes world, made as it goes", "world")
ROWS_SHOWN = 50
FORMAT_NOTE = (
    "Rows as in the authors’ format: an image and its conversation, “&lt;image&gt;” where the image stands; an answer "
    "that is only “&lt;image&gt;” is a drawing. Every row and image is checked before anything starts."
)


@dataclass(frozen=True)
class DataFields:
    """All controls that have to do with data."""

    choice: gr.Dropdown
    report: gr.HTML
    good_only: gr.Checkbox
    upload: DataUpload


def make_data_fields(off: str = "") -> DataFields:
    """Create the controls inside the current Gradio context; `off` is why no data are taken in, where they are not."""
    plain: dict[str, Any] = {"apply_default_css": False, "js_on_load": None}
    choice = gr.Dropdown(
        [WORLD], value="world", label="Data", filterable=False, elem_classes="lens-select", elem_id="lens-data"
    )
    report = gr.HTML("", elem_id="lens-data-report", **plain)
    good_only = gr.Checkbox(
        False,
        label="Train on the good rows only",
        visible=False,
        elem_id="lens-set-skip-bad-rows",
    )
    with gr.Accordion("Use your own data", open=False, elem_classes="lens-fold", elem_id="lens-own-data"):
        make_off_note(off)
        upload = DataUpload(MAX_ARCHIVE_BYTES // 2**20, visible=not off, elem_id="lens-upload")
        gr.HTML(FORMAT_NOTE, elem_classes="lens-note", **plain)
    return DataFields(choice, report, good_only, upload)


def data_choices(found: Sequence[Dataset]) -> list[tuple[str, str]]:
    """The world, then what was uploaded, newest first."""
    return [WORLD, *((f"{one.name}, {one.good:,} rows", DATASET + one.id) for one in found)]


def report_html(found: Dataset) -> str:
    """Rows by task, and the first bad ones with what is wrong with them."""
    images = f"{found.pictures:,} {'image' if found.pictures == 1 else 'images'}"
    summary = f'<p class="lens-rows-told">{escape(describe_rows(found))}; {images}.</p>'
    if not found.bad:
        return summary
    shown = found.bad_rows[:ROWS_SHOWN]
    rows = "".join(f"<tr><td>{row.line:,}</td><td>{escape(row.problem)}</td></tr>" for row in shown)
    more = found.bad - len(shown)
    rest = f'<p class="lens-rows-told">and {more:,} more</p>' if more else ""
    return (
        f'{summary}<div class="lens-bad-rows" tabindex="0" role="region" aria-label="Bad rows"><table><thead><tr>'
        f"<th>line</th><th>what is wrong</th></tr></thead><tbody>{rows}</tbody></table></div>{rest}"
    )
