import json
import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest

from aia.intensity import Task
from app import figures
from app.figures import ACCENT

HEADS = np.array([[0.2, 0.4], [0.5, 0.5], [0.9, 1.0]])  # [L=3, H=2]


def make_curve_figure(*arguments):
    """The figure as Plotly reads it; an unknown or malformed property raises."""
    return go.Figure(figures.make_curve_figure(*arguments))


def trace(figure, name):
    return next(t for t in figure.data if t.name == name)


def test_line_is_the_mean_over_heads_at_layers_from_one():
    line = trace(make_curve_figure(HEADS, Task.UNDERSTANDING), "answer")
    assert list(line.x) == [1, 2, 3]
    assert list(line.y) == pytest.approx([0.3, 0.5, 0.95])
    assert line.line.color == ACCENT[Task.UNDERSTANDING]


def test_band_is_one_standard_deviation_cut_off_at_one():
    heads = np.array([[0.2, 0.4], [0.0, 1.0], [0.9, 1.0]])
    band = trace(make_curve_figure(heads, Task.GENERATION), "spread")
    assert list(band.x) == [1, 2, 3, 3, 2, 1]
    assert list(band.y) == pytest.approx([0.4, 1.0, 1.0, 0.9, 0.0, 0.2])


def test_band_never_leaves_zero_to_one():
    heads = np.array([[0.0, 0.0, 0.0, 1.0]])  # mean 0.25, deviation 0.433
    assert min(trace(make_curve_figure(heads, Task.GENERATION), "spread").y) == 0


def test_hover_tells_spread_and_range_of_the_heads():
    line = trace(make_curve_figure(HEADS, Task.UNDERSTANDING), "answer")
    assert [list(row) for row in line.customdata] == [
        pytest.approx([0.1, 0.2, 0.4]),
        pytest.approx([0, 0.5, 0.5]),
        pytest.approx([0.05, 0.9, 1.0]),
    ]


def test_unguided_branch_is_a_thin_line_with_a_legend():
    figure = make_curve_figure(HEADS, Task.GENERATION, np.array([0.1, 0.2, 0.3]))
    thin = trace(figure, "without the prompt (for guidance)")
    assert list(thin.y) == pytest.approx([0.1, 0.2, 0.3])
    assert figure.layout.showlegend
    assert not make_curve_figure(HEADS, Task.GENERATION).layout.showlegend


def test_nothing_to_measure_draws_an_empty_chart():
    figure = make_curve_figure(np.full((8, 4), np.nan), Task.UNDERSTANDING)
    assert len(figure.data) == 0
    assert list(figure.layout.xaxis.tickvals) == list(range(1, 9))


@pytest.mark.parametrize(("layers", "ticks"), [(8, list(range(1, 9))), (30, [1, 6, 11, 16, 21, 26])])
def test_ticks_thin_out_for_deep_models(layers, ticks):
    figure = make_curve_figure(np.full((layers, 2), 0.5), Task.GENERATION)
    assert list(figure.layout.xaxis.tickvals) == ticks
    assert tuple(figure.layout.yaxis.range) == (0, 1.02)


def test_every_colour_is_a_variable_so_that_dark_mode_can_repaint():
    text = json.dumps(figures.make_curve_figure(HEADS, Task.GENERATION, np.zeros(3)))
    assert "#" not in text


def test_figures_load_neither_torch_nor_gradio():
    code = "import sys, app.figures; print({'torch', 'gradio', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
