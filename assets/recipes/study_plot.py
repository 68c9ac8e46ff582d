"""Draw the study's plot for the README from its results: curves over layers, and scores against the control.

    python -m assets.recipes.study_plot --results assets/study/results.json --out assets/study/plot.png

Needs a Chromium, as the browser tests do. Knows the report of `backend.finetuning.study`; runs no model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import plotly
import plotly.graph_objects as go
from playwright.sync_api import sync_playwright
from plotly.subplots import make_subplots

from aia.intensity import Task

BLUE, RED, GREY, SOFT = "#2a5bd7", "#d03a2f", "#9a9a96", "#6b6b68"
COLOUR = {Task.GENERATION: BLUE, Task.UNDERSTANDING: RED}
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu"]
WIDTH_PX, HEIGHT_PX = 1100, 760


def make_figure(report: dict) -> go.Figure:
    """Above: each task's curves, mean over seeds. Below: each arm's scores minus its control's, seed by seed."""
    titles = ("Understanding: image ← answer", "Generation: prompt ← image", "Score against the control, points", "")
    figure = make_subplots(
        2,
        2,
        subplot_titles=titles,
        vertical_spacing=0.16,
        specs=[[{}, {}], [{"colspan": 2}, None]],
        row_heights=[0.5, 0.5],
    )
    for column, task in enumerate((Task.UNDERSTANDING, Task.GENERATION), start=1):
        for trace in curve_traces(report, task, column == 1):
            figure.add_trace(trace, 1, column)
        figure.update_xaxes(title="layer", dtick=1, row=1, col=column)
        figure.update_yaxes(title="intensity" if column == 1 else None, row=1, col=column)
    for task in (Task.UNDERSTANDING, Task.GENERATION):
        figure.add_trace(score_trace(report, task), 2, 1)
    figure.add_hline(0, line={"color": SOFT, "width": 1}, row=2, col=1)
    figure.update_layout(
        template="plotly_white",
        width=WIDTH_PX,
        height=HEIGHT_PX,
        font={"family": "system-ui, sans-serif", "size": 13},
        margin={"l": 60, "r": 20, "t": 40, "b": 90},
        legend={"orientation": "h", "y": -0.12, "x": 0.5, "xanchor": "center"},
        boxmode="group",
    )
    return figure


def curve_traces(report: dict, task: Task, legend: bool) -> list[go.Scatter]:
    """Start, control, AIA (means over seeds) and targets with their band, as the page draws them."""
    runs, colour = report["runs"], COLOUR[task]
    layers = list(range(1, len(curve(runs["with AIA"][0]["after"], task)) + 1))
    stages = report["targets"][task]
    target = [stage["target"] for stage in stages for _ in range(stage["first"], stage["last"] + 1)]
    delta = [stage["delta"] for stage in stages for _ in range(stage["first"], stage["last"] + 1)]
    band = [t + d for t, d in zip(target, delta, strict=True)] + [
        t - d for t, d in reversed(list(zip(target, delta, strict=True)))
    ]
    lines = [
        ("start", curve(report["start"], task), {"color": GREY, "width": 1.5}),
        ("without AIA", mean_curve(runs["without AIA"], task), {"color": colour, "width": 2, "dash": "dash"}),
        ("with AIA", mean_curve(runs["with AIA"], task), {"color": colour, "width": 2.5}),
        ("target ± δ", target, {"color": SOFT, "width": 1.5, "dash": "dot"}),
    ]
    filled = {"fill": "toself", "fillcolor": "rgba(120,120,120,.12)", "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        go.Scatter(x=layers + layers[::-1], y=band, mode="lines", showlegend=False, **filled),
        *(
            go.Scatter(x=layers, y=values, name=name, line=line, mode="lines", showlegend=legend)
            for name, values, line in lines
        ),
    ]


def score_trace(report: dict, task: Task) -> go.Box:
    """One point per arm and seed: score minus that of the control with the same seed, in points."""
    control = {run["seed"]: run["after"]["scores"][task]["overall"] for run in report["runs"]["without AIA"]}
    arms, points = [], []
    for arm, runs in report["runs"].items():
        if arm != "without AIA":
            arms += [arm] * len(runs)
            points += [100 * (run["after"]["scores"][task]["overall"] - control[run["seed"]]) for run in runs]
    hidden = {"fillcolor": "rgba(0,0,0,0)", "line": {"color": "rgba(0,0,0,0)"}}
    marker = {"color": COLOUR[task], "size": 9}
    return go.Box(x=arms, y=points, name=task.value, boxpoints="all", pointpos=0, jitter=0.3, marker=marker, **hidden)


def curve(moment: dict, task: Task) -> list[float]:
    return moment["intensity"][task]["training"]["mean"]


def mean_curve(runs: list[dict], task: Task) -> list[float]:
    curves = [curve(run["after"], task) for run in runs]
    return [sum(values) / len(values) for values in zip(*curves, strict=True)]


def render(figure: go.Figure, out: Path, chromium: str) -> None:
    script = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text()
    html = figure.to_html(include_plotlyjs=False, full_html=False, config={"staticPlot": True})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, device_scale_factor=1.5)
        page.set_content(f"<body style='margin:0'><script>{script}</script>{html}</body>")
        page.wait_for_selector(".main-svg")
        page.screenshot(path=str(out))
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("assets/study/results.json"))
    parser.add_argument("--out", type=Path, default=Path("assets/study/plot.png"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    render(make_figure(json.loads(options.results.read_text())), options.out, options.chromium)


if __name__ == "__main__":
    main()
