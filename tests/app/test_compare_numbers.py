"""Differences, distances and sentences, against values worked out by hand; figures by their trace data; the bundle."""

import io
import json
import zipfile

import numpy as np
import plotly.graph_objects as go
import pytest

from aia.intensity import Definition, Task
from app.compare import words
from app.compare.cards import numbers_card, scores_card
from app.compare.export import comparison_zip
from app.compare.figures import make_difference_figure, make_heads_figure, make_overlay_figure, round_limit
from app.compare.numbers import (
    depths,
    distance_to_targets,
    find_correlations,
    find_largest,
    find_pairs,
    match,
    merge_alike,
)
from app.compare.views import legend_of
from app.figures import ACCENT
from backend.comparison import Series

GEN, UND = Task.GENERATION, Task.UNDERSTANDING
FIGURE = Definition.FIGURE


def curve(source, mean, role="capture", task=GEN, **more):
    return Series(source, f"“{source}”", task, role, FIGURE, np.array(mean, float), **more)


A = curve("a", [0.10, 0.29, 0.50])
B = curve("b", [0.10, 0.41, 0.47])


# --- numbers ---


def test_difference_is_first_minus_second():
    pair = match(A, B)
    assert pair.difference == pytest.approx([0.0, -0.12, 0.03])
    assert pair.largest == 1 and pair.mean_absolute == pytest.approx(0.05) and not pair.by_depth


def test_layers_are_matched_by_depth_where_their_numbers_differ():
    assert depths(2) == pytest.approx([0.25, 0.75])
    short, long = curve("s", [0.5, 0.5]), curve("l", [0.0, 0.1, 0.2, 0.3])  # long at 1/8, 3/8, 5/8, 7/8
    pair = match(short, long)
    assert pair.by_depth and pair.other == pytest.approx([0.05, 0.25])
    assert match(long, curve("s", [0.0, 0.4])).other == pytest.approx([0.0, 0.1, 0.3, 0.4])  # flat beyond the ends


def test_the_first_two_things_of_a_task_are_a_pair():
    third = curve("c", [0, 0, 0])
    answering = [curve("b", [1, 1, 1], task=UND), curve("c", [0, 0, 0], task=UND)]
    pairs = find_pairs([A, B, answering[0], third, answering[1]])
    assert [(p.first.source, p.second.source) for p in pairs] == [("a", "b"), ("b", "c")]


def test_a_run_alone_is_compared_with_its_before():
    before, after, control = (
        curve("r", [v] * 3, role) for v, role in ((0.5, "before"), (0.4, "after"), (0.6, "control"))
    )
    [pair] = find_pairs([before, after, control])
    assert (pair.first.role, pair.second.role) == ("after", "before")
    [pair] = find_pairs([before, after, control, A])
    assert (pair.first.source, pair.second.source) == ("r", "a")


def test_things_without_a_task_in_common_are_compared_across_tasks():
    [pair] = find_pairs([A, curve("b", [0.2, 0.2, 0.2], task=UND)])
    assert (pair.first.task, pair.second.task) == (GEN, UND)
    assert find_pairs([A]) == []


def test_the_largest_difference_in_one_layer_leads():
    small, large = match(A, B), match(A, curve("c", [0.9, 0.29, 0.5]))
    assert find_largest([small, large]) is large and find_largest([]) is None


def test_distance_to_targets_is_that_of_the_runs_own():
    target = curve("r", [0.4, 0.4, 0.2], "target", std=np.full(3, 0.1))
    after = curve("r", [0.5, 0.4, 0.5], "after", distance={"aia_loss": 0.02, "mean_absolute": 9.0})
    found = distance_to_targets(after, [target, after])
    assert found.mean_absolute == pytest.approx(0.4 / 3) and found.aia_loss == 0.02
    assert distance_to_targets(A, [target, A]) is None and distance_to_targets(target, [target]) is None


def test_correlation_of_the_tasks_of_one_moment():
    series = [
        curve("r", [0.1, 0.2, 0.3], "before"),
        curve("r", [0.3, 0.2, 0.1], "before", UND),
        curve("r", [0.1, 0.2, 0.4], "after"),
        curve("r", [0.2, 0.2, 0.2], "after", UND),  # constant: no correlation
        A,
    ]
    [(one, r)] = find_correlations(series)
    assert one.role == "before" and r == pytest.approx(-1)


def test_runs_that_start_alike_have_one_before():
    befores = [curve("r", [0.5, 0.5], "before"), curve("s", [0.5, 0.5], "before"), curve("t", [0.5, 0.6], "before")]
    afters = [curve("r", [0.5, 0.5], "after"), curve("s", [0.5, 0.5], "after")]
    assert merge_alike([*befores, *afters]) == [befores[0], befores[2], *afters]


# --- sentences ---


def test_the_sentence_says_where_and_how_much():
    letters = words.make_letters(["a", "b"])
    assert words.describe_pair(match(A, B), letters) == (
        "Generation, A against B: most different in layer 2, 0.29 against 0.41; on average 0.03 lower."
    )
    assert words.describe_pair(match(B, A), letters).endswith("0.41 against 0.29; on average 0.03 higher.")
    assert "the same in every layer" in words.describe_pair(match(A, curve("b", A.mean)), letters)
    even = words.describe_pair(match(A, curve("b", [0.0, 0.29, 0.6])), letters)
    assert even.endswith("on average neither higher nor lower.")


def test_the_sentence_says_when_layers_are_matched_by_depth():
    said = words.describe_pair(match(A, curve("b", np.linspace(0, 1, 32))), words.make_letters(["a", "b"]))
    assert said.endswith("Layers are matched by depth, as there are 3 against 32.")


def test_the_sentence_names_tasks_that_differ():
    said = words.describe_pair(match(A, curve("b", [0, 0, 0], task=UND)), words.make_letters(["a", "b"]))
    assert said.startswith("A generation against B understanding: most different in layer 3, 0.50 against 0.00;")


def test_what_is_counted_otherwise_is_said():
    paper = curve("p", [0.1], "reference")
    assert "paper's curves are counted as figure" in words.describe_definition(Definition.STRICT, [paper])
    assert words.describe_definition(FIGURE, [paper]) == words.DEFINITIONS[FIGURE]


def test_a_score_has_its_interval_and_none_a_dash():
    score = {
        "overall": 0.755,
        "by_kind": {"counting": 0.5},
        "interval": {"overall": [0.72, 0.78], "counting": [0.4, 0.6]},
    }
    assert words.format_score(score, "counting") == "0.50 (0.40 – 0.60)"
    assert words.format_score(score, "colour") == "–" == words.format_score({}, "overall")


# --- figures ---


def overlay(series):
    """The figure as Plotly reads it: an unknown or malformed property raises."""
    return go.Figure(make_overlay_figure(series, words.make_letters([s.source for s in series])))


def test_each_role_is_drawn_in_its_way():
    series = [
        curve("r", [0.5, 0.5], "before"),
        curve("r", [0.4, 0.3], "after"),
        curve("r", [0.6, 0.5], "control"),
        curve("r", [0.4, 0.2], "target", std=np.array([0.2, 0.3])),
        curve("p", [0.2, 0.2], "reference"),
    ]
    lines = {trace.name: trace for trace in overlay(series).data}
    assert list(lines["A “r”, before"].y) == [0.5, 0.5] and lines["A “r”, before"].line.color == "var(--lens-before)"
    assert lines["A “r”, after"].line.color == ACCENT[GEN] and lines["A “r”, after"].line.dash is None
    assert lines["A “r”, control"].line.dash == "dash"
    assert lines["A “r”, target"].line.dash == "dot"
    assert lines["B “p”"].line.color == "var(--lens-second)" and lines["B “p”"].line.width < 2
    assert list(lines["±δ"].y) == pytest.approx([0.6, 0.6, 0.5, 0.5, 0, 0, 0.2, 0.2])  # cut off at 0
    assert list(lines["±δ"].x) == pytest.approx([0.5, 1.5, 1.5, 2.5, 2.5, 1.5, 1.5, 0.5])


def test_models_of_different_depth_share_an_axis_of_depth_and_keep_their_layers_for_the_pointer():
    figure = overlay([curve("a", [0.1, 0.2]), curve("b", [0.1, 0.2, 0.3, 0.4])])
    short, long = figure.data
    assert list(short.x) == [0.25, 0.75] and list(long.x) == [0.125, 0.375, 0.625, 0.875]
    assert list(long.customdata) == [1, 2, 3, 4] and "of 4" in long.hovertemplate
    assert figure.layout.xaxis.title.text.startswith("depth")


def test_the_first_thing_of_each_task_has_its_colour_and_the_legend_shows_both():
    series = [A, curve("a", [0.1, 0.2, 0.3], task=UND), B]
    figure = overlay(series)
    assert [t.line.color for t in figure.data] == [ACCENT[GEN], "var(--lens-second)", ACCENT[UND]]
    assert [t.xaxis for t in figure.data] == [None, None, "x2"]
    first, second = legend_of(series, words.make_letters(["a", "b"]))
    assert first.colours == (ACCENT[GEN], ACCENT[UND]) and second.colours == ("var(--lens-second)",)


def test_difference_bars_stand_on_a_symmetric_scale():
    figure = go.Figure(make_difference_figure([match(A, B)], words.make_letters(["a", "b"])))
    [bars] = figure.data
    assert list(bars.x) == [1, 2, 3] and list(bars.y) == pytest.approx([0, -0.12, 0.03])
    low, high = figure.layout.yaxis.range
    assert low == -high and list(figure.layout.yaxis.ticktext) == ["−0.2", "−0.1", "0", "+0.1", "+0.2"]


def test_heads_are_cells_with_layers_across():
    difference = np.array([[0.1, -0.2], [0.0, 0.3], [0.05, 0.0]])  # [L=3, H=2]
    [cells] = go.Figure(make_heads_figure(difference, 0.4, ("A", "B"))).data
    assert np.array(cells.z).tolist() == [[0.1, 0.0, 0.05], [-0.2, 0.3, 0.0]]
    assert (cells.zmin, cells.zmax) == (-0.4, 0.4)
    assert cells.colorbar.title.text == "A − B"


@pytest.mark.parametrize(("most", "limit"), [(0.0, 0.02), (0.03, 0.04), (0.1, 0.1), (0.35, 0.4), (0.99, 1.0)])
def test_limits_are_round(most, limit):
    assert round_limit(most) == limit


# --- tables and bundle ---


def test_the_table_leaves_out_columns_that_nothing_fills():
    assert "I − T" not in numbers_card([A, B])
    target = curve("r", [0.4, 0.4, 0.2], "target", std=np.full(3, 0.1))
    card = numbers_card([curve("r", [0.5, 0.4, 0.5], "after"), target])
    assert "0.133" in card and "AIA loss" not in card
    assert scores_card([A, B]) == ""


def test_the_bundle_holds_numbers_arrays_and_words():
    data = comparison_zip([A, B], FIGURE)
    assert data == comparison_zip([A, B], FIGURE)
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert set(archive.namelist()) == {"README.txt", "comparison.json", "arrays.npz"}
    arrays = np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False)
    assert arrays["A_generation_mean"].tolist() == A.mean.tolist() and set(arrays) == {
        "A_generation_mean",
        "B_generation_mean",
    }
    content = json.loads(archive.read("comparison.json"))
    assert content["differences"][0]["difference"] == pytest.approx([0, -0.12, 0.03])
    assert content["sentence"] in archive.read("README.txt").decode()
