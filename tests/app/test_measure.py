"""The Measure tab without a browser: groups of samples, words, figures, cards, requests, the board, endpoints."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest

import app.measure.api
from aia.intensity import Definition, Task
from app.commands.console import chosen_sampling
from app.commands.measuring import find_data
from app.components.dataset import DataFiles
from app.finetune.board import Watch
from app.finetune.request import Requests
from app.measure import views, words
from app.measure.api import MeasureEndpoints
from app.measure.board import CARDS, Board
from app.measure.cards import numbers_card
from app.measure.desk import MeasureDesk
from app.measure.export import curves_csv, plain_report
from app.measure.figures import make_conflict_figure, make_curves_figure
from app.measure.groups import correlate_tasks, length_labels, split_groups, whole_groups
from app.measure.request import MeasureRequests
from app.measure.shelf import EXAMPLES, Shelf
from app.measure.views import Shown, read_shown
from app.rules import ZERO_GPU_MEASURING, Rules
from app.words import describe_hinge
from backend.background.runs import Runs
from backend.comparison import measurement_choice
from backend.interface import UserError
from backend.kept.measurements import Measurements
from backend.measurement import iterate_captures, measure_model
from backend.measuring.config import MOST_SAMPLES, make_config
from backend.measuring.rows import make_row
from backend.measuring.runs import Measures
from backend.models.specs import find_spec
from backend.people.person import asked_by, browser_person
from tests.app.fakes import FakeModel
from tests.backend.library_fakes import ANSWERED, make_report
from tests.backend.zips import asking, picture, write_rows, write_zip

EXAMPLE = "c85a38ecd9268f93"


def part(rows, kinds=None, tokens=None, model="tiny-janus", definition="figure", **rest):
    """One task's part of a report with these intensities."""
    rows = np.array(rows)
    std = rows.std(0, ddof=1) if len(rows) > 1 else np.zeros(rows.shape[1])
    found = {"mean": rows.mean(0).tolist(), "std": std.tolist(), "spread": float(std.mean()), "n": len(rows)}
    found |= {"left_out": [], "definition": definition, "model": model, "sampling": ANSWERED}
    return found | {"intensities": rows.tolist(), "kinds": kinds, "tokens": tokens} | rest


def wrap(tmp_path, name="", **report):
    plain = {"model": "tiny-janus", "seed": 0, "samples": 2, "adapter": None} | report
    return Measurements(tmp_path).wrap(plain, name)


@pytest.fixture
def both(tmp_path):
    """Two samples of each task over three layers; the curves fall and rise."""
    drawn, answered = [[0.6, 0.6], [0.5, 0.3], [0.2, 0.2]], [[0.1, 0.1], [0.2, 0.4], [0.5, 0.5]]
    return wrap(
        tmp_path,
        generation=part([[0.5, 0.3, 0.1], [0.7, 0.5, 0.3]], ["one", "two"], [3, 9], heads=drawn),
        understanding=part([[0.1, 0.2, 0.3], [0.1, 0.4, 0.7]], ["shape", "shape"], [4, 4], heads=answered),
    )


# --- groups ---


def test_all_samples_are_the_reports_own_mean_and_deviation(both):
    drawn, answered = whole_groups(both, 0, "", Definition.FIGURE)
    assert (drawn.task, answered.task, drawn.n) == (Task.GENERATION, Task.UNDERSTANDING, 2)
    np.testing.assert_allclose(drawn.mean, [0.6, 0.4, 0.2])
    np.testing.assert_allclose(answered.std, [0, math.sqrt(0.02), math.sqrt(0.08)])
    assert answered.spread == pytest.approx((math.sqrt(0.02) + math.sqrt(0.08)) / 3)  # the paper's Table 1


def test_parts_are_means_of_their_own_samples(both):
    found = split_groups(both, "", Definition.FIGURE, "kind")
    assert [(one.task.value, one.label, one.n) for one in found] == [
        ("generation", "one", 1),
        ("generation", "two", 1),
        ("understanding", "shape", 2),
    ]
    np.testing.assert_allclose(found[1].mean, [0.7, 0.5, 0.3])
    assert found[1].std is None and found[1].spread is None  # one sample has no deviation
    lengths = split_groups(both, "", Definition.FIGURE, "length")
    assert [one.label for one in lengths] == ["3 tokens", "9 tokens", "4 tokens"]


def test_many_lengths_are_put_into_thirds():
    assert length_labels([4, 4, 7]) == ["4 tokens", "4 tokens", "7 tokens"]
    labels = length_labels([3, 4, 5, 6, 7, 8, 9, 10, 11])
    assert labels == ["3–5 tokens"] * 3 + ["6–8 tokens"] * 3 + ["9–11 tokens"] * 3
    assert length_labels(None) is None and length_labels([]) is None


def test_correlation_needs_both_tasks_by_one_definition(both, tmp_path):
    assert correlate_tasks(both, Definition.FIGURE).r == pytest.approx(-1)
    alone = wrap(tmp_path, generation=part([[0.1, 0.2, 0.3]] * 2))
    assert correlate_tasks(alone, Definition.FIGURE) is None
    mixed = wrap(
        tmp_path,
        generation=part([[0.1, 0.2, 0.3]] * 2),
        understanding=part([[0.1, 0.2, 0.3]] * 2, definition="strict"),
    )
    assert correlate_tasks(mixed, Definition.FIGURE) is None


def test_means_alone_have_a_correlation_without_an_interval(both, tmp_path):
    report = both.report.model_dump(mode="json")
    for task in ("generation", "understanding"):
        report[task] |= {"intensities": [], "kinds": None, "tokens": None}
    found = correlate_tasks(wrap(tmp_path, **report), Definition.FIGURE)
    assert found.r == pytest.approx(-1) and math.isnan(found.low)
    assert "without an interval" in words.describe_conflict(found)


# --- words ---


def test_the_sentence_says_what_the_interval_allows(both):
    found = replace(correlate_tasks(both, Definition.FIGURE), r=-0.5, low=-0.7, high=-0.2)
    assert "r = −0.50 (95 % −0.70 to −0.20, 1,000 resamples)" in words.describe_conflict(found)
    assert "do so less while answering" in words.describe_conflict(found)
    assert "do not settle" in words.describe_conflict(replace(found, high=0.1))
    assert "no conflict" in words.describe_conflict(replace(found, r=0.5, low=0.1, high=0.9))
    assert words.describe_conflict(replace(found, r=math.nan)).startswith("No correlation")


def test_a_sign_that_hangs_on_one_layer_is_said():
    assert describe_hinge(-0.6, np.array([0.7, -0.6, -0.5])) == ("The sign hangs on layer 1: without it r = +0.70.")
    assert describe_hinge(-0.6, np.array([-0.1, -0.6])) == ""
    assert describe_hinge(0.6, np.array([0.2, -0.1])).endswith("layer 2: without it r = −0.10.")
    assert describe_hinge(math.nan, np.array([0.1])) == describe_hinge(0.1, np.array([math.nan])) == ""


# --- figures ---


def test_curves_have_the_tasks_colours_and_bands_of_one_deviation(both):
    figure = make_curves_figure(whole_groups(both, 0, "", Definition.FIGURE))
    bands, lines = figure["data"][:2], figure["data"][2:]
    assert [line["line"]["color"] for line in lines] == ["var(--lens-gen)", "var(--lens-und)"]
    assert lines[0]["y"] == pytest.approx([0.6, 0.4, 0.2])
    assert bands[0]["y"][:3] == pytest.approx([0.6 + 0.141421, 0.4 + 0.141421, 0.2 + 0.141421])
    assert all(trace.get("xaxis", "x") == "x" for trace in figure["data"])  # both tasks in one plot


def test_several_measurements_stand_in_a_plot_per_task_in_their_own_colours(both):
    groups = [*whole_groups(both, 0, "A a", Definition.FIGURE), *whole_groups(both, 1, "B b", Definition.FIGURE)]
    lines = [trace for trace in make_curves_figure(groups)["data"] if trace["mode"] == "lines+markers"]
    assert [(line["name"], line.get("xaxis", "x"), line["line"]["color"]) for line in lines] == [
        ("A a", "x", "var(--lens-gen)"),
        ("B b", "x", "var(--lens-second)"),
        ("A a", "x2", "var(--lens-und)"),
        ("B b", "x2", "var(--lens-second)"),
    ]


def test_models_of_different_depth_stand_at_their_depth(both, tmp_path):
    other = wrap(tmp_path, generation=part([[0.1, 0.2]] * 2))
    groups = [*whole_groups(both, 0, "A", Definition.FIGURE), *whole_groups(other, 1, "B", Definition.FIGURE)]
    lines = [trace for trace in make_curves_figure(groups)["data"] if trace["mode"] == "lines+markers"]
    assert lines[1]["x"] == [0.25, 0.75] and lines[0]["x"] == pytest.approx([1 / 6, 0.5, 5 / 6], abs=1e-6)


def test_a_point_of_the_conflict_is_a_layer_coloured_by_its_depth():
    _, points = make_conflict_figure(np.array([0.6, 0.4]), np.array([0.1, 0.3]))["data"]
    assert (points["x"], points["y"], points["text"]) == ([0.6, 0.4], [0.1, 0.3], ["1", "2"])
    assert points["marker"]["color"] == [1, 2] and "colorbar" in points["marker"]


# --- cards and files ---


def test_numbers_give_spread_and_escape_names(both):
    card = numbers_card([("<b>", both), ("plain", both)], Shown())
    assert "<td>0.141</td>" in card and "<b>" not in card and "A &lt;b&gt;" in card
    assert "<td>−1.00</td>" in card  # r of each
    parts = numbers_card([("x", both)], Shown(split="kind"))
    assert "<td>one</td>" in parts and "<td>–</td>" in parts


def test_the_csv_has_a_row_for_each_layer_of_each_curve(both):
    rows = list(csv.reader(io.StringIO(curves_csv(split_groups(both, "=1+1", Definition.FIGURE, "kind")))))
    assert rows[1] == ["'=1+1", "generation", "figure", "one", "1", "1", "0.500000", ""]
    assert len(rows) == 1 + 3 * 3


def test_a_report_says_what_the_command_line_writes(tmp_path):
    report = measure_model(FakeModel(), (Task.GENERATION,), 3, 0)
    plain = plain_report(Measurements(tmp_path).wrap({"adapter": None, **report}))
    assert plain["generation"] == json.loads(json.dumps(report["generation"]))
    assert plain["understanding"] is None and plain["correlation"] is None and "data" not in plain


def test_the_example_is_a_measurement_of_the_weights_that_are_here():
    (example,) = Measurements(EXAMPLES).list()
    report = example.document.report
    assert (example.id, report.model, report.samples) == (EXAMPLE, "tiny-janus", 100)
    assert report.correlation.resamples == 1000 and report.correlation.high < 0


def test_one_task_or_an_old_report_has_no_conflict_and_says_so(tmp_path):
    old = Measurements(tmp_path).wrap(make_report())
    entry = Shelf(Measures(tmp_path / "m"), Measurements(tmp_path / "k")).entries()[0]
    view = views.curves_view(entry, [("old", old)], Shown(split="kind"))
    assert "older measurements did not note them" in view.sentence
    assert "knows strict alone" in view.explanation
    assert views.conflict_view(entry, old, Shown()) is None and views.heads_view(entry, old, Shown(), {}) is None


def test_heads_are_ranked_by_how_far_apart_they_stand(both, tmp_path):
    entry = Shelf(Measures(tmp_path / "m"), Measurements(tmp_path / "k")).entries()[0]
    view = views.heads_view(entry, both, Shown(), {"generation": "c" * 24})
    plain = view.plain()
    assert plain["rows"][0] == [0, 0] and view.rows[0].disagreement < 0  # looks across to draw, not to answer
    assert plain["map"]["rows"] == 2 and plain["map"]["columns"] == 3 and plain["note"] == ""
    assert plain["tasks"]["generation"][:3] == [0.6, 0.5, 0.2]  # head 1 over layers
    np.testing.assert_allclose(plain["map"]["values"], [-0.8, -0.2, 0.8, -0.8, 0.2, 0.8])  # ranks, ties by half
    assert "stands high to draw and low to answer" in plain["sentence"]
    alike = both.model_copy(update={"report": both.report.model_copy(update={"understanding": both.report.generation})})
    assert views.heads_view(entry, alike, Shown(), {}).sentence == words.HEADS_FLAT


# --- what a page asks for ---


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (("strict", "kind", ["a", "b"]), Shown(Definition.STRICT, "kind", ("a", "b"))),
        (("x", None, "a,a,b,c,d"), Shown(others=("a", "b", "c"))),
        ((None, {}, 7), Shown()),
    ],
)
def test_whatever_a_page_sends_is_read(sent, wanted):
    assert read_shown(*sent) == wanted
    assert read_shown(*(wanted.definition.value, wanted.split, ",".join(wanted.others))) == wanted


@pytest.fixture
def room(tmp_path):
    """Requests, shelf and board over one data folder; nothing is started by itself."""
    runs = Runs(tmp_path / "runs")
    measures = Measures(tmp_path / "measuring", command=lambda folder: ["true"])
    requests = MeasureRequests(measures, Requests(runs, tmp_path))
    return requests, Shelf(measures, Measurements(tmp_path / "measurements"))


def test_settings_become_a_config_and_come_back(room):
    requests, _ = room
    asked = requests.ask({"samples": 7, "task": "generation", "definition": "strict", "seed": 3})
    assert (asked.config.generation, asked.config.understanding, asked.config.seed) == (7, 0, 3)
    again = requests.ask(requests.describe(asked.config)).config
    assert again == asked.config


@pytest.mark.parametrize(("model", "own"), [("tiny-janus", (0.5, 1.5)), ("janus-pro-7b", (1.0, 5.0))])
def test_a_model_draws_in_its_own_way_unless_told(room, model, own):
    requests, _ = room
    drawn = requests.ask({"model": model, "task": "generation"}).config
    assert (drawn.temperature, drawn.guidance) == own
    told = requests.ask({"model": model, "task": "generation", "guidance": 2.0}).config
    assert (told.temperature, told.guidance) == (own[0], 2.0)
    by_command = chosen_sampling(find_spec(model), 3, None, 0.25)
    assert (by_command.seed, by_command.temperature, by_command.guidance) == (3, 0.25, own[1])


def test_a_text_of_ten_thousand_prompts_is_sampled_and_said(room, tmp_path):
    requests, _ = room
    (tmp_path / "p.txt").write_text("".join(f"a star number {i}\n" for i in range(10_000)))
    kept = requests.prompts.take(tmp_path / "p.txt", "p.txt")
    asked = requests.ask({"data": f"prompts:{kept.id}", "samples": 50})
    assert (asked.config.generation, asked.config.understanding) == (50, 0)
    assert asked.notes == (
        "There are no questions in this file: only drawing is measured.",
        "Of 10,000 prompts, 50 are measured.",
    )
    assert requests.describe(asked.config)["data"] == f"prompts:{kept.id}"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"samples": 1}, "at least 2 samples"),
        ({"samples": MOST_SAMPLES + 1}, "at most 5,000 samples"),
        ({"samples": 2.5}, "whole number as number of samples"),
        ({"samples": None}, "Expected a number as number of samples"),
        ({"task": "painting"}, "as task"),
        ({"model": 3}, "Expected text as model"),
        ({"model": "gone"}, "gone"),
        ({"model": "qwen3-vl-2b", "task": "generation"}, "cannot do generation"),
        ({"data": "/etc/passwd"}, "uploaded"),
        ({"data": "prompts:" + "0" * 16}, "id of a file of prompts"),
        ({"adapter": "0" * 16}, "adapter of a finished run"),
        ({"guidance": 99}, "guidance from 1 to 20"),
        ({"temperature": math.nan}, "temperature from 0 to 2"),
        ({"definition": "loose"}, "as definition"),
        ({"images": "/tmp"}, "leave it out"),
    ],
)
def test_bad_settings_are_one_sentence(room, settings, says):
    with pytest.raises(UserError) as caught:
        room[0].ask(settings)
    assert says in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 320


def test_a_model_with_one_task_is_measured_in_that_and_says_so(room):
    asked = room[0].ask({"model": "qwen3-vl-2b"})
    assert asked.config.generation == 0 and "only answering is measured" in asked.notes[0]


def test_the_form_says_how_long_or_why_not(room):
    desk = MeasureDesk(room[0])
    values = ["tiny-janus", "", "both", 100, "world", False, 0, 1.5, 0.5, "full", ""]
    assert "About 42\u00a0s; a rough figure" in desk.on_estimate(*values)
    values[3] = 1
    assert "at least 2 samples" in desk.on_estimate(*values)


def sent(uploads, **files):
    """Files as the field sends them once they are on the server."""
    paths = {kind: {"path": str(uploads / name), "orig_name": name} for kind, name in files.items()}
    return DataFiles(**paths)


def test_a_text_or_images_with_questions_are_taken_chosen_and_told(room, uploads):
    desk = MeasureDesk(room[0])
    (uploads / "p.txt").write_bytes(b"a star\na circle\n\xff\n")
    emptied, data, report, good_only = desk.on_upload(sent(uploads, text="p.txt"))
    assert emptied.message is None and data["value"].startswith("prompts:") and not good_only["visible"]
    assert "2 prompts for drawings; 1 bad line is left out." in report and "not UTF-8 text" in report
    write_rows(uploads / "r.jsonl", [asking("a.png"), asking("a.png"), asking("gone.png")])
    write_zip(uploads / "i.zip", {"a.png": picture()})
    _, data, report, good_only = desk.on_upload(sent(uploads, rows="r.jsonl", images="i.zip"))
    assert good_only["visible"] and "gone.png" in report
    settings = {"data": data["value"], "samples": 100}
    with pytest.raises(UserError, match=r"got 1 bad of 3; correct them, or measure the good rows only"):
        room[0].ask(settings)
    asked = room[0].ask(settings | {"skip_bad_rows": True})
    assert (asked.config.understanding, asked.config.generation) == (2, 0)
    assert "There are 2 questions: all of them are measured." in asked.notes
    assert len(desk.on_lists("tiny-janus")[1]["choices"]) == 3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "got no lines"),
        ("größer".encode("utf-16"), "all bad"),
        (b"only one\n", "a deviation needs 2"),
    ],
)
def test_a_text_that_cannot_be_measured_is_one_sentence(room, uploads, data, says):
    desk = MeasureDesk(room[0])
    (uploads / "p.txt").write_bytes(data)
    files, choice, *_ = desk.on_upload(sent(uploads, text="p.txt"))
    if files.message is None:  # one good line: kept, and refused before a start
        values = ["tiny-janus", "", "both", 100, choice["value"], False, 0, 1.5, 0.5, "full", ""]
        files = DataFiles(message=desk.on_estimate(*values))
    assert says in files.message and "Expected" in files.message


def test_a_file_of_the_servers_is_no_upload(room, uploads):
    files, *_ = MeasureDesk(room[0]).on_upload(DataFiles(text={"path": "/etc/passwd", "orig_name": "p.txt"}))
    assert "Expected an uploaded file" in files.message


def test_a_page_that_may_not_measure_says_so_everywhere(tmp_path):
    rules = Rules(measuring=ZERO_GPU_MEASURING, bringing_in="No files.")
    measures = Measures(tmp_path / "measuring")
    requests = MeasureRequests(measures, Requests(Runs(tmp_path / "runs"), tmp_path, rules=rules))
    with pytest.raises(UserError, match="Measuring is off here"):
        requests.start({"samples": 3})
    with pytest.raises(UserError, match="No files"):
        requests.take_prompts(tmp_path / "p.txt", "p.txt")
    assert "Measuring is off" in MeasureDesk(requests).on_estimate(*["x"] * 11) and measures.list() == []


def test_a_page_asks_for_what_the_command_line_does(room):
    settings = {"model": "tiny-janus", "definition": "strict", "seed": 4, "guidance": 1.5, "temperature": 0.5}
    found = find_data(find_spec("tiny-janus"), None, 6, None, None, None, False, 4)
    assert room[0].ask(settings | {"samples": 6}).config == make_config(**settings, **found)


# --- what the board shows ---


def shown(board, watch=None, look=None):
    """The board's answer by the names of its cards."""
    names = (*CARDS, "partners", "watch", "timer")
    return dict(zip(names, board.show(watch or Watch(), look or Shown()), strict=True))


def test_a_first_visit_sees_the_example(room, engine):
    found = shown(Board(room[1], engine.store))
    assert found["list"].chosen == EXAMPLE and found["card"].label == "example"
    assert "r = −0.79" in found["conflict"].sentence and "hangs on layer 1" in found["conflict"].sentence
    assert found["heads"].note == words.NO_CAPTURE and found["watch"]["run"] == EXAMPLE


def test_what_was_seen_is_not_sent_again(room, engine):
    board = Board(room[1], engine.store)
    first = shown(board)
    told = Watch(EXAMPLE, first["watch"]["seen"])
    again = shown(board, told)
    assert all(set(again[name]) == {"__type__"} for name in (*CARDS, "partners", "watch"))
    other = shown(board, told, Shown(Definition.STRICT))
    assert other["curves"].link.endswith("definition=strict") and set(other["list"]) == {"__type__"}


def test_a_capture_of_the_model_is_where_a_head_is_looked_at(room, engine, answer):
    engine.store.put(answer)
    assert shown(Board(room[1], engine.store))["heads"].captures == {"understanding": answer.id}


def start(requests, samples=3, name=""):
    return requests.start({"samples": samples}, name)


def add_rows(measures, run, count):
    """Rows as the process would write them."""
    sampling = make_config(samples=count, understanding=count, generation=count)
    for task in Task:
        for index, capture in enumerate(iterate_captures(FakeModel(), task, count, 0, sampling.sampling(task))):
            measures.run(run).rows.append(make_row(capture, index, "made"))


def test_a_run_shows_what_it_has_so_far_and_becomes_its_measurement(room, engine):
    requests, shelf = room
    board, run = Board(shelf, engine.store), start(room[0], name="mine")
    waiting = shown(board, Watch(run))
    assert waiting["card"].label == "waiting, no. 1" and waiting["curves"] == {} and waiting["timer"].active
    add_rows(requests.measures, run, 2)
    partly = shown(board, Watch(run))
    assert "Over 2 samples" in partly["curves"].sentence and partly["curves"].link == ""
    report = measure_model(FakeModel(), tuple(Task), 3, 0)
    kept = shelf.kept.save(report, "mine")
    requests.measures.run(run).finish(report, kept)
    done = shown(board, Watch(run))
    assert (done["watch"]["run"], done["card"].name, done["card"].link) == (kept, "mine", f"measure={kept}")
    assert [row.id for row in done["list"].rows] == [kept, EXAMPLE] and not done["timer"].active


def test_a_measurement_that_goes_while_it_is_watched_is_a_sentence(room, engine):
    _, shelf = room
    kept = shelf.kept.save(measure_model(FakeModel(), tuple(Task), 3, 0))
    board = Board(shelf, engine.store)
    before = shown(board, Watch(kept), Shown(others=(EXAMPLE,)))
    assert before["curves"].link == f"measure={kept}&with={EXAMPLE}"
    shelf.delete(shelf.find(kept))
    after = shown(board, Watch(kept, before["watch"]["seen"]), Shown(others=(kept,)))
    assert "there is none" in after["list"].message and after["watch"]["run"] == EXAMPLE
    assert after["curves"].link == f"measure={EXAMPLE}"  # the other one is gone, too
    shelf.undelete(kept)
    assert shelf.find(kept).id == kept


def test_the_example_stays_and_naming_keeps_it(room):
    _, shelf = room
    with pytest.raises(UserError, match="it stays"):
        shelf.delete(shelf.find(EXAMPLE))
    shelf.rename(EXAMPLE, "a start")
    (entry,) = shelf.entries()
    assert (entry.id, entry.name, entry.example) == (EXAMPLE, "a start", False)


def test_what_is_somebody_elses_is_shown_by_its_link_and_kept_as_ones_own(room, engine):
    requests, shelf = room
    board, (ann, ben) = Board(shelf, engine.store), map(browser_person, ("ann", "ben"))
    with asked_by(ann):
        kept = shelf.kept.save(measure_model(FakeModel(), tuple(Task), 3, 0), "ann's")
        run = start(requests)
    with asked_by(ben):
        assert [entry.id for entry in shelf.entries()] == [EXAMPLE]
        seen = shown(board, Watch(kept))
        assert "somebody else" in seen["card"].about and [a.name for a in seen["card"].actions] == ["targets", "keep"]
        assert [row.id for row in seen["list"].rows] == [EXAMPLE]
        assert shown(board, Watch(run))["card"].actions == ()
        for change in (lambda: shelf.rename(kept, "mine"), lambda: shelf.delete(shelf.find(kept))):
            with pytest.raises(UserError, match="somebody else’s"):
                change()
        own = shelf.keep(shelf.find(kept))
        assert own != kept and [entry.id for entry in shelf.entries()] == [own, EXAMPLE]
        mine = shelf.keep(shelf.find(EXAMPLE))
        assert mine != EXAMPLE and {entry.id for entry in shelf.entries()} == {own, mine}


# --- endpoints ---


def test_a_program_starts_watches_cancels_and_reads(room, monkeypatch):
    monkeypatch.setattr(app.measure.api, "answer_or_refuse", lambda work: work())
    requests, shelf = room
    monkeypatch.setattr(requests.measures, "tick", lambda: None)
    endpoints = MeasureEndpoints(requests, shelf)
    started = endpoints.start_measurement({"samples": 3, "model": "tiny-janus"}, "mine")
    run = started["measurement"]
    about = json.loads(json.dumps(endpoints.measurement(run)))
    assert (about["state"], about["steps"], about["config"]["samples"]) == ("queued", 3, 3)
    assert endpoints.cancel_measurement(run)["state"] == "stopped"
    assert endpoints.resume_measurement(run)["state"] == "queued"
    assert [one["id"] for one in endpoints.list_measurements()["measurements"]] == [run, EXAMPLE]
    report = measure_model(FakeModel(), tuple(Task), 3, 0)
    requests.measures.run(run).finish(report, shelf.kept.save(report, "mine"))
    done = json.loads(json.dumps(endpoints.measurement(run)))
    assert done["state"] == "finished" and done["report"]["generation"]["n"] == 3
    for bad in ([], {"samples": 1}, {"data": "/etc"}):
        with pytest.raises(UserError, match=r"^Expected"):
            endpoints.start_measurement(bad)
    with pytest.raises(UserError, match="there is none"):
        endpoints.measurement("0" * 16)


def test_a_name_of_a_measurement_is_what_other_tabs_show(both):
    assert measurement_choice("0" * 16, both).name == "tiny-janus, 2 samples"
