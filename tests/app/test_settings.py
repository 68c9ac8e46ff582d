"""Settings from the environment: defaults that are safe, a Space that is known, values that are checked."""

from pathlib import Path

import pytest

from app.settings import settings_from_environment
from backend.interface import UserError


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
