"""A capture as a file: one npz without pickle, read without trusting anything in it. Knows no folder and no model."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from dataclasses import fields
from typing import Any

import numpy as np
from PIL import Image

from aia.intensity import GROUPS, Task
from backend.kept.captures import FORMAT_VERSION, LATER_FIELDS, MASS_TOLERANCE, Capture, CaptureKey, Sampling
from backend.kept.rounding import from_parts, is_rounded, to_parts

ROUNDED_VERSION = 2  # of files whose masses take two bytes each; see `rounding.py`

# The largest capture foreseen: a 32-layer, 32-head model drawing 90 × 91 tokens with guidance has
# masses of 2 × 32 × 32 × 8190 × 8 float32 = 512 MiB.
MAX_UNCOMPRESSED_BYTES = 640 * 2**20
MAX_PICTURE_SIDE_PX = 4096
MAX_GRID_SIDE = 1024

# Everything one file holds, in this order, and nothing else.
_DTYPES: dict[str, np.dtype] = {
    "header": np.dtype(np.uint8),  # JSON
    "picture_png": np.dtype(np.uint8),
    "mass": np.dtype(np.float32),
    "query_positions": np.dtype(np.int32),
    "cross": np.dtype(np.float16),
    "cross_positions": np.dtype(np.int32),
}
# Written only where there is something else than the default, as in files without them.
_OPTIONAL_DTYPES = {
    "patch_rows": np.dtype(np.int32),
    "drawn": np.dtype(np.float16),
    "made_ids": np.dtype(np.int32),
}
_NPY_MAGIC = b"\x93NUMPY\1\0"
_NPY_HEADER = re.compile(  # as `np.lib.format.write_array` writes it
    r"\{'descr': '([^']{2,8})', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,12}, ?)*(?:[0-9]{1,12})?)\), ?\} *\n"
)
_PARTS = "mass_parts"  # instead of the masses, in files of the second version
_ALL_DTYPES = _DTYPES | _OPTIONAL_DTYPES | {_PARTS: np.dtype(np.uint8)}
_HEADER_FIELDS = ("format_version", "key", "text", "tokens", "token_groups", "grid", "seconds", "created")
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "Task": (str,),
    "Sampling": (dict,),
}


class CaptureFormatError(ValueError):
    """A capture, or a file meant to be one, that breaks the format; one sentence says where."""


class OtherVersion(CaptureFormatError):
    """A capture that another version of AIA Lens wrote and can read: nothing is wrong with it."""


class CaptureTooLarge(CaptureFormatError):
    """A capture of more than `MAX_UNCOMPRESSED_BYTES`: good to look at, but not to be kept."""


def capture_to_npz(capture: Capture) -> bytes:
    """Pack a capture into one compressed npz without pickle; equal captures give equal bytes.

    The invariant: what this returns, `capture_from_npz` reads back exactly. Masses of a large capture, which were
    rounded when it was made, take two bytes each.

    Raises:
        CaptureTooLarge: its arrays exceed `MAX_UNCOMPRESSED_BYTES`.
        CaptureFormatError: the capture itself breaks the format.
    """
    version = ROUNDED_VERSION if is_rounded(capture.mass) else FORMAT_VERSION
    try:
        header = json.dumps(_header_of(capture, version)).encode()
    except TypeError as error:
        raise CaptureFormatError(_sentence("plain text and numbers beside its arrays", "others")) from error
    arrays = {
        "header": np.frombuffer(header, np.uint8),
        "picture_png": np.frombuffer(capture.picture_png, np.uint8),
        **{name: np.ascontiguousarray(getattr(capture, name)) for name in _array_names(capture)},
    }
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_UNCOMPRESSED_BYTES:
        limit = _mib(MAX_UNCOMPRESSED_BYTES)
        raise CaptureTooLarge(_sentence(f"at most {limit} to be kept", _mib(size), "ask for fewer tokens"))
    for name, array in arrays.items():
        _require(array.dtype == _ALL_DTYPES[name], f"{name} of type {_ALL_DTYPES[name]}", str(array.dtype))
    rebuilt = _build(parse_header(arrays["header"]), arrays)
    _require(rebuilt.id == capture.id, "a key that survives being written as JSON", "one that changes")
    if version == ROUNDED_VERSION:
        arrays = {_PARTS: to_parts(arrays.pop("mass")), **arrays}
    return _pack(arrays)


def capture_from_npz(data: bytes) -> Capture:
    """Read what `capture_to_npz` wrote, trusting nothing in it; the arrays come back read-only.

    Raises:
        CaptureFormatError: damaged, hostile, of another format version, or not a capture at all.
        MemoryError: there is none left to unpack it; nothing is wrong with it.
    """
    try:
        archive, members = open_archive(data)
        header = parse_header(read_array(archive, members, "header"))
        needed = [*_DTYPES] if header["format_version"] == FORMAT_VERSION else [*set(_DTYPES) - {"mass"}, _PARTS]
        whole = set(needed) <= set(members) <= {*needed, *_OPTIONAL_DTYPES}
        _require(whole, f"the members {', '.join(needed)}", f"{len(members)} members")
        arrays = {name: read_array(archive, members, name) for name in members}
        if _PARTS in arrays:
            arrays["mass"] = _join_parts(arrays.pop(_PARTS))
        return _build(header, arrays)
    except (CaptureFormatError, MemoryError):  # every size was checked: no memory is no fault of the file
        raise
    except Exception as error:
        # zipfile, zlib, numpy and json raise nearly anything on hostile bytes
        # (BadZipFile, zlib.error, struct.error, NotImplementedError, RecursionError, …).
        raise CaptureFormatError(
            "Expected a capture file, but this one is damaged or something else: run the prompt again for a new one."
        ) from error


def _join_parts(parts: np.ndarray) -> np.ndarray:
    good = parts.ndim == 6 and parts.shape[0] == 2 and parts.shape[4] == len(GROUPS)
    _require(good, f"masses of two bytes in shape [2, C, L, H, {len(GROUPS)}, Q]", str(list(parts.shape)))
    return from_parts(parts)


def _sentence(expected: str, got: str, remedy: str = "run the prompt again to make a new one") -> str:
    return f"A capture must have {expected}, but this one has {got}: {remedy}."


def _require(condition: bool, expected: str, got: str) -> None:
    if not condition:
        raise CaptureFormatError(_sentence(expected, got))


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"


def _header_of(capture: Capture, version: int) -> dict[str, Any]:
    return {
        "format_version": version,
        "key": capture.key.plain(),
        "text": capture.text,
        "tokens": list(capture.tokens),
        "token_groups": list(capture.token_groups),
        "grid": list(capture.grid),
        "seconds": capture.seconds,
        "created": capture.created,
    }


def _array_names(capture: Capture) -> list[str]:
    """The arrays of its masses, and those of the optional ones that are not as by default."""
    usual = np.array_equal(capture.patch_rows, capture.usual_patch_rows())
    kept = [name for name in ("drawn", "made_ids") if getattr(capture, name) is not None]
    return [*list(_DTYPES)[2:], *([] if usual else ["patch_rows"]), *kept]


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Write the members by hand: `np.savez_compressed` has no compression level, and 6 is slow here."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def open_archive(data: bytes) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """Check the zip's directory and every declared size before anything is unpacked."""
    # zipfile parses the whole directory before one can count it, and millions of entries fit in a
    # file. Ours has six, no comment and no zip64 part, so its end record lies at a known place.
    size = directory_bytes(data)
    _require(size is not None, "a plain zip file around it", "something else or a part missing")
    _require(size <= 4096, "a short list of members", "a very long one")
    archive = zipfile.ZipFile(io.BytesIO(data))
    infos = archive.infolist()
    members = {info.filename.removesuffix(".npy"): info for info in infos}
    _require(len(members) == len(infos) and "header" in members, "each member once, with a header", "other members")
    size = sum(info.file_size * (2 if name == _PARTS else 1) for name, info in members.items())  # as float32
    _require(size <= MAX_UNCOMPRESSED_BYTES, f"at most {_mib(MAX_UNCOMPRESSED_BYTES)} unpacked", _mib(size))
    # Other methods (bzip2, lzma) unpack whole blocks whatever size was declared.
    known = all(info.compress_type in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED) for info in infos)
    _require(known, "members packed with deflate", "another compression")
    return archive, members


def directory_bytes(data: bytes) -> int | None:
    """How long a zip's directory says it is, from its last bytes alone; None where they are not a plain zip's."""
    end = data[-22:]
    plain = len(end) == 22 and end[:4] == b"PK\5\6" and end[20:] == b"\0\0" and data[-42:-38] != b"PK\6\7"
    return int.from_bytes(end[12:16], "little") if plain else None


def read_array(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> np.ndarray:
    """Read one .npy member of the type it must have; never allocates more than its declared size.

    `np.load` would allocate whatever shape the header claims before looking for the data, and numpy has Python's parser
    read the header, which now and then fails where several threads read (SystemError, seen with Python 3.11.7).
    """
    raw = archive.read(members[name])
    _require(raw[:8] == _NPY_MAGIC, f"{name} as npy version 1.0", "another version")
    start = 10 + int.from_bytes(raw[8:10], "little")
    header = _NPY_HEADER.fullmatch(raw[10:start].decode("latin-1"))
    _require(header is not None, f"{name} with a header as numpy writes it", "another one")
    descr, fortran_order, axes = header.groups()
    dtype = _ALL_DTYPES[name]
    _require(descr == dtype.str, f"{name} of type {dtype}", descr)
    shape = tuple(int(length) for length in axes.replace(" ", "").split(",") if length)
    whole = fortran_order == "False" and math.prod(shape) * dtype.itemsize == len(raw) - start
    _require(whole, f"{name} with as much data as its shape says", "more or less")
    # Over bytes, so that it can never be made writeable.
    return np.ndarray(shape, dtype, raw, start)


def parse_header(header: np.ndarray) -> dict[str, Any]:
    values = json.loads(header.tobytes(), parse_constant=_refuse_constant)
    _require(type(values) is dict, "a header of named fields", "something else")
    version, known = values.get("format_version"), (FORMAT_VERSION, ROUNDED_VERSION)
    expected = f"format version {FORMAT_VERSION} or {ROUNDED_VERSION}"
    _require(type(version) is int, expected, "no version")
    if version not in known:
        raise OtherVersion(_sentence(expected, f"version {version}, written by another version of AIA Lens"))
    _require(set(values) == set(_HEADER_FIELDS), f"the fields {', '.join(_HEADER_FIELDS)}", "others")
    return values


def _refuse_constant(constant: str) -> None:
    raise CaptureFormatError(_sentence("finite numbers", constant))


def _build(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Capture:
    """Make the capture once all its parts are known to fit each other."""
    key = parse_key(header["key"])
    _require(type(header["text"]) is str, "an answer of text", type(header["text"]).__name__)
    tokens, groups = _strings(header, "tokens"), _strings(header, "token_groups")
    _require(len(tokens) == len(groups), "one group for each token", f"{len(tokens)} tokens and {len(groups)} groups")
    unknown = set(groups) - set(GROUPS)
    _require(not unknown, f"the token groups {', '.join(GROUPS)}", f"{len(unknown)} unknown ones")
    seconds, created = _number(header, "seconds"), _number(header, "created")
    grid = _parse_grid(header["grid"])
    _check_arrays(arrays, len(tokens))
    _check_patch_rows(arrays, key.task, grid)
    _check_drawn(arrays, key.task, grid)
    return Capture(
        key=key,
        text=header["text"],
        tokens=tokens,
        token_groups=groups,
        grid=grid,
        seconds=seconds,
        created=created,
        picture_png=check_picture(_as_bytes(arrays["picture_png"])),
        **{name: array for name, array in arrays.items() if name not in ("header", "picture_png")},
    )


def parse_key(values: Any) -> CaptureKey:
    _check_fields(CaptureKey, values)
    _check_fields(Sampling, values["sampling"])
    _require(values["task"] in set(Task), f"the task {' or '.join(Task)}", "another")
    _require(values["format_version"] == FORMAT_VERSION, f"format version {FORMAT_VERSION} in its key", "another")
    digest = re.fullmatch(r"([0-9a-f]{64})?", values["image_sha256"])
    _require(digest is not None, "a SHA-256 of its picture (or none)", "something else")
    return CaptureKey(**{**values, "task": Task(values["task"]), "sampling": Sampling(**values["sampling"])})


def _check_fields(cls: type, values: Any) -> None:
    """Check plain data against a dataclass: exactly its fields, each of the type it declares; later ones may lack."""
    names = [f.name for f in fields(cls)]
    good = type(values) is dict and set(names) - LATER_FIELDS <= set(values) <= set(names)
    _require(good, f"a {cls.__name__} of {', '.join(names)}", "others")
    for f in (f for f in fields(cls) if f.name in values):
        value = values[f.name]
        good = type(value) in _JSON_TYPES[f.type] and (f.type != "float" or math.isfinite(value))
        _require(good, f"{f.name} as {f.type}", type(value).__name__)


def _strings(header: dict[str, Any], name: str) -> tuple[str, ...]:
    values = header[name]
    good = type(values) is list and all(type(value) is str for value in values)
    _require(good, f"{name} as a list of text", "something else")
    return tuple(values)


def _number(header: dict[str, Any], name: str) -> float:
    value = header[name]
    good = type(value) in (int, float) and math.isfinite(value) and value >= 0
    _require(good, f"{name} of 0 or more", "something else")
    return value


def _parse_grid(value: Any) -> tuple[int, int]:
    good = type(value) is list and len(value) == 2 and all(type(n) is int and 1 <= n <= MAX_GRID_SIDE for n in value)
    _require(good, f"a grid of rows and columns, each 1 to {MAX_GRID_SIDE}", "something else")
    return value[0], value[1]


def _as_bytes(array: np.ndarray) -> bytes:
    _require(array.ndim == 1, "a picture as one run of bytes", f"{array.ndim} axes")
    return array.tobytes()


def check_picture(picture: bytes) -> bytes:
    """The picture, if it is a PNG that decodes; its size is checked before any pixel. Raises `CaptureFormatError`."""
    _require(picture[:8] == b"\x89PNG\r\n\x1a\n" and picture[12:16] == b"IHDR", "a PNG picture", "another format")
    width, height = int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
    good = 1 <= width <= MAX_PICTURE_SIDE_PX and 1 <= height <= MAX_PICTURE_SIDE_PX
    _require(good, f"a picture of at most {MAX_PICTURE_SIDE_PX} px a side", f"{width} × {height}")
    try:
        with Image.open(io.BytesIO(picture), formats=("PNG",)) as image:
            same = image.size == (width, height)  # a second header would bring a second size
            if same:
                image.load()
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise CaptureFormatError(_sentence("a whole PNG picture", "a damaged one")) from error
    _require(same, "a picture of one size", "two")
    return picture


def _check_arrays(arrays: dict[str, np.ndarray], token_count: int) -> None:
    """Check shapes against each other, positions against the tokens, and the range of every value."""
    mass, cross = arrays["mass"], arrays["cross"]
    good = mass.ndim == 5 and mass.shape[0] in (1, 2) and 0 not in mass.shape[1:3] and mass.shape[4] == len(GROUPS)
    _require(good, f"masses of shape [1 or 2, L, H, Q, {len(GROUPS)}]", str(list(mass.shape)))
    layers, queries = mass.shape[1], mass.shape[3]
    for name, count in (("query_positions", queries), ("cross_positions", cross.shape[-1] if cross.ndim else 0)):
        positions = arrays[name]
        _require(positions.shape == (count,), f"{name} of shape [{count}]", str(list(positions.shape)))
        inside = count == 0 or (positions.min() >= 0 and positions.max() < token_count)
        _require(inside, f"{name} within its {token_count} tokens", "some outside")
    expected = (layers, queries, len(arrays["cross_positions"]))
    _require(cross.shape == expected, f"cross attention of shape {list(expected)}", str(list(cross.shape)))
    for name in ("mass", "cross"):
        _check_shares(name, arrays[name])


def _check_shares(name: str, values: np.ndarray) -> None:
    # Both comparisons are false for NaN, which min and max pass on.
    inside = values.size == 0 or (values.min() >= 0 and values.max() <= 1 + MASS_TOLERANCE)
    _require(inside, f"values of {name} within 0 and 1", "some outside")


def _check_patch_rows(arrays: dict[str, np.ndarray], task: Task, grid: tuple[int, int]) -> None:
    """Check that a drawing's patches name rows that exist, one each."""
    if "patch_rows" not in arrays:
        return
    rows, count = arrays["patch_rows"], grid[0] * grid[1]
    _require(task == Task.GENERATION, "rows of patches only where it draws", "some for an answer")
    _require(rows.shape == (count,), f"patch_rows of shape [{count}]", str(list(rows.shape)))
    inside = rows.min() >= 0 and rows.max() < arrays["mass"].shape[3]
    _require(inside, "patch_rows within its rows", "some outside")


def _check_drawn(arrays: dict[str, np.ndarray], task: Task, grid: tuple[int, int]) -> None:
    """Check the attention between a drawing's patches, and the ids of what was made."""
    layers, rows = arrays["mass"].shape[1], arrays["mass"].shape[3]
    if "drawn" in arrays:
        expected = (layers, rows, grid[0] * grid[1])
        _require(task == Task.GENERATION, "attention between patches only where it draws", "some for an answer")
        found = arrays["drawn"]
        _require(found.shape == expected, f"drawn of shape {list(expected)}", str(list(found.shape)))
        _check_shares("drawn", found)
    if "made_ids" in arrays:
        ids = arrays["made_ids"]
        _require(ids.shape == (max(rows - 1, 0),), f"made_ids of shape [{max(rows - 1, 0)}]", str(list(ids.shape)))
        _require(ids.size == 0 or ids.min() >= 0, "made_ids of 0 or more", "some below")
