"""Zip files from strangers, and our own: read into memory within limits, written so that equal content is equal bytes.

Owns what a zip may be like: how many members, how large, how named. Does not know what is in one.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping

from backend.interface import UserError
from backend.kept.capture_files import directory_bytes

MAX_IMPORT_BYTES = 256 * 2**20  # of a file, and of everything in it
MAX_MEMBERS = 128
MAX_RATIO = 200  # curves and settings pack some ten times; only made-up data packs so well
FREE_BYTES = 16 * 2**20  # below which any ratio will do

_EPOCH = (1980, 1, 1, 0, 0, 0)
_NAME = re.compile(r"(?:[A-Za-z0-9_][\w.-]{0,99}/)?[A-Za-z0-9_][\w.-]{0,99}", re.ASCII)
_PLAIN = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)  # others unpack whole blocks whatever size was declared
_DAMAGED = "Expected a whole zip file, got one that is damaged or cut short; export it again."


def is_zip(data: bytes) -> bool:
    """Whether bytes begin as a zip does."""
    return data[:4] == b"PK\3\4"


def member_names(data: bytes) -> list[str]:
    """Names of all members, nothing unpacked. Raises `UserError` for what is over the limits or no zip."""
    return [info.filename for info in _open(data).infolist()]


def read_members(data: bytes) -> dict[str, bytes]:
    """Every member by name, at most one folder deep. Raises `UserError` for what is over the limits or no zip."""
    archive = _open(data)
    try:
        return {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception as error:  # zipfile and zlib raise nearly anything on hostile bytes
        raise UserError(_DAMAGED) from error


def _open(data: bytes) -> zipfile.ZipFile:
    """Check the directory and every declared size before anything is unpacked."""
    size = directory_bytes(data)  # zipfile would parse the whole directory before one could count it
    if size is None:
        raise UserError(_DAMAGED)
    if size > 256 * MAX_MEMBERS:
        raise UserError(f"Expected a zip of at most {MAX_MEMBERS} files, got more; export fewer things at once.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:
        raise UserError(_DAMAGED) from error
    _check(archive.infolist(), len(data))
    return archive


def _check(infos: list[zipfile.ZipInfo], packed: int) -> None:
    names = [info.filename for info in infos]
    if len(names) > MAX_MEMBERS:
        raise UserError(f"Expected a zip of at most {MAX_MEMBERS} files, got {len(names)}; export fewer at once.")
    bad = next((name for name in names if not _NAME.fullmatch(name) or ".." in name), None)
    if bad is not None or len({name.casefold() for name in names}) < len(names):
        raise UserError("Expected a zip as AIA Lens makes it, got other file names in it; choose its own export.")
    if any(info.flag_bits & 1 or info.compress_type not in _PLAIN for info in infos):
        raise UserError("Expected a plain zip, got one that is encrypted or packed otherwise; export it again.")
    total = sum(info.file_size for info in infos)
    if total > MAX_IMPORT_BYTES:
        limit = MAX_IMPORT_BYTES // 2**20
        raise UserError(f"Expected at most {limit} MiB in a zip, got {total / 2**20:,.0f} MiB; import fewer at once.")
    if total > max(FREE_BYTES, MAX_RATIO * packed):
        raise UserError(
            f"Expected a zip that unpacks to at most {MAX_RATIO} times its size, got {total / packed:,.0f} times; "
            "export it again."
        )


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip of the files, in their order; equal files give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
