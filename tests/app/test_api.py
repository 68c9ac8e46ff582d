import pytest

import app.api
from app.api import Endpoints
from backend.interface import UserError


@pytest.fixture
def endpoints(engine, monkeypatch):
    monkeypatch.setattr(app.api, "answer_or_refuse", lambda work: work())
    return Endpoints(engine)


@pytest.mark.parametrize("seed", [1.5, float("nan"), float("inf"), "1", None, True])
def test_a_seed_that_is_no_whole_number_is_refused(endpoints, seed):
    with pytest.raises(UserError, match="number as seed"):
        endpoints.generate("tiny-janus", "a red circle", seed)


def test_a_whole_number_with_a_point_is_one(endpoints):
    drawing = endpoints.generate("tiny-janus", "a red circle", 2.0)
    assert drawing["sampling"]["seed"] == 2
    assert endpoints.capture(drawing["capture_id"])["image"] == drawing["image"]
