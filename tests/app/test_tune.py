"""The Fine-tune tab's handlers, over runs that a test sets."""

from pathlib import Path

import gradio as gr
import pytest

from aia.config import TrainingConfig
from app.finetune.board import Watch, read_watch
from app.finetune.form import NAMES
from app.finetune.page import Finetune
from app.finetune.request import Requests
from backend.interface import UserError
from tests.app.run_fakes import FakeRuns, make_status, sampled_event, step_event

LIST, RUN, LAYERS, SAMPLES, LOSSES, WATCH, TIMER = range(7)
FOLDER = Path("/nowhere")  # nothing of these tests is written
AIA, CONTROL = "a" * 16, "c" * 16


def make_tab(state="finished", **changes):
    runs = FakeRuns(
        make_status(AIA, state, "aia", CONTROL, step=4, **changes),
        make_status(CONTROL, "finished", "control", AIA, step=4),
    )
    return runs, Finetune(Requests(runs, FOLDER))


def skipped(value):
    return value == gr.skip()


def values(**changes):
    defaults = TrainingConfig().model_dump(mode="json") | {"steps": 12, "batch_size": 2} | changes
    return [*(defaults[name] for name in NAMES), {}, True, "mine"]


def event(**sent):
    return gr.EventData(None, sent)


def test_a_page_gets_all_cards_and_then_only_what_is_new():
    runs, tab = make_tab("running")
    shown = tab.on_poll({"run": AIA})
    assert [row.id for row in shown[LIST].rows] == [AIA, CONTROL]
    assert shown[RUN].id == AIA
    assert [frame.label for frame in shown[LAYERS].frames] == ["step 0 of 4", "step 2 of 4", "step 4 of 4"]
    again = tab.on_poll(shown[WATCH])
    assert all(map(skipped, again[:TIMER]))
    runs.told[AIA].append(step_event(5, "generation"))
    third = tab.on_poll(shown[WATCH])
    assert [skipped(third[card]) for card in (LAYERS, SAMPLES, LOSSES)] == [True, True, False]
    runs.told[CONTROL].append(sampled_event(6))
    fourth = tab.on_poll(third[WATCH])
    assert [skipped(fourth[card]) for card in (LAYERS, SAMPLES, LOSSES)] == [True, False, True]


@pytest.mark.parametrize(("state", "active"), [("running", True), ("queued", True), ("finished", False)])
def test_a_page_asks_on_only_while_a_run_is_active(state, active):
    _, tab = make_tab(state)
    assert tab.on_poll({})[TIMER].active is active


def test_the_control_is_shown_beside_its_run():
    _, tab = make_tab()
    shown = tab.show(Watch(AIA))
    control = [t for t in shown[LAYERS].figure["data"] if t["name"] == "control"]
    assert control[0]["y"] == pytest.approx([0.3] * 8)
    assert shown[RUN].columns[-1] == "control after"
    assert "the control " in shown[RUN].says
    alone = tab.show(Watch(CONTROL))
    assert "control after" not in alone[RUN].columns


def test_an_unknown_run_is_one_sentence_and_the_newest_is_shown():
    _, tab = make_tab()
    shown = tab.show(Watch("f" * 16))
    assert "there is none" in shown[LIST].message
    assert shown[RUN].id == AIA
    assert "there is none" in tab.on_turn(shown[WATCH])[LIST].message
    assert tab.on_choose(shown[WATCH], event(run=CONTROL))[LIST].message == ""


def test_a_disk_that_refuses_is_a_sentence_and_all_comes_back_after_it(monkeypatch):
    runs, tab = make_tab()
    first = tab.show(Watch(AIA))

    def refuse():
        raise UserError("Expected a folder for runs, got none.")

    monkeypatch.setattr(runs, "list", refuse)
    refused = tab.on_poll(first[WATCH])
    assert refused[LIST].message == "Expected a folder for runs, got none."
    monkeypatch.undo()
    assert not any(map(skipped, tab.on_poll(refused[WATCH])[:TIMER]))


def test_without_runs_the_list_says_how_to_start():
    shown = Finetune(Requests(FakeRuns(), FOLDER)).show(Watch())
    assert "Start one" in shown[LIST].empty
    assert shown[RUN] == shown[LAYERS] == shown[SAMPLES] == shown[LOSSES] == {}
    assert shown[TIMER].active is False


def test_starting_shows_the_new_run_and_sends_the_form_on():
    runs, tab = make_tab()
    message, *shown = tab.on_start({"run": AIA}, *values(lora_rank=4))
    ((config, name, control),) = runs.started
    assert (config.steps, config.lora_rank, name, control) == (12, 4, "mine", True)
    assert message == ""
    assert shown[RUN].id == "b" * 16
    assert shown[TIMER].active is True


@pytest.mark.parametrize(
    ("changes", "names"),
    [({"steps": 0}, "steps"), ({"warmup": None}, "warmup"), ({"batch_size": 1.5}, "batch size")],
)
def test_a_bad_value_is_one_sentence_and_starts_nothing(changes, names):
    runs, tab = make_tab()
    message, *shown = tab.on_start({"run": AIA}, *values(**changes))
    assert names in message
    assert runs.started == []
    assert shown[RUN].id == AIA


def test_cancel_resume_delete_and_undo():
    runs, tab = make_tab("running")
    shown = tab.on_act({"run": AIA}, event(run=AIA, action="cancel"))
    assert [action.name for action in shown[RUN].actions] == ["resume", "delete"]
    shown = tab.on_act(shown[WATCH], event(run=AIA, action="resume"))
    assert runs.status(AIA).state == "queued"
    tab.on_act(shown[WATCH], event(run=AIA, action="cancel"))
    shown = tab.on_act(shown[WATCH], event(run=AIA, action="delete"))
    assert AIA in runs.trash
    assert (shown[LIST].undo, shown[RUN].id) == (AIA, CONTROL)
    shown = tab.on_undo(shown[WATCH], event(run=AIA))
    assert (shown[LIST].undo, shown[RUN].id) == ("", AIA)


def test_a_run_is_renamed_in_its_card_and_its_comparison_offered_at_the_end():
    runs, tab = make_tab()
    shown = tab.on_act({"run": AIA}, event(run=AIA, action="rename", name="better"))
    assert (shown[RUN].name, shown[LIST].rows[0].name, runs.status(AIA).name) == ("better", "better", "better")
    assert [(link.label, link.query) for link in shown[RUN].links] == [
        ("Compare before, after, control", f"compare=run:{AIA}")
    ]
    assert tab.show(Watch(CONTROL))[RUN].links[0].label == "Compare before and after"
    assert make_tab("running")[1].show(Watch(AIA))[RUN].links == ()


def test_what_the_runs_refuse_is_a_sentence_above_the_list():
    _, tab = make_tab("finished")
    shown = tab.on_act({"run": AIA}, event(run=AIA, action="resume"))
    assert "finished; let it be" in shown[LIST].message


@pytest.mark.parametrize("sent", [None, 3, "x", {"run": 3, "seen": 4}, {"seen": {"list": []}}])
def test_whatever_a_page_says_it_has_seen_is_taken(sent):
    _, tab = make_tab()
    assert isinstance(read_watch(sent), Watch)
    assert tab.on_poll(sent)[RUN].id == AIA
