"""Settings from the environment: defaults that are safe, a Space that is known, values that are checked."""

from pathlib import Path

import pytest

from app.settings import settings_from_environment
from backend.interface import UserError
from backend.people.limits import Limits


def test_the_default_listens_on_this_machine_only():
    settings = settings_from_environment({})
    assert (settings.host, settings.port) == ("127.0.0.1", 7860)
    assert "localhost" in settings.allowed_hosts


def test_a_space_listens_to_all_and_answers_its_own_name():
    settings = settings_from_environment({"SPACE_HOST": "someone-aia-lens.hf.space"})
    assert settings.host == "0.0.0.0"
    assert {"someone-aia-lens.hf.space", "*"} <= set(settings.allowed_hosts)
    assert "*" not in settings_from_environment({}).allowed_hosts


def test_everything_can_be_set():
    settings = settings_from_environment(
        {
            "AIA_LENS_HOST": "10.0.0.1",
            "AIA_LENS_PORT": "8000",
            "AIA_LENS_DATA": "/tmp/x",
            "AIA_LENS_ALLOWED_HOSTS": "a, b",
        }
    )
    assert (settings.host, settings.port, settings.captures) == ("10.0.0.1", 8000, Path("/tmp/x/captures"))
    assert settings.allowed_hosts[-2:] == ("a", "b")


@pytest.mark.parametrize("port", ["zero", "0", "70000", "-1", "1.5"])
def test_a_port_that_is_none_is_refused_by_name(port):
    with pytest.raises(UserError, match="AIA_LENS_PORT"):
        settings_from_environment({"AIA_LENS_PORT": port})


@pytest.mark.parametrize(
    ("environment", "apart"),
    [
        ({}, False),
        ({"AIA_LENS_HOST": "0.0.0.0"}, True),
        ({"AIA_LENS_HOST": "0.0.0.0", "AIA_LENS_PEOPLE": "one"}, False),
        ({"AIA_LENS_PEOPLE": "many"}, True),
        ({"AIA_LENS_AUTH": "users.txt", "AIA_LENS_PEOPLE": "one"}, True),
        ({"SPACE_HOST": "someone-aia-lens.hf.space"}, True),
        ({"AIA_LENS_DEMO": "1"}, True),
    ],
)
def test_people_are_told_apart_wherever_several_can_come(environment, apart):
    assert settings_from_environment(environment).apart == apart


def test_each_person_may_take_what_suits_the_page_unless_told_otherwise():
    def limits(**environment):
        return settings_from_environment(environment).limits

    assert limits() == Limits()
    assert limits(AIA_LENS_PEOPLE="many") == Limits(queued=8, runs_a_day=20, disk_mib=2048)
    assert limits(AIA_LENS_DEMO="1", AIA_LENS_RUNS_A_DAY="1") == Limits(queued=4, runs_a_day=1, disk_mib=256)
    assert limits(AIA_LENS_QUEUED="3") == Limits(queued=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("AIA_LENS_PEOPLE", "few"), ("AIA_LENS_DEMO", "yes"), ("AIA_LENS_TUNING", "some"), ("AIA_LENS_QUEUED", "0")],
)
def test_what_is_no_value_of_its_kind_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=name):
        settings_from_environment({name: value})


def test_signing_in_needs_all_that_a_space_with_oauth_sets():
    names = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL", "SPACE_ID", "SPACE_HOST")
    space = dict.fromkeys(names, "x")
    assert settings_from_environment(space).oauth
    for name in names:
        assert not settings_from_environment({**space, name: ""}).oauth
