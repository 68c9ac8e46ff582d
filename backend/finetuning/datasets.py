"""Data sets that somebody sent: a file of conversations and a ZIP of its images, checked once and kept by content.

Owns their folder and the report on their rows. A data set never changes, so a run's config can name its files and
`python -m app finetune --data … --images …` gives the page's numbers. Knows neither pages nor runs, nor what makes a
row good (`aia.conversations`) or a ZIP harmless (`backend.finetuning.image_zips`).

    <id>/rows.jsonl    the file as it came (or rows.json)
    <id>/images/       the pictures that good rows name, under the names that they give them
    <id>/about.json    name, time, report
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from aia.conversations import BadRow, DataError, Row, check_conversations, named_pictures
from aia.intensity import Task
from backend.finetuning.image_zips import ImageZip, open_images, safe_path, shorten
from backend.interface import UserError, as_sentence
from backend.people.person import check_mine, is_mine, owner_of_new
from backend.pictures import load_picture

FORMAT_VERSION = 1
MAX_ROWS_BYTES = 64 * 2**20
MAX_ROWS = 200_000
KEPT_BAD_ROWS = 500  # spelled out in the report; all are counted
SPARE_BYTES = 256 * 2**20  # left free on the disk
DRAFT_SECONDS = 86_400  # after which the draft of a server that was killed is removed

_ID = re.compile(r"[0-9a-f]{16}")
_ROWS = ("rows.jsonl", "rows.json")

Progress = Callable[[int, int], object]  # pictures checked, of how many


@dataclass(frozen=True)
class Dataset:
    """What is known of one data set. `rows` are the good ones by task; `bad_rows` the first of `bad`."""

    id: str
    name: str
    created: float
    rows: dict[Task, int]
    bad: int
    bad_rows: tuple[BadRow, ...]
    pictures: int
    size_bytes: int
    owner: str = ""  # a part of the id: equal data of two people are two sets

    @property
    def good(self) -> int:
        return sum(self.rows.values())

    @property
    def total(self) -> int:
        return self.good + self.bad


class Datasets:
    """All data sets in one folder."""

    def __init__(self, folder: Path):
        self.folder = Path(folder).resolve()

    def take(self, rows: Path, images: Path, name: str, progress: Progress = lambda done, of: None) -> Dataset:
        """Check what was sent and keep it; the same content a second time is the same data set.

        `name` is what the user's file was called. Bad rows are kept and told, as long as one row is good.
        Raises `UserError` for files that cannot be used at all, or a disk without room.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_old_drafts()
            draft = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
            try:
                return self._take(draft, rows, images, name, progress)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            raise _say(error) from error

    def list(self) -> list[Dataset]:
        """The data sets of who asks, the newest first."""
        folders = self.folder.iterdir() if self.folder.is_dir() else ()
        found = (_read_about(path) for path in folders if _ID.fullmatch(path.name))
        return sorted((one for one in found if one and is_mine(one.owner)), key=lambda one: (-one.created, one.id))

    def get(self, dataset_id: str) -> Dataset:
        """One data set with its report. Raises `UserError` if there is none of that id, as does `files`."""
        found = _read_about(self.folder / dataset_id) if _ID.fullmatch(dataset_id) else None
        if found is None:
            raise UserError(
                f"Expected the id of a data set, got “{shorten(dataset_id)}”; choose one, or upload it again."
            )
        return found

    def files(self, dataset_id: str) -> tuple[Path, Path]:
        """The file of rows and the folder of images, as a run's config names them."""
        folder = self.folder / self.get(dataset_id).id
        rows = next((folder / name for name in _ROWS if (folder / name).is_file()), None)
        if rows is None:
            raise UserError("Expected the data set's rows on the disk, found none; upload it again.")
        return rows, folder / "images"

    def id_of(self, path: str) -> str | None:
        """The data set that a file belongs to; None for any other file."""
        parent = Path(path).parent
        return parent.name if parent.parent == self.folder and _ID.fullmatch(parent.name) else None

    def delete(self, dataset_id: str) -> None:
        """Remove one for good. Whoever asks has made sure that no run goes on with it."""
        found = self.get(dataset_id)
        check_mine(found.owner, "data set")
        try:
            shutil.rmtree(self.folder / found.id)
        except OSError as error:
            raise _say(error) from error

    # --- taking ---

    def _take(self, draft: Path, rows: Path, images: Path, name: str, progress: Progress) -> Dataset:
        own = draft / ("rows.jsonl" if name.lower().endswith(".jsonl") else "rows.json")
        _copy_rows(rows, own)
        pictures = draft / "images"
        pictures.mkdir()
        names = _named(own)
        with open_images(images) as archive:
            self._unpack(archive, names, pictures)
        good, bad = _check(own, pictures, progress)
        kept = _drop_unused(pictures, good)
        owner = owner_of_new()
        dataset_id = _digest(own, pictures, kept, owner)
        about = Dataset(
            dataset_id,
            shorten(name),
            round(time.time(), 3),
            dict(Counter(row.task for row in good)),
            len(bad),
            tuple(bad[:KEPT_BAD_ROWS]),
            len(kept),
            sum(file.stat().st_size for file in (own, *(pictures / k for k in kept))),
            owner,
        )
        (draft / "about.json").write_text(json.dumps({"format_version": FORMAT_VERSION, **asdict(about)}) + "\n")
        _keep(draft, self.folder / dataset_id)
        return self.get(dataset_id)

    def _unpack(self, archive: ImageZip, names: set[str], pictures: Path) -> None:
        """The pictures that rows name, under these names; whatever else is in the archive stays in it."""
        found = {name: archive.find(name) for name in names}
        wanted = {path: info for name, info in found.items() if info and (path := safe_path(name))}
        if not wanted:
            raise UserError(
                "Expected the images that the rows name, got a ZIP that holds none of them; pack their folder again."
            )
        needed = sum(info.file_size for info in wanted.values()) + SPARE_BYTES
        free = shutil.disk_usage(pictures).free
        if free < needed:
            raise UserError(
                f"Expected {needed / 2**20:,.0f} MiB on the disk for the images, got {free / 2**20:,.0f}; make room."
            )
        for path, info in wanted.items():
            target = pictures / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                archive.unpack(info, target)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # one row's file is another's folder: the second is not found, which its report says

    def _remove_old_drafts(self) -> None:
        for path in self.folder.glob(".part-*"):
            if time.time() - path.stat().st_mtime > DRAFT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def describe_rows(found: Dataset) -> str:
    """ "412 rows: 300 understanding, 110 generation, 2 bad"."""
    parts = [f"{found.rows[task]:,} {task}" for task in (Task.UNDERSTANDING, Task.GENERATION) if found.rows.get(task)]
    parts += [f"{found.bad:,} bad"] if found.bad else []
    return f"{found.total:,} {'row' if found.total == 1 else 'rows'}: {', '.join(parts)}"


def _copy_rows(source: Path, target: Path) -> None:
    size = source.stat().st_size
    if size > MAX_ROWS_BYTES:
        raise UserError(f"Expected rows of at most {MAX_ROWS_BYTES // 2**20} MiB, got {size // 2**20}; split the file.")
    shutil.copyfile(source, target)


def _named(rows: Path) -> set[str]:
    try:
        return named_pictures(rows)
    except DataError as error:
        raise _without_path(error, rows) from error


def _check(rows: Path, pictures: Path, progress: Progress) -> tuple[list[Row], list[BadRow]]:
    """Good and bad rows. Raises `UserError` if none is good, or there are too many."""
    count = sum(1 for path in pictures.rglob("*") if path.is_file())
    done = 0

    def check_picture(path: Path) -> None:
        nonlocal done
        done += 1
        progress(done, count)
        load_picture(path)

    try:
        good, bad = check_conversations(rows, pictures, check_picture)
    except DataError as error:
        raise _without_path(error, rows) from error
    if len(good) + len(bad) > MAX_ROWS:
        raise UserError(f"Expected at most {MAX_ROWS:,} rows, got {len(good) + len(bad):,}; split the file.")
    if not good:
        first = f", all bad (line {bad[0].line}: {bad[0].problem})" if bad else ""
        raise UserError(f"Expected rows of conversations with images, got {len(bad)} rows{first}; correct them.")
    return good, bad


def _drop_unused(pictures: Path, good: list[Row]) -> list[str]:
    """Remove what no good row uses, such as files that are no pictures; → what stays, as relative paths in order."""
    home = pictures.resolve()
    used = {row.picture for row in good}
    for path in [path for path in home.rglob("*") if path.is_file()]:
        if path not in used:
            path.unlink()
    return sorted(str(path.relative_to(home)) for path in used)


def _digest(rows: Path, pictures: Path, kept: list[str], owner: str) -> str:
    digest = hashlib.sha256(f"{FORMAT_VERSION} {rows.name}\n{owner}".encode())
    for path in (rows, *(pictures / name for name in kept)):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(rows.parent)}\n".encode())
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _keep(draft: Path, final: Path) -> None:
    """Make the draft the data set; where the same content is there already, only what is told of it is new."""
    try:
        draft.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        (draft / "about.json").replace(final / "about.json")


def _read_about(folder: Path) -> Dataset | None:
    """None for a folder that is gone or damaged."""
    try:
        about = json.loads((folder / "about.json").read_text())
        if about.pop("format_version") != FORMAT_VERSION or about["id"] != folder.name:
            return None
        about["rows"] = {Task(task): int(count) for task, count in about["rows"].items()}
        about["bad_rows"] = tuple(BadRow(int(line), str(problem)) for line, problem in about["bad_rows"])
        return Dataset(**about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _without_path(error: DataError, path: Path) -> UserError:
    """The same sentence about "the file", since a page shows it."""
    text = str(error).replace(f" in {path}", "").replace(str(path), "this file")
    return UserError(as_sentence(text))


def _say(error: OSError) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError("Expected room on the disk for the data, got a full one; free some space, then try again.")
    reason = (error.strerror or "the disk refused").lower()
    return UserError(f"Expected a folder for data that can be read and written, got “{reason}”; check its permissions.")
