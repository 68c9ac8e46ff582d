"""What Explore offers of finished runs, and how an adapter's id becomes a folder."""

from types import SimpleNamespace

import pytest

from aia.config import make_config
from app.explore.adapters import NONE, adapter_finder, list_adapters
from backend.interface import UserError

ID, OTHER = "a" * 16, "b" * 16


@pytest.fixture
def runs(tmp_path):
    """Two runs of which one has finished, with its adapter."""
    (tmp_path / ID / "adapter").mkdir(parents=True)
    (tmp_path / OTHER / "adapter").mkdir(parents=True)
    statuses = [
        SimpleNamespace(id=OTHER, name="later", role="control", state="running", config=make_config(aia=False)),
        SimpleNamespace(id=ID, name="first", role="aia", state="finished", config=make_config()),
    ]
    return SimpleNamespace(folder=tmp_path, list=lambda everyones=False: statuses)


def test_only_finished_runs_are_offered_after_none(runs):
    assert list_adapters(runs) == [NONE, ("first (AIA, tiny-janus)", ID)]


def test_an_id_becomes_the_adapters_folder(runs, tmp_path):
    assert adapter_finder(runs)(ID) == tmp_path / ID / "adapter"


@pytest.mark.parametrize("adapter_id", [OTHER, "..", "/etc", "", "c" * 16])
def test_any_other_id_is_refused(runs, adapter_id):
    with pytest.raises(UserError, match="found none by that id"):
        adapter_finder(runs)(adapter_id)
