"""OPERATING.md is true: it names every setting and no other, folders and limits as the program has them."""

import re
from pathlib import Path

from app.guard import doors
from app.layout import MOST_SESSIONS
from app.settings import HOSTED, SHOWN, Settings
from backend.finetuning import datasets, image_zips
from backend.kept import archives
from backend.measuring import prompt_files
from backend.pictures import MAX_FILE_BYTES, MAX_PIXELS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "OPERATING.md").read_text()
MIB = 2**20


def variables(text):
    return set(re.findall(r"AIA_LENS_[A-Z_]+", text))


def test_every_setting_is_told_and_no_other():
    read = variables("".join(path.read_text() for room in ("app", "backend") for path in (ROOT / room).rglob("*.py")))
    short = set(re.findall(r'"(ALLOWED_HOSTS|FRAMES)"', (ROOT / "app" / "settings.py").read_text()))
    assert variables(TEXT) == {name for name in read if not name.endswith("_")} | {f"AIA_LENS_{name}" for name in short}


def test_defaults_are_told_as_they_are():
    plain = Settings()
    rows = dict(re.findall(r"^\| `(AIA_LENS_\w+)` \| `([^`]+)`", TEXT, re.M))
    for name in ("store_mib", "uploads_mib", "uploads_per_hour"):
        assert rows[f"AIA_LENS_{name.upper()}"] == str(getattr(plain, name))
    hosted, shown = HOSTED, SHOWN
    assert f"{hosted.queued} waiting, {hosted.runs_a_day} runs a day and {hosted.disk_mib:,} MiB" in TEXT
    assert f"{shown.queued}, {shown.runs_a_day} and {shown.disk_mib} in a demo" in TEXT


def test_limits_are_told_as_they_are():
    told = TEXT.partition("## Limits")[2].partition("## Security")[0]
    for words in (
        f"{MAX_FILE_BYTES // MIB} MiB, {MAX_PIXELS // 10**6} megapixels",
        f"{datasets.MAX_ROWS_BYTES // MIB} MiB, {datasets.MAX_ROWS:,} rows",
        f"{image_zips.MAX_ARCHIVE_BYTES // MIB} MiB, {image_zips.MAX_ENTRIES:,} files, 2 GiB unpacked",
        f"{archives.MAX_IMPORT_BYTES // MIB} MiB, {archives.MAX_MEMBERS} members",
        f"{prompt_files.MAX_FILE_BYTES // MIB} MiB",
        f"{doors.MAX_UPLOAD_BYTES // MIB} MiB, {doors.MAX_JSON_BYTES // MIB} MiB; {doors.IDLE_SECONDS} s",
        f"{MOST_SESSIONS:,}",
    ):
        assert words in told, words
    assert image_zips.MAX_UNPACKED_BYTES == 2 * 2**30


def test_files_that_it_names_exist():
    names = re.findall(r"`((?:app|backend|tests)/[\w/.]+)`", TEXT)
    assert names and [name for name in names if not (ROOT / name).exists()] == []
