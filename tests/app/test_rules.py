"""What settings and machine allow, and the sentence that says why not."""

import pytest

from app.rules import ALL, rules_of
from app.settings import Settings
from backend.interface import UserError
from backend.models.specs import find_spec

TINY, LARGE = find_spec("tiny-janus"), find_spec("janus-pro-1b")


@pytest.mark.parametrize(
    ("settings", "gpu", "tiny", "large"),
    [
        ({}, False, "", ""),
        ({"space": True}, True, "", ""),
        ({"space": True}, False, "", "has no GPU"),
        ({"space": True, "zero_gpu": True}, False, "ZeroGPU", "ZeroGPU"),
        ({"demo": True}, True, "", "only models that come with the program"),
        ({"demo": True, "may_tune": "all"}, True, "", ""),
        ({"demo": True, "may_tune": "off"}, True, "off on this page", "off on this page"),
        ({"may_tune": "tiny"}, True, "", "only models that come with the program"),
    ],
)
def test_what_may_be_fine_tuned(settings, gpu, tiny, large):
    rules = rules_of(Settings(**settings), gpu)
    for spec, says in ((TINY, tiny), (LARGE, large)):
        if not says:
            rules.check_tuning(spec)
            continue
        with pytest.raises(UserError, match=says):
            rules.check_tuning(spec)


def test_a_laptop_allows_everything():
    assert rules_of(Settings(), False) == ALL


def test_a_demo_takes_nothing_in_and_whoever_shares_a_model_does_not_unload_it():
    assert "takes in no files" in rules_of(Settings(demo=True), True).bringing_in
    assert rules_of(Settings(people="many"), True).unloading and not rules_of(Settings(people="many"), True).bringing_in
