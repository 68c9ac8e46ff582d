"""The Fine-tune tab's handlers, over runs that a test sets."""

import gradio as gr
import pytest

from aia.config import TrainingConfig
from app.tune import Finetune
from app.tune_board import Watch, read_watch
from app.tune_form import ADVANCED, MAIN, NAMES, build_config, make_tune_form, read_form
from backend.interface import UserError
from backend.specs import SPECS
from tests.app.run_fakes import FakeRuns, make_status, step_event

LIST, RUN, LAYERS, LOSSES, WATCH, TIMER = range(6)
AIA, CONTROL = "a" * 16, "c" * 16


def make_tab(state="finished", **changes):
    runs = FakeRuns(
        make_status(AIA, state, "aia", CONTROL, step=4, **changes),
        make_status(CONTROL, "finished", "control", AIA, step=4),
    )
    return runs, Finetune(runs, SPECS)


def skipped(value):
    return value == gr.skip()


def values(**changes):
    defaults = TrainingConfig().model_dump(mode="json") | {"steps": 12, "batch_size": 2} | changes
    return [*(defaults[name] for name in NAMES), True, "mine"]


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
    assert (skipped(third[LOSSES]), skipped(third[LAYERS])) == (False, True)


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
    assert "the control moved" in shown[RUN].says
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
    shown = Finetune(FakeRuns(), SPECS).show(Watch())
    assert "Start one" in shown[LIST].empty
    assert shown[RUN] == shown[LAYERS] == shown[LOSSES] == {}
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


def test_what_the_runs_refuse_is_a_sentence_above_the_list():
    _, tab = make_tab("finished")
    shown = tab.on_act({"run": AIA}, event(run=AIA, action="resume"))
    assert "finished; let it be" in shown[LIST].message


@pytest.mark.parametrize("sent", [None, 3, "x", {"run": 3, "seen": 4}, {"seen": {"list": []}}])
def test_whatever_a_page_says_it_has_seen_is_taken(sent):
    _, tab = make_tab()
    assert isinstance(read_watch(sent), Watch)
    assert tab.on_poll(sent)[RUN].id == AIA


def test_the_preview_stretches_targets_and_shows_the_model_as_measured():
    _, tab = make_tab()
    view = tab.on_preview("tiny-janus", "paper-emu3", "training")
    grey = [t["y"] for t in view.figure["data"] if t["name"].endswith("now")]
    assert grey == [[0.2] * 8, [0.6] * 8]
    assert "Grey" in view.sentence
    bare = Finetune(FakeRuns(), SPECS).on_preview("tiny-janus", "paper-emu3", "training")
    assert "Grey" not in bare.sentence


def test_an_estimate_follows_the_form_and_is_silent_while_it_is_wrong():
    _, tab = make_tab()
    assert "earlier run" in tab.on_estimate(*values())
    assert "rough" in tab.on_estimate(*values(method="full"))
    assert tab.on_estimate(*values(steps=None)) == ""


def test_every_setting_but_files_is_on_the_form_with_its_description():
    with gr.Blocks():
        form = make_tune_form(SPECS)
    assert set(NAMES) | {"data", "images", "skip_bad_rows", "format_version", "aia"} == set(TrainingConfig.model_fields)
    assert len(MAIN) + len(ADVANCED) == len(NAMES)
    for name in ADVANCED:
        assert form.fields[name].info == TrainingConfig.model_fields[name].description
    config, control, name = read_form(tuple(field.value for field in form.values))
    assert (config, control, name or "") == (TrainingConfig(), True, "")


@pytest.mark.parametrize(
    "given", [{"data": "/etc/passwd"}, {"images": "/etc"}, {"targets": "../secret.json"}, {"nonsense": 1}]
)
def test_files_of_the_server_and_unknown_settings_are_refused(given):
    with pytest.raises(UserError, match="Expected"):
        build_config(given)
