"""A stranger's ZIP of images: looked through before anything of it is unpacked, then entry by entry to paths of ours.

Owns which archives are accepted, and how the names that somebody asks for are found in one. No path of the archive
ever becomes a path on the disk. Knows neither rows nor data sets, nor what an entry holds. (`backend.kept.archives`
reads small files of our own kind into memory.)
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from backend.interface import UserError

MAX_ARCHIVE_BYTES = 256 * 2**20  # as much as the page takes
MAX_UNPACKED_BYTES = 2 * 2**30
MAX_ENTRIES = 50_000
MAX_DIRECTORY_BYTES = 16 * 2**20  # of the list of entries, which is read as a whole
MAX_DEPTH = 12
MAX_RATIO = 200  # a picture of one colour reaches it too, so small entries are not asked
RATIO_FROM_BYTES = 2**20
PIECE_BYTES = 2**20

_END, _END_BYTES, _ZIP64_LOCATOR = b"PK\x05\x06", 22, b"PK\x06\x07"
_LONGEST_COMMENT = 2**16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes just to be opened
_ENCRYPTED = 0x1

Parts = tuple[str, ...]


class ImageZip:
    """An open ZIP that was found harmless. Made by `open_images`."""

    def __init__(self, file: zipfile.ZipFile):
        self._file = file
        self._by_path: dict[Parts, zipfile.ZipInfo] = {}
        self._by_end: dict[Parts, zipfile.ZipInfo | None] = {}  # None: several entries end like this
        for info in file.infolist():
            if not info.is_dir():
                self._note(info, _parts(info.filename))

    def _note(self, info: zipfile.ZipInfo, parts: Parts) -> None:
        if not 1 <= len(parts) <= MAX_DEPTH:
            return
        self._by_path[parts] = info
        for first in range(1, len(parts)):
            end = parts[first:]
            self._by_end[end] = info if end not in self._by_end else None

    def find(self, name: str) -> zipfile.ZipInfo | None:
        """The entry that a row means by a name.

        That very path, or the only one that ends like it, as when a folder was packed as a whole; or the one that the
        name itself ends with, as when the folder's content was packed.
        """
        parts = _parts(name)
        found = self._by_path.get(parts) or self._by_end.get(parts)
        tails = (parts[first:] for first in range(1, len(parts)))
        return found or next((self._by_path[tail] for tail in tails if tail in self._by_path), None)

    def unpack(self, info: zipfile.ZipInfo, path: Path) -> None:
        """Write one entry to a new file. Raises `UserError` if it is damaged, `OSError` as the disk does."""
        try:
            with self._file.open(info) as source, path.open("xb") as target:
                while piece := source.read(PIECE_BYTES):  # never more than the size that was checked
                    target.write(piece)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            path.unlink(missing_ok=True)
            raise UserError(
                f"Expected a whole ZIP, got one in which “{shorten(info.filename)}” is damaged; pack it again."
            ) from error


@contextmanager
def open_images(path: Path) -> Iterator[ImageZip]:
    """Open a ZIP and check all that can be known before unpacking.

    Raises `UserError` for anything that is no plain ZIP, is encrypted, too large packed or unpacked, or leads outside.
    """
    try:
        size = path.stat().st_size
        if size > MAX_ARCHIVE_BYTES:
            most = MAX_ARCHIVE_BYTES // 2**20
            raise UserError(f"Expected a ZIP of at most {most} MiB, got {size // 2**20}; split it.")
        _check_directory(path, size)
        file = zipfile.ZipFile(path)
    except UserError:
        raise
    except Exception as error:  # zipfile raises nearly anything on damaged files
        raise UserError("Expected a ZIP file, got another kind or one that was cut short; pack it again.") from error
    with file:
        _check_entries(file.infolist())
        yield ImageZip(file)


def _check_directory(path: Path, size: int) -> None:
    """Bound the list of entries before zipfile reads it; it finds the end record the same way."""
    with path.open("rb") as file:
        file.seek(max(size - _END_BYTES - _LONGEST_COMMENT - 20, 0))
        tail = file.read()
    bare = tail[-_END_BYTES:]
    at = len(tail) - _END_BYTES if bare.startswith(_END) and bare.endswith(b"\0\0") else tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise zipfile.BadZipFile("no end record")
    count = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    large = at >= 20 and tail[at - 20 :].startswith(_ZIP64_LOCATOR)
    if large or count > MAX_ENTRIES or directory > MAX_DIRECTORY_BYTES:
        raise UserError(f"Expected a ZIP of at most {MAX_ENTRIES:,} files, got one with more; split it.")


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise UserError(f"Expected a ZIP of at most {MAX_ENTRIES:,} files, got {len(entries):,}; split it.")
    for info in entries:
        _check_entry(info)
    unpacked = sum(info.file_size for info in entries)
    if unpacked > MAX_UNPACKED_BYTES:
        raise UserError(
            f"Expected at most {MAX_UNPACKED_BYTES / 2**30:g} GiB once unpacked, got {unpacked / 2**30:,.1f}; split it."
        )


def _check_entry(info: zipfile.ZipInfo) -> None:
    shown = shorten(info.filename)
    if info.flag_bits & _ENCRYPTED:
        raise UserError("Expected a ZIP without a password, got an encrypted one; pack it without.")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise UserError(f"Expected only files in the ZIP, got a link, “{shown}”; pack what it points to instead.")
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
        raise UserError(f"Expected only paths inside the ZIP, got “{shown}”, which leads outside; pack it again.")
    if info.compress_type not in _METHODS:
        raise UserError("Expected a ZIP packed with “deflate”, as usual, got another method; pack it again.")
    if info.file_size > max(RATIO_FROM_BYTES, MAX_RATIO * info.compress_size):
        raise UserError(
            f"Expected pictures, got “{shown}”, which unpacks to more than {MAX_RATIO} times its size; leave it out."
        )


def safe_path(name: str) -> PurePosixPath | None:
    """A name as a relative path that any disk takes and that stays where it is put; None if it is none."""
    if name.startswith(("/", "\\")) or name[1:2] == ":" or len(name.encode(errors="replace")) > 240:
        return None
    parts = PurePosixPath(name).parts
    plain = all(part != ".." and part.isprintable() and "\\" not in part and len(part.encode()) < 200 for part in parts)
    return PurePosixPath(*parts) if parts and len(parts) <= MAX_DEPTH and plain else None


def shorten(text: str) -> str:
    """A stranger's name fit for a sentence."""
    bare = "".join(c if c.isprintable() else "?" for c in text)
    return bare if len(bare) <= 60 else bare[:59] + "…"


def _parts(name: str) -> Parts:
    """Parts of a path however it was written; accents are composed, which macOS takes apart."""
    plain = normalize("NFC", name.replace("\\", "/"))
    return PurePosixPath(plain.lstrip("/")).parts
