from dataclasses import replace

import pytest

from app.finetune import run_words as words
from app.finetune.run_record import RunRecord, Timings, make_record
from tests.app.run_fakes import make_status, measured_event, scored_event, step_event, whole_run


def test_the_outcome_says_distances_scores_and_what_cannot_be_told_apart():
    said = words.describe_outcome(make_record(whole_run(0.03)), make_record(whole_run(-0.004)), 4)
    assert "Generation moved 0.03 closer to its targets; the control did not move." in said
    assert "generation score went from 0.50 to 0.55, less than the intervals can tell apart; the control's is" in said
    assert "understanding score went from 0.90 to 0.70; the control's is 0.70, which cannot be told apart" in said


def test_a_score_that_is_the_same_stayed():
    same = [e | {"scores": scored_event(0, 0.5, 0.5)["scores"]} if e["event"] == "scored" else e for e in whole_run()]
    said = words.describe_outcome(make_record(same), RunRecord(), 4)
    assert said.endswith("Its generation score stayed at 0.50. Its understanding score stayed at 0.50.")


def test_without_a_control_or_an_end_nothing_is_said_of_them():
    whole = whole_run()
    assert "control" not in words.describe_outcome(make_record(whole), RunRecord(), 4)
    assert words.describe_outcome(make_record(whole[:8]), RunRecord(), 4) == ""
    unscored = [event for event in whole if event["event"] != "scored"]
    assert "score" not in words.describe_outcome(make_record(unscored), RunRecord(), 4)


def test_intervals_that_meet_are_not_told_apart():
    a, b = (scored_event(0, rate, 0)["scores"]["generation"] for rate in (0.5, 0.6))
    assert not words.differ(a, b)
    assert words.differ(a, scored_event(0, 0.61, 0)["scores"]["generation"])


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (42, "42 s"), (300, "5 min"), (7_500, "2 h 5 min"), (89.7, "90 s")]
)
def test_durations_are_as_fine_as_a_person_waits(seconds, said):
    assert words.format_duration(seconds).replace("\u00a0", " ") == said


def test_progress_names_the_phase_until_there_are_steps():
    run = make_status(step=0)
    scoring = make_record([{"event": "started"}, {"event": "scoring", "step": 0}])
    assert "scoring" in words.describe_progress(run, scoring)
    moving = make_record([step_event(1, "generation", 0.5)])
    facts = words.describe_progress(replace(run, step=1, remaining_seconds=95.0), moving).replace("\u00a0", " ")
    assert facts == "step 1 of 4 · 0.5 s per step · 2 min left, without scoring · 3.0 MiB"
    assert "left" not in words.describe_progress(replace(run, state="finished", remaining_seconds=None), moving)


def test_names_states_and_settings():
    run = make_status(state="queued", place=2)
    assert words.describe_state(run) == "waiting, no. 2"
    assert run.title == "tiny-janus, 4 steps"
    assert replace(run, name="mine").title == "mine"
    assert replace(run, config=None).title == "a damaged run"
    assert words.describe_settings(make_status(role="aia")).endswith("4 × 2 samples · λ 40 / 40")
    assert "λ" not in words.describe_settings(make_status(role="control"))


def test_the_disagreement_on_lambda_is_one_sentence_with_both_numbers():
    said = words.describe_lambda()
    assert said.count(".") == 1
    assert all(number in said for number in ("40", "5", "10"))


def test_an_estimate_says_how_it_is_known():
    assert "rough" in words.describe_estimate(100, Timings(1, 1, 1, measured=False), control=True)
    measured = words.describe_estimate(100, Timings(1, 1, 1, measured=True), control=False)
    assert "earlier run" in measured
    assert "control" not in measured


def test_a_frame_names_its_step_and_distances():
    assert words.describe_frame(measured_event(2, 0, 0.125)) == (
        "Step 2: mean distance to the targets generation 0.125, understanding 0.125."
    )
