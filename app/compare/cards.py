"""The tables and the pictures of the Compare tab, as HTML. Everything that comes from outside is escaped here.

Knows series and sentences; no handler and no Gradio event.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from app.compare import words
from app.compare.numbers import TASKS, distance_to_targets, find_correlations
from backend.comparison import Series

Rows = Iterable[Sequence[str]]


def empty_card(things: int, first: str = "") -> str:
    """What to do where there is nothing to see yet; `first` is the query of a comparison to begin with."""
    if things:
        return ""
    begin = f'<p><a href="?{escape(first)}">{escape(words.FIRST)}</a></p>' if first else ""
    body = f"<h2>Compare</h2><p>{escape(words.EMPTY)}</p>{begin}"
    return f'<section class="lens-card lens-empty" aria-label="Compare">{body}</section>'


def numbers_card(series: Sequence[Series]) -> str:
    """Means, distances to targets, and how the two tasks go together."""
    if not series:
        return ""
    letters = words.make_letters([s.source for s in series])
    rows = []
    for task in TASKS:
        for one in (s for s in series if s.task == task and s.role != "target"):
            to = distance_to_targets(one, series)
            loss = "–" if to is None or to.aia_loss is None else f"{to.aia_loss:.5f}"
            distance = "–" if to is None else f"{to.mean_absolute:.3f}"
            rows.append((words.short_label(one, letters), task.value, f"{one.mean.mean():.3f}", distance, loss))
    targets, losses = (any(row[column] != "–" for row in rows) for column in (3, 4))
    columns = ["curve", "task", "mean intensity", *["mean |I − T|"] * targets, *["AIA loss"] * losses]
    table = make_table(columns, [row[: len(columns)] for row in rows])
    said = [words.describe_correlation(words.short_label(one, letters), r) for one, r in find_correlations(series)]
    notes = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    if notes:
        notes = (
            "<h3>Do the tasks conflict?</h3><p class=\"lens-sub\">Pearson's r of both tasks' mean curves over layers; "
            f"from means alone, so without an interval.</p><ul>{notes}</ul>"
        )
    subtitle = words.describe_columns(targets, losses)
    return make_card("Numbers", subtitle, table + notes)


def scores_card(series: Sequence[Series]) -> str:
    """Scores with their intervals, a column for each moment that was scored; empty where none was."""
    scored = [s for s in series if s.scores]
    letters = words.make_letters([s.source for s in series])
    labels = list(dict.fromkeys(words.short_label(s, letters) for s in scored))
    tables = []
    for task in TASKS:
        found = {words.short_label(s, letters): s.scores for s in scored if s.task == task}
        if found:
            kinds = list(dict.fromkeys(["overall", *(k for score in found.values() for k in score.get("by_kind", {}))]))
            rows = [[kind, *(words.format_score(found.get(label) or {}, kind) for label in labels)] for kind in kinds]
            tables.append(make_table([task.value, *labels], rows))
    if not tables:
        return ""
    subtitle = "Share of right answers and of drawings read back as asked for, with 95 % intervals, on held-out scenes."
    return make_card("Scores", subtitle, "".join(tables))


def outputs_card(series: Sequence[Series]) -> str:
    """What the models made, side by side; empty unless two captures are compared."""
    made = [s for s in series if s.output]
    if len(made) < 2:
        return ""
    letters = words.make_letters([s.source for s in series])
    prompts = {s.output.prompt for s in made}
    cells = "".join(_output(one, words.short_label(one, letters)) for one in made)
    subtitle = "The same prompt." if len(prompts) == 1 else "Different prompts: curves may differ for that alone."
    return make_card("What they made", subtitle, f'<div class="lens-outputs">{cells}</div>')


def _output(one: Series, label: str) -> str:
    picture = base64.b64encode(one.output.picture_png).decode()
    text = f'<p class="lens-made">{escape(one.output.text)}</p>' if one.output.text else ""
    alt = escape(f"{label}: {'drawn' if not one.output.text else 'asked about'}", quote=True)
    return (
        f'<figure><img class="lens-pixels" src="data:image/png;base64,{picture}" alt="{alt}" />'
        f"<figcaption><b>{escape(label)}</b> <span>{escape(one.output.prompt)}</span>{text}</figcaption></figure>"
    )


def make_card(title: str, subtitle: str, body: str) -> str:
    return (
        f'<section class="lens-card" aria-label="{escape(title, quote=True)}"><h2>{escape(title)}</h2>'
        f'<p class="lens-sub">{escape(subtitle)}</p>{body}</section>'
    )


def make_table(columns: Sequence[str], rows: Rows) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="lens-table" style="--columns: {len(columns)}">{table}</div>'
