"""The card "Does it matter?": chart and sentences from reports known by hand, and the route that runs knock-outs."""

import csv
import io
import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from aia.intensity import Definition
from aia.knockout import layer_windows
from app.closer.asked import Asked
from app.closer.maps import decode
from app.closer.matters import Found, cut_of, head_settings_of, read_matters, round_up, settings_of, show_matters
from app.closer.matters_route import MATTERS_URL, MattersRoute
from app.components import FOLDER
from backend.interface import Cancelled, Preparing, UserError, Waiting
from backend.kept.knockouts import (
    Control,
    Cut,
    HeadReport,
    KnockoutReport,
    Knockouts,
    Remade,
    Settings,
    Way,
    window_layers,
)
from backend.knockout import Progress
from tests.made_captures import make_answer, make_drawing

DROPS = (0.25, 3.0, 0.5, 0.0)  # per window of 4 layers: the second matters


def make_report(drops=DROPS, tokens=2, all_layers=4.0, control=0.125, fewer=()):
    """All of a window's drop falls on the first token."""
    return KnockoutReport(
        tokens=[f"word{i}" for i in range(1, tokens + 1)],
        keys=6,
        rows=tokens,
        log_probabilities=[-0.1] * tokens,
        drops=[[drop, *[0.0] * (tokens - 1)] for drop in drops],
        all_layers=[all_layers, *[0.0] * (tokens - 1)],
        likeliest=tokens,
        window_likeliest=[tokens if drop < 1 else tokens - 1 for drop in drops],
        all_likeliest=0,
        controls=Control(
            keys_per_row=3.0, others=[[control] * (len(drops) + 1), [0.0] * (len(drops) + 1)], fewer_targets=list(fewer)
        ),
    )


def an_answer(layers=4, rows=3, prompt="matters", curve=(0.1, 0.2, 0.3, 0.4)):
    shares = np.broadcast_to(np.array(curve[:layers], np.float32)[:, None, None], (layers, 2, rows))
    return make_answer(np.ascontiguousarray(shares), prompt=prompt)


def show(capture, report=None, remade=None, heads=None, **values):
    asked = Asked(capture, definition=Definition.STRICT, values=values)
    settings = settings_of(asked, capture)
    keep = head_settings_of(asked, settings).keep
    return show_matters(asked, [Found(capture, settings, report, heads, keep, remade)])


def traces(view):
    return {trace["name"]: trace for trace in view["figure"]["data"]}


# --- what is asked ---


@pytest.mark.parametrize(("layers", "width"), [(1, 1), (4, 1), (8, 2), (8, 3), (30, 6), (5, 5)])
def test_windows_are_those_that_are_knocked_out(layers, width):
    for named, masked in zip(window_layers(layers, width), layer_windows(layers, width), strict=True):
        assert list(named) == masked.nonzero()[:, 0].tolist()


def test_settings_and_windows_come_from_the_address():
    capture = an_answer()
    asked = Asked(capture, values={"width": "3", "way": "any", "draws": "10", "cut": "1"})
    settings = settings_of(asked, capture)
    assert settings == Settings(width=3, way=Way.ANY, draws=10)
    assert cut_of(asked, settings, 4) == Cut(way=Way.ANY, layers=[0, 1])
    assert cut_of(Asked(capture, values={"cut": "all"}), settings, 4).layers == [0, 1, 2, 3]
    assert (
        settings_of(Asked(capture), capture) == Settings(width=1, draws=3)
        and cut_of(Asked(capture), settings, 4) is None
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": "5"}, "Expected 1 to 4 layers in a window, got “5”"),
        ({"width": "0"}, "1 to 4 layers"),
        ({"width": "²"}, "1 to 4 layers"),
        ({"width": "9" * 60}, "1 to 4 layers"),
        ({"draws": "17"}, "Expected 0 to 16 random controls"),
        ({"way": "sideways"}, "Expected the rows direct or any"),
        ({"cut": "5"}, "Expected 1 to 4"),
        ({"alone": "maybe"}, "Expected heads that look or cut"),
        ({"cut": "-1"}, "Expected 1 to 4"),
    ],
)
def test_what_does_not_fit_is_one_sentence(values, words):
    with pytest.raises(UserError, match=words):
        show(an_answer(), **values)


def test_captures_in_which_nothing_can_be_knocked_out_say_so():
    from dataclasses import replace

    silent = replace(an_answer(rows=1), text=" ")
    assert "has no words" in read_matters(Asked(silent))["captures"][0]["empty"]
    one_word = an_answer(rows=1)
    assert read_matters(Asked(one_word))["captures"][0]["empty"] == ""  # a single token can be scored
    blind = replace(an_answer(), cross_positions=np.array([], np.int32))
    assert "nothing of the image to look at" in read_matters(Asked(blind))["captures"][0]["empty"]


# --- what is shown ---


def test_drops_stand_above_the_intensity_on_the_same_layers():
    view = show(an_answer(), make_report())
    drop, looks = traces(view)["without looking at the image"], traces(view)["intensity"]
    assert drop["x"] == looks["x"] == [1, 2, 3, 4]
    assert drop["y"] == [0.25, 3.0, 0.5, 0.0]
    assert looks["y"] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=1e-4)
    assert [about[1] for about in drop["customdata"]] == ["100 %", "50 %", "100 %", "100 %"]
    assert looks["yaxis"] == "y2" and "yaxis" not in drop
    assert traces(view)["random other keys instead"]["y"] == [0.0625] * 4
    layout = view["figure"]["layout"]
    assert layout["yaxis"]["title"]["text"] == "drop of log-probability (nats)"
    assert layout["shapes"][0]["y0"] == 4.0  # all layers at once
    assert layout["annotations"][0]["text"] == "all layers at once: 4.00 (random other keys 0.06)"
    assert view["known"] == [True] and view["passes"] == 0


def test_the_sentence_says_where_it_rests_where_it_looks_and_how_they_go_together():
    says = show(an_answer(), make_report())["sentence"]
    assert (
        "rests most on layer 2: without looking at the image there it becomes 20.1 times less likely, 3.00 nats" in says
    )
    assert "with all layers at once 4.00; random other keys cost 0.06 there" in says
    r = np.corrcoef([0.1, 0.2, 0.3, 0.4], DROPS)[0, 1]
    assert f"It looks most in layer 4; over layers, drop and intensity correlate with r = −{abs(r):.2f}" in says
    assert "No window of layers matters" in show(an_answer(), make_report((0.01, 0.0, 0.0, 0.0)))["sentence"]
    assert "loses 56.60 nats" in show(an_answer(), make_report((56.6, 0.0, 0.0, 0.0)))["sentence"]


def test_nothing_has_no_sign():
    says = show(an_answer(), make_report(control=-0.0001))["sentence"]
    assert "random other keys cost 0.00 there" in says


def test_a_control_that_costs_as_much_is_said_to():
    says = show(an_answer(), make_report(control=7.0))["sentence"]
    assert "but as many random other keys cost 3.50 there, no less" in says


@pytest.mark.parametrize(
    ("nats", "limit"), [(16.31, 17), (7.31, 7.4), (0.123, 0.13), (0.0, 0.01), (4.0, 4.0), (234, 240)]
)
def test_limits_of_the_map_are_short_numbers(nats, limit):
    assert round_up(nats) == limit


def test_all_layers_far_above_the_windows_are_words_at_the_top_not_a_squeezed_chart():
    layout = show(an_answer(), make_report(all_layers=40.0))["figure"]["layout"]
    assert layout["shapes"] == [] and layout["yaxis"]["range"][1] == pytest.approx(3.3)
    assert layout["annotations"][0]["text"].startswith("all layers at once: 40.00 ↑")


def test_before_anything_was_asked_the_intensity_is_there_and_what_to_do():
    view = show(an_answer())
    assert view["known"] == [False] and view["passes"] == 5 * 4
    assert "press Knock out" in view["sentence"]
    assert "without looking at the image" not in traces(view) and "intensity" in traces(view)
    assert view["figure"]["layout"]["annotations"][0]["text"] == "not knocked out yet"
    assert view["tokens"] == [None] and view["remade"] == [None]
    assert any("Attention alone explains nothing" in note for note in view["notes"])


def test_drops_by_token_are_a_map_and_one_token_needs_none():
    found = show(an_answer(), make_report())["tokens"][0]
    np.testing.assert_allclose(decode(found["map"]), [[0.25, 0], [3, 0], [0.5, 0], [0, 0]], atol=1e-4)
    assert found["names"] == ["word1", "word2"]
    assert show(an_answer(), make_report(tokens=1))["tokens"] == [None]


def test_a_chosen_window_is_marked_and_what_was_made_without_it_is_compared():
    view = show(an_answer(), make_report(), Remade(text="word1 word9 word3"), cut="2", width="2")
    shape = view["figure"]["layout"]["shapes"][-1]
    assert (shape["x0"], shape["x1"]) == (1.55, 3.45)
    assert view["windows"][1] == "layers 2–3"
    assert view["remade"][0]["after"] == "word1 word9 word3"
    assert "answers “word1 word9 word3”" in view["remade"][0]["sentence"]
    same = show(an_answer(), make_report(), Remade(text="word1 word2 word3"), cut="2")
    assert same["remade"][0]["sentence"] == "The answer stays, word by word."


def test_a_drawing_made_again_frames_the_patches_that_changed():
    capture = make_drawing(np.full((1, 4, 2, 6), 0.3, np.float32))
    view = show(
        capture, make_report(tokens=6), Remade(picture="AAAA", changed=[True, False, None, True, False, False]), cut="1"
    )
    made = view["remade"][0]
    assert made["changed"] == [0, 3] and made["grid"] == (2, 3)
    assert made["sentence"].startswith("2 of 5 patches come out with another code")
    assert view["tokens"][0]["names"] is None and decode(view["tokens"][0]["map"]).shape == (4, 6)
    assert "without looking at the prompt" in traces(view)


def a_head_report(drops):
    return HeadReport(
        tokens=2,
        log_probability=-0.2,
        drops=drops,
        all_heads=4.0,
        likeliest=2,
        head_likeliest=[[2] * len(row) for row in drops],
    )


def test_the_head_that_gives_back_most_alone_is_named_or_the_one_whose_loss_costs_most():
    report = a_head_report([[4.0, 3.75], [1.0, 4.25], [4.0, 4.0], [3.0, 4.0]])
    found = show(an_answer(), heads=report)["heads"]
    expected = np.array([[0, 0.25], [3, -0.25], [0, 0], [1, 0]]).T  # heads by layers
    np.testing.assert_allclose(decode(found["maps"][0]), expected, atol=1e-4)
    assert (found["maps"][0]["low"], found["maps"][0]["high"]) == (-3, 3) and found["passes"] == 0
    assert found["sentence"].startswith(
        "Alone still looking at the image, head 1 of layer 2 gives back 3.00 of the 4.00 nats"
    )
    assert found["sentence"].endswith("next is 4.1 with 1.00.")
    cut = show(an_answer(), heads=report, alone="cut")["heads"]
    np.testing.assert_allclose(decode(cut["maps"][0])[1, 1], 4.25, atol=1e-4)
    assert "Alone not looking at the image, head 2 of layer 2 costs 4.25" in cut["sentence"]
    none = show(an_answer())["heads"]
    assert none["maps"] == [None] and none["sentence"] == "" and none["passes"] == 9


def test_one_head_of_one_layer_has_no_next():
    capture = make_answer(np.full((1, 1, 2), 0.5, np.float32))
    sentence = show(capture, heads=a_head_report([[1.0]]))["heads"]["sentence"]
    assert "next" not in sentence and "gives back 3.00" in sentence


def test_a_pair_is_in_one_chart_and_says_where_it_differs():
    a, b = an_answer(prompt="a"), an_answer(prompt="b")
    asked = Asked(a, b)
    reports = [make_report(), make_report((0.25, 0.5, 0.5, 0.0))]
    view = show_matters(asked, [Found(c, settings_of(asked, c), r) for c, r in zip((a, b), reports, strict=True)])
    found = traces(view)
    assert found["A: without looking at the image"]["y"][1] == 3.0
    assert found["B: without looking at the image"]["y"][1] == 0.5
    assert found["B: without looking at the image"]["line"]["color"] == "var(--lens-second)"
    assert "They differ most without layer 2: 3.00 in A, 0.50 in B." in view["sentence"]
    rows = list(csv.DictReader(io.StringIO(view["csv"])))
    assert len(rows) == 10 and {row["capture"] for row in rows} == {"“a”, tiny-janus", "“b”, tiny-janus"}


def test_tasks_and_depths_that_cannot_be_compared_are_said_to_be():
    a, drawing = an_answer(), make_drawing(np.full((1, 4, 2, 6), 0.3, np.float32))
    asked = Asked(a, drawing)
    both = [Found(c, settings_of(asked, c), make_report()) for c in (a, drawing)]
    assert "nats are of different things" in show_matters(asked, both)["sentence"]
    short = an_answer(layers=2)
    asked = Asked(a, short)
    reports = [make_report(), make_report((1.0, 0.0))]
    both = [Found(c, Settings(width=1), r) for c, r in zip((a, short), reports, strict=True)]
    assert "A has 4 layers, B 2" in show_matters(asked, both)["sentence"]


def test_the_csv_is_what_the_chart_shows():
    rows = list(csv.DictReader(io.StringIO(show(an_answer(), make_report())["csv"])))
    assert [row["drop"] for row in rows] == ["0.25000", "3.00000", "0.50000", "0.00000", "4.00000"]
    assert [row["window"] for row in rows] == ["layer 1", "layer 2", "layer 3", "layer 4", "all layers"]
    assert rows[1]["control"] == "0.06250" and rows[1]["control_high"] == "0.12500" and rows[4]["intensity"] == ""
    empty = list(csv.DictReader(io.StringIO(show(an_answer())["csv"])))
    assert empty[0]["drop"] == "" and empty[0]["intensity"] != ""


def test_one_layer_and_one_token_are_a_chart():
    capture = make_answer(np.full((1, 1, 1), 0.5, np.float32), (1, 3))
    report = make_report((1.0,), tokens=1)
    view = show(capture, report)
    assert traces(view)["without looking at the image"]["y"] == [1.0]
    assert "rests most on layer 1" in view["sentence"] and json.dumps(view, allow_nan=False)


# --- the route ---


class FakeMatters:
    """Knock-outs from a list of steps; counts its runs."""

    def __init__(self, kept, steps):
        self.kept, self.steps, self.runs = kept, steps, 0
        self.engine = SimpleNamespace(queue=SimpleNamespace(look=lambda: None))

    def knock_out(self, capture, settings, cancel=None):
        self.runs += 1
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            yield step

    def knock_out_heads(self, capture, settings, cancel=None):
        yield Progress(3, 9)
        yield a_head_report([[0.0 if settings.keep else 0.5, 4.0]] * 4)

    def remake(self, capture, cut, cancel=None):
        yield Remade(text="word9")


@pytest.fixture
def ask(engine, tmp_path):
    """Asks the route; → its lines. `ask.matters` is the stand-in."""

    def ask_(*steps, body=None, status=200, **query):
        ask_.matters = FakeMatters(Knockouts(tmp_path / "knockouts"), steps)
        route = MattersRoute(ask_.matters, engine.capture)
        client = TestClient(Starlette(routes=[Route(f"/{MATTERS_URL}", route.respond, methods=["POST"])]))
        answer = client.post(f"/{MATTERS_URL}", content=json.dumps(query) if body is None else body)
        assert answer.status_code == status and answer.headers["cache-control"] == "no-store"
        return [json.loads(line) for line in answer.text.splitlines() if line]

    return ask_


def test_nothing_runs_unless_it_is_asked_to(ask, engine):
    engine.store.put(capture := an_answer())
    assert ask(make_report(), capture=capture.id)[0]["view"]["known"] == [False]
    assert ask.matters.runs == 0
    ask.matters.kept.keep_report(capture.id, Settings(width=1, draws=3), make_report())
    assert ask(capture=capture.id)[0]["view"]["known"] == [True]
    assert ask(make_report(), capture=capture.id, run="knockout")[-1]["view"]["known"] == [True]
    assert ask.matters.runs == 0  # it was kept


def test_a_run_tells_its_stages_and_ends_with_the_view(ask, engine):
    engine.store.put(capture := an_answer())
    steps = [Waiting(2, 12.0), Preparing("loading tiny-janus"), Progress(1, 4), make_report()]
    *stages, last = ask(*steps, capture=capture.id, run="knockout")
    assert [s["stage"] for s in stages] == ["waiting, 2 ahead, about 12 s", "loading tiny-janus", "1 of 4 windows"]
    assert stages[2]["share"] == 0.25 and last["view"]["known"] == [True]
    stage, last = ask(capture=capture.id, run="heads")
    assert stage["stage"] == "3 of 9 heads" and "gives back 4.00" in last["view"]["heads"]["sentence"]
    made = ask(capture=capture.id, run="remake", cut="2")
    assert made[-1]["view"]["remade"][0]["after"] == "word9"


def test_what_ends_a_run_early_is_one_sentence(ask, engine):
    engine.store.put(capture := an_answer())
    gone = UserError("This needs the model once more, and big is not on this machine.")
    assert ask(gone, capture=capture.id, run="knockout") == [{"error": str(gone)}]
    broken = ask(RuntimeError("secret path"), capture=capture.id, run="knockout")
    assert set(broken[0]) == {"error"} and "secret" not in broken[0]["error"]
    assert ask(Cancelled(), capture=capture.id, run="knockout") == []
    assert "is stored here" in ask(capture="f" * 24)[0]["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"?", "reload the page"),
        (b"[" * 100_000, "reload the page"),
        (b"[]", "reload the page"),
        (b'{"capture": 3}', "reload the page"),
        (b'{"run": "everything"}', "Expected to run knockout, heads, remake"),
        (b" " * (2**20 + 1), "shorten it"),
    ],
)
def test_bodies_that_are_no_question_are_refused(ask, body, words):
    found = ask(body=body, status=400)
    assert len(found) == 1 and words in found[0]["error"]


def test_both_of_a_pair_are_run(ask, engine):
    engine.store.put(a := an_answer(prompt="a"))
    engine.store.put(b := an_answer(prompt="b"))
    last = ask(make_report(), capture=a.id, run="knockout", **{"with": b.id})[-1]
    assert last["view"]["known"] == [True, True] and ask.matters.runs == 2


def test_a_page_that_hangs_up_sets_the_flag(engine, tmp_path):
    engine.store.put(capture := an_answer())
    flags = []

    class Waits(FakeMatters):
        def knock_out(self, capture, settings, cancel=None):
            flags.append(cancel)
            yield Progress(0, 4)
            assert cancel.wait(20)
            raise Cancelled

    route = MattersRoute(Waits(Knockouts(tmp_path / "k"), ()), engine.capture)
    import asyncio

    async def hang_up():
        lines = route._work.follow(
            lambda flag: map(str, route.updates({"capture": capture.id, "run": "knockout"}, flag))
        )
        assert "0 of 4 windows" in await anext(lines)
        await lines.aclose()

    asyncio.run(hang_up())
    assert isinstance(flags[0], threading.Event) and flags[0].is_set()


def test_the_script_asks_the_route():
    assert f'fetch("{MATTERS_URL}"' in (FOLDER / "matters.js").read_text()
