import pytest

from aia.config import TrainingConfig
from app.finetune.run_record import STEP_OVERHEAD, RunReader, Timings, estimate_seconds, find_timings, make_record
from tests.app.run_fakes import FakeRuns, make_status, sampled_event, step_event, whole_run


def test_a_step_done_again_after_a_resume_counts_once():
    again = step_event(2, "generation") | {"ntp": 0.25}
    record = make_record([step_event(1, "generation"), step_event(2, "generation"), step_event(3, "generation"), again])
    assert [e["step"] for e in record.steps] == [1, 2, 3]
    assert record.steps[1]["ntp"] == 0.25


def test_moments_and_scores_are_found_by_step():
    record = make_record(whole_run())
    assert [m["step"] for m in record.measured] == [0, 2, 4]
    assert record.score(4)["generation"]["overall"] == 0.55
    assert record.score(2) is None
    assert record.measured_at(3) is None
    assert record.last == "finished"


def test_only_what_was_appended_is_read_again():
    run = make_status()
    runs = FakeRuns(run)
    reader = RunReader(runs)
    reader.record(run.id)
    before = runs.reads
    runs.told[run.id].append(step_event(5, "generation"))
    assert len(reader.record(run.id).steps) == 5
    assert runs.reads == before + 1
    assert reader.record(None).steps == ()


def test_an_estimate_adds_steps_probes_and_scores_and_doubles_for_a_control():
    config = TrainingConfig(steps=10, batch_size=2, probe_every=5, probe_samples=3, score_samples=7, sample_count=2)
    timings = Timings(step=1.0, probe=0.1, score=2.0, measured=True, sample=0.5)
    # 10 steps of 2 samples and the overhead; at 0, 5 and 10 curves of 2 tasks × 3 samples and 2 samples drawn and
    # answered; 7 scored twice
    expected = 10 * (2 + STEP_OVERHEAD) * 1.0 + 3 * (2 * 3 * 0.1 + 2 * 0.5) + 2 * 7 * 2.0
    assert estimate_seconds(config, timings, control=False) == pytest.approx(expected)
    assert estimate_seconds(config, timings, control=True) == pytest.approx(2 * expected)
    alone = config.model_copy(update={"aia": False})
    assert estimate_seconds(alone, timings, control=True) == pytest.approx(expected)


def test_timings_of_a_run_are_per_sample_and_fall_back_where_it_says_nothing():
    rough = Timings(9.0, 9.0, 9.0, measured=False, sample=9.0)
    config = TrainingConfig(steps=4, batch_size=2, probe_samples=5, score_samples=8)
    found = find_timings(make_record(whole_run()), config, rough)
    assert found.measured
    assert found.step == pytest.approx(0.5 / (2 + STEP_OVERHEAD))
    assert found.score == pytest.approx((8.0 - 4.0) / 8)
    assert found.sample == 9.0  # the fakes' samples took no time
    slow = [*whole_run(), step_event(5, "generation") | {"time": 20.0}, sampled_event(5) | {"time": 26.0}]
    assert find_timings(make_record(slow), config, rough).sample == pytest.approx(6.0 / 3)
    assert find_timings(make_record([{"event": "started"}]), config, rough) == rough


def test_samples_are_found_by_step_and_one_taken_again_counts_once():
    record = make_record([*whole_run(), sampled_event(2, drawn=True)])
    assert list(record.sampled) == [0, 2, 4]
    assert record.sampled_at(2)[0]["right"] is True
    assert record.sampled_at(3) is None
    assert (
        make_record([*whole_run(), {"event": "step"}, {"event": "sampled", "step": "2"}]).sampled
        == make_record(whole_run()).sampled
    )
    assert [item["text"] for item in record.asked] == ["a red star", "how many?"]
