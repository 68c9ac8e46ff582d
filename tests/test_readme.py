"""The README doubles as the Space's card: its front matter and its links must be true."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
FRONT = dict(re.findall(r"^(\w+): *(.*)$", README.split("---")[1], re.M))


def test_the_space_runs_the_gradio_that_is_pinned():
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)$", (ROOT / "requirements.txt").read_text(), re.M))
    assert FRONT["sdk"] == "gradio" and FRONT["sdk_version"] == pins["gradio"]
    assert (ROOT / FRONT["app_file"]).is_file()


def test_every_requirement_is_pinned_exactly():
    for name in ("requirements.txt", "tests/requirements.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        assert lines and all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)


def test_every_linked_file_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_file_tree_names_only_what_is_there():
    tree = re.search(r"## How it is built\n\n```\n(.*?)```", README, re.S).group(1)
    room = ""
    for line in tree.splitlines():
        names = re.findall(r"[\w/-]+\.py|[\w-]+/", line.split("  ")[0] if not line.startswith(" ") else line)
        if not line.startswith(" "):
            room = names[0] if names and names[0].endswith("/") else ""
        for name in names:
            assert (ROOT / name).exists() or (ROOT / room / name).exists(), line
