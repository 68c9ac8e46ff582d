"""What Explore offers of finished runs, and how an adapter's id becomes a folder."""

import re
from types import SimpleNamespace

import pytest

from app.explore.adapters import NONE, adapter_finder, list_adapters
from backend.interface import UserError
from tests.app.run_fakes import make_status

ID, OTHER = "a" * 16, "b" * 16


@pytest.fixture
def runs(tmp_path):
    """Two runs of which one has finished, with its adapter."""
    (tmp_path / ID / "adapter").mkdir(parents=True)
    (tmp_path / OTHER / "adapter").mkdir(parents=True)
    statuses = [
        make_status(OTHER, "running", "control", name="later"),
        make_status(ID, "finished", "aia", name="first"),
    ]
    return SimpleNamespace(folder=tmp_path, list=lambda everyones=False: statuses)


def test_only_finished_runs_are_offered_after_none(runs):
    assert list_adapters(runs) == [NONE, ("first (AIA, tiny-janus)", ID)]


def test_one_without_a_name_is_told_from_others_by_its_time(runs):
    runs.list = lambda everyones=False: [make_status(ID, "finished", "control")]
    (_, (name, _)) = list_adapters(runs)
    assert re.fullmatch(r"tiny-janus, 4 steps \(control, \d\d \w{3}, \d\d:\d\d\)", name)


def test_an_id_becomes_the_adapters_folder(runs, tmp_path):
    assert adapter_finder(runs)(ID) == tmp_path / ID / "adapter"


@pytest.mark.parametrize("adapter_id", [OTHER, "..", "/etc", "", "c" * 16])
def test_any_other_id_is_refused(runs, adapter_id):
    with pytest.raises(UserError, match="found none by that id"):
        adapter_finder(runs)(adapter_id)
