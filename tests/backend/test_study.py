"""The controlled study on a small scale: every run once, shared between processes, summed up over seeds."""

import json
import subprocess
import sys

import numpy as np
import pytest

from backend.finetuning import study as room
from backend.finetuning.finetune import RunFolder
from backend.finetuning.study import ARMS, EXPERTS, START, Study, against, numbers_of, over_seeds, run_study
from backend.interface import UserError

SMALL = Study(steps=2, batch_size=2, seeds=2, score_samples=4)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A small study of the control and one arm: its folder, its report, and the runs that it told of."""
    work, begun = tmp_path_factory.mktemp("study"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "ARMS", ARMS[:2])
        patch.setattr(Study, "config", smaller(Study.config))
        told = lambda run, event: begun.append(run) if event["event"] == "started" else None  # noqa: E731
        report = run_study(work, SMALL, told)
        again = run_study(work, SMALL, told)
    assert again == report
    return work, report, begun


def smaller(config):
    return lambda self, arm, seed, targets: config(self, arm, seed, targets).model_copy(update={"probe_samples": 4})


def test_each_run_is_done_once_though_the_study_is_called_twice(done):
    names = [arm.name for arm in EXPERTS] + ["without AIA", "with AIA"]
    assert sorted(done[2]) == sorted(
        [f"{name}, seed 100" for name in names[:2]] + [f"{name}, seed {seed}" for name in names[2:] for seed in (0, 1)]
    )


def test_an_expert_sees_one_task_only(done):
    for arm, own in zip(EXPERTS, ("understanding", "generation"), strict=True):
        losses = done[1]["experts"][arm.name]["losses"]
        assert all(loss[f"aia_{own}"] is not None for loss in losses)


def test_both_arms_start_alike_and_their_first_step_sees_the_same_samples(done):
    for without, with_aia in zip(*(done[1]["runs"][name] for name in ("without AIA", "with AIA")), strict=True):
        assert without["losses"][0] == with_aia["losses"][0]
        assert without["after"]["intensity"] != with_aia["after"]["intensity"]


def test_targets_are_fitted_to_each_experts_own_task(done):
    work, report, _ = done
    stages = json.loads((work / "targets-layers.json").read_text())
    for arm, task in zip(EXPERTS, ("understanding", "generation"), strict=True):
        curve = report["experts"][arm.name]["after"]["intensity"][task]["training"]["mean"]
        np.testing.assert_allclose([stage["target"] for stage in stages[task]], curve, atol=1e-5)


def test_the_report_is_plain_json_with_means_over_seeds(done):
    report = json.loads(json.dumps(done[1]))
    values = [numbers_of(run)["understanding distance"] for run in report["runs"]["with AIA"]]
    mean, std = report["over_seeds"]["with AIA"]["understanding distance"]
    assert mean == pytest.approx(np.mean(values), abs=1e-6) and std == pytest.approx(np.std(values, ddof=1), abs=1e-6)


def test_differences_are_taken_seed_by_seed():
    def result(seed, score):
        intensity = {t: {"training": {"mean": [0.1, 0.2, 0.4]}} for t in ("understanding", "generation")}
        distance = {t: {"mean_absolute": 0.1, "aia_loss": 0.01} for t in intensity}
        scores = {t: {"overall": score} for t in intensity}
        return {"seed": seed, "after": {"intensity": intensity, "distance": distance, "scores": scores}}

    found = against([result(0, 0.5), result(1, 0.9)], [result(1, 0.8), result(0, 0.4)])
    assert found["understanding score"] == [pytest.approx(0.1), 0.0]
    assert over_seeds([result(0, 0.5), result(1, 0.9)])["understanding score"] == [0.7, pytest.approx(0.282843)]
    assert found["task correlation"] == [0.0, 0.0]


HOLD = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path):
    run = RunFolder(tmp_path / "run")
    with room._claim(run) as mine:
        assert mine
    command = [sys.executable, "-c", HOLD, str(run.path / ".lock")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with room._claim(run) as mine:
        assert not mine
    other.communicate()
    with room._claim(run) as mine:
        assert mine


def test_another_study_in_the_same_folder_is_refused(done):
    with pytest.raises(UserError, match="choose another work folder"):
        run_study(done[0], Study(steps=3))


def test_the_start_is_half_trained_and_small_enough_to_ship():
    assert START.stat().st_size < 5_000_000
