"""`make space`: what is committed goes to the Hub, and nothing else; told to a stand-in for the Hub's command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
STAND_IN = """#!/bin/sh
echo "$@" >> "$TOLD"
if [ "$1" = upload ]; then (cd "$3" && find . -type f | sed "s|^\\./||" | sort) > "$TOLD.files"; fi
exit "${FAILS:-0}"
"""


@pytest.fixture
def make(tmp_path):
    """Runs `make space` with an environment whose only command is the stand-in."""
    command = tmp_path / "venv" / "bin" / "hf"
    command.parent.mkdir(parents=True)
    command.write_text(STAND_IN)
    command.chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()

    def run(*arguments, **variables):
        told = {"TOLD": str(tmp_path / "told"), "TMPDIR": str(tmp_path), **variables}
        line = ["make", f"VENV={tmp_path / 'venv'}", "space", *arguments]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=os.environ | told)

    return run


def test_what_is_committed_is_uploaded_and_nothing_else(make, tmp_path):
    done = make("SPACE=someone/lens")
    assert done.returncode == 0, done.stderr
    created, uploaded = (tmp_path / "told").read_text().splitlines()
    assert created == "repos create someone/lens --type space --sdk gradio --exist-ok"
    assert uploaded.startswith("upload someone/lens ") and " . --type space --delete * " in uploaded
    committed = subprocess.run(["git", "ls-files", "--with-tree=HEAD"], cwd=ROOT, capture_output=True, text=True)
    sent = {*(tmp_path / "told.files").read_text().splitlines()}
    assert {"app.py", "requirements.txt", "README.md", "assets/tiny-janus/config.json"} <= sent
    assert sent <= {*committed.stdout.splitlines()}
    assert not list(tmp_path.glob("tmp.*")), "the export is gone afterwards"


def test_the_hub_s_own_command_takes_these_options():
    hf = Path(sys.executable).parent / "hf"
    for verb, options in (("repos create", ("--type", "--sdk", "--exist-ok")), ("upload", ("--type", "--delete"))):
        told = subprocess.run([hf, *verb.split(), "--help"], capture_output=True, text=True).stdout
        assert all(option in told for option in options), told


def test_without_a_name_it_says_which_is_missing(make, tmp_path):
    done = make()
    assert done.returncode and "make space SPACE=you/aia-lens" in done.stderr
    assert not (tmp_path / "told").exists()


def test_what_the_hub_refuses_fails(make):
    assert make("SPACE=someone/lens", FAILS="1").returncode
