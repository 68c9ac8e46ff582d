"""The Dockerfile's lines: what it copies exists and is let through, nobody is root, the health check asks what answers.

No image is built here.
"""

import ast
import json
import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "Dockerfile").read_text()
LINES = [line for line in re.sub(r"\\\n\s*", " ", TEXT).splitlines() if line and not line.startswith("#")]
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def of(instruction):
    """The arguments of every such instruction, in order."""
    return [line.split(maxsplit=1)[1] for line in LINES if line.split()[0] == instruction]


def sent(path):
    """Whether a path reaches the builder: the last pattern that fits decides."""
    kept = True
    for pattern in IGNORED:
        bare = pattern.removeprefix("!")
        if fnmatch(path, bare) or path.startswith(bare + "/") or (bare.startswith("**/") and fnmatch(path, bare[1:])):
            kept = pattern.startswith("!")
    return kept


def test_everything_that_is_copied_exists_and_is_sent():
    sources = [source for line in of("COPY") for source in line.split()[:-1]]
    assert set(sources) >= {"requirements.txt", "app.py", "aia", "app", "backend", "assets"}
    assert [source for source in sources if not (ROOT / source).exists() or not sent(source)] == []


def test_what_is_not_needed_is_not_sent():
    unwanted = (
        ".git",
        ".venv",
        "tests",
        "tests/conftest.py",
        "data",
        ".ci",
        "app/__pycache__",
        "assets/screenshots/a.png",
    )
    assert [path for path in unwanted if sent(path)] == []
    assert sent("assets/tiny-janus/model.safetensors")


def test_it_starts_as_everywhere_and_not_as_root():
    assert json.loads(of("CMD")[-1]) == ["python", "app.py"]
    user = LINES.index("USER lens")
    assert user < LINES.index(f"CMD {of('CMD')[-1]}") and not any(line.startswith("USER root") for line in LINES)
    assert not any(line.startswith("COPY") for line in LINES[user:]), "the program belongs to root, who never runs it"


def test_its_python_is_the_spaces():
    wanted = re.search(r'python_version: "(.+)"', (ROOT / "README.md").read_text()).group(1)
    assert of("FROM") == [f"python:{wanted}-slim"]


def test_its_variables_are_settings_and_its_data_are_on_the_volume():
    variables = dict(pair.split("=", 1) for line in of("ENV") for pair in line.split())
    settings = (ROOT / "app" / "settings.py").read_text() + (
        ROOT / "backend" / "models" / "added_models.py"
    ).read_text()
    assert all(name in settings for name in variables if name.startswith("AIA_LENS_"))
    assert of("VOLUME") == ["/data"]
    assert variables["AIA_LENS_DATA"].startswith("/data/") and variables["HF_HOME"].startswith("/data/")
    assert of("EXPOSE") == [variables["AIA_LENS_PORT"]]


def test_the_health_check_is_a_program_that_asks_for_health():
    command = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[:2] == ["python", "-c"] and "/healthz" in command[2]
    ast.parse(command[2])


def test_secrets_are_not_built_in():
    assert not re.search(r"(TOKEN|SECRET|PASSWORD)", TEXT)
