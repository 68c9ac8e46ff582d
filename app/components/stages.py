"""A table of stages that is edited in place: layers, and target and δ of both tasks. Knows no model and checks nothing.

Each edit is told at once; whoever listens says what is wrong and draws. A stage begins right after the one before it,
so layers are covered once as long as the ends rise.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import load_script


class StageTable(gr.HTML):
    """Value: a dict of `layers` (their number), `rows` (last layer from 1, T and δ of generation, T and δ of
    understanding; None for an empty cell) and `edited`, whether the person has changed it. Event: `edit`."""

    def __init__(self, **kwargs: Any):
        super().__init__(html_template=_TEMPLATE, js_on_load=load_script("stages"), apply_default_css=False, **kwargs)

    def preprocess(self, payload: Any) -> Any:
        return payload

    def postprocess(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


_TEMPLATE = """
<div class="lens-stages">
  <table aria-label="Stages">
    <thead>
      <tr>
        <th></th>
        <th colspan="2" class="lens-gen">generation</th>
        <th colspan="2" class="lens-und">understanding</th>
        <th></th>
      </tr>
      <tr><th>layers</th><th>T</th><th>δ</th><th>T</th><th>δ</th><th></th></tr>
    </thead>
    <tbody></tbody>
  </table>
  <button type="button" class="lens-add">Add a stage</button>
</div>
"""
