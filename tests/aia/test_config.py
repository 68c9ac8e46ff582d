"""Settings of a run: ranges, one-sentence refusals, and what a checkpoint depends on."""

import json

import pytest

from aia.config import TrainingConfig, make_config
from aia.intensity import Task
from aia.loss import LOSS_WEIGHTS, LossWeights


def test_the_defaults_are_the_papers_where_it_says():
    config = make_config()
    assert config.weights == LOSS_WEIGHTS["paper"]
    assert (config.adam_beta1, config.adam_beta2, config.weight_decay, config.adam_epsilon) == (0.9, 0.95, 0.05, 1e-6)
    assert (config.clip_norm, config.schedule, config.prompt_drop) == (1.0, "cosine", 0.1)
    assert config.share(Task.GENERATION) == config.share(Task.UNDERSTANDING) == 0.5


def test_a_control_run_has_no_weight_whatever_was_set():
    assert make_config(aia=False, aia_weight_generation=7).weights == LossWeights(0, 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"learning_rate": float("nan")}, "learning rate"),
        ({"learning_rate": float("inf")}, "learning rate"),
        ({"aia_weight_generation": -1}, "aia weight generation"),
        ({"method": "magic"}, "method"),
        ({"prompt_drop": 1.5}, "prompt drop"),
        ({"seed": -1}, "seed"),
        ({"stepps": 3}, "stepps"),
        ({"ratio_generation": 0, "ratio_understanding": 0}, "at least one task"),
        ({"batch_size": 4, "accumulation": 3}, "choose a multiple of 3, or accumulation 1"),
        ({"format_version": 9}, "format version"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(settings, words):
    with pytest.raises(ValueError, match=r"^expected") as caught:
        make_config(**settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_cannot_be_changed_once_made():
    with pytest.raises(ValueError, match="frozen"):
        make_config().steps = 3


def test_a_config_survives_json():
    config = make_config(learning_rate=1 / 3, targets="x.json")
    assert make_config(**json.loads(config.model_dump_json())) == config


def test_how_often_is_measured_and_saved_changes_no_weights_and_all_else_does():
    base = make_config().what_training_depends_on()
    assert make_config(checkpoint_every=1, probe_every=1, score_samples=0).what_training_depends_on() == base
    assert make_config(learning_rate=3e-4).what_training_depends_on() != base
    assert make_config(steps=101).what_training_depends_on() != base


def test_every_setting_explains_itself():
    for name, field in TrainingConfig.model_fields.items():
        assert field.description and field.description[-1] in ".…", name
