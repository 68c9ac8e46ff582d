"""A run that asks a model for what it cannot do is refused before it is queued."""

import pytest

from app.finetune.request import Requests
from backend.interface import UserError


class NoRuns:
    """Runs of which none is there and none may be started."""

    def start(self, config, name, control):
        raise AssertionError("a run was queued")


def test_drawings_of_a_model_that_only_answers_are_refused_before_a_run_is_queued(tmp_path):
    requests = Requests(NoRuns(), tmp_path)
    with pytest.raises(UserError, match=r"^Expected ratio_generation 0, as Qwen3-VL 2B cannot do generation"):
        requests.start({"model": "qwen3-vl-2b"}, "", False)
