"""Precision against precision: the same tokens, and what is told of the differences."""

import numpy as np
import pytest

from aia.intensity import Task
from backend.families import load_model
from backend.fidelity import Reading, check_fidelity, compare_readings
from backend.interface import UserError
from backend.models.specs import SPECS, Precision


def test_quantised_models_read_the_same_tokens_almost_alike():
    loaded = []

    def load(precision):
        loaded.append(precision)
        return load_model(SPECS[0], precision=precision)

    report = check_fidelity(load, list(Precision), tuple(Task), samples=3, seed=0)
    assert loaded == list(Precision) and report["reference"] == "float32"
    for task in Task:
        part = report[task.value]
        int8, nf4 = (max(part[p]["largest_difference"]) for p in ("int8", "nf4"))
        assert 0 < int8 < nf4 < 0.1
        assert part["loss"]["int8"] == pytest.approx(part["loss"]["float32"], rel=0.03)
    weights = report["weights_mib"]
    assert weights["nf4"] < weights["int8"] < weights["float32"]
    assert report["equal_answers"]["int8"] == 1


def reading(precision, curves, answers):
    return Reading(precision, 1.0, {Task.UNDERSTANDING: np.array(curves)}, {Task.UNDERSTANDING: 0.5}, answers)


def test_the_largest_difference_is_over_samples_and_the_mean_beside_it():
    first = reading("float32", [[0.1, 0.2], [0.3, 0.4]], ["a", "b"])
    other = reading("nf4", [[0.1, 0.3], [0.2, 0.4]], ["a", "c"])
    report = compare_readings([first, other])
    part = report["understanding"]
    assert part["reference"] == [0.2, 0.3] and part["nf4"]["mean"] == pytest.approx([0.15, 0.35])
    assert part["nf4"]["largest_difference"] == pytest.approx([0.1, 0.1])
    assert part["nf4"]["mean_difference"] == pytest.approx([0.05, 0.05])
    assert report["equal_answers"] == {"nf4": 0.5} and "generation" not in report


@pytest.mark.parametrize("precisions", [[Precision.FULL], [Precision.FULL, Precision.FULL]])
def test_one_precision_alone_is_refused(precisions):
    with pytest.raises(UserError, match="two different precisions"):
        check_fidelity(lambda precision: None, precisions, tuple(Task), samples=3, seed=0)
