"""A finished fine-tune as one zip, and back: its settings, events, result, targets and adapter, without checkpoints.

Owns what is in the zip, and reads it as hostile input: nothing of it is run, unpickled or followed, and no path in it
is used. Knows neither pages nor how a run trains. Whole weights of a full fine-tune stay where they are: a tokenizer
and a model's settings from strangers are more than this can check.

    run.json       id, name, role, pair, when it was made
    config.json, events.jsonl, result.json, targets.json    as in the run's folder, without paths
    adapter/       adapter_config.json, adapter_model.safetensors, aia_lens.json
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Literal

from peft import LoraConfig
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from aia.config import TrainingConfig, make_config
from aia.targets import PRESETS, load_targets
from backend.background.runs import Runs
from backend.finetuning.finetune import RunFolder
from backend.interface import UserError
from backend.kept.archives import MAX_IMPORT_BYTES, pack, read_members
from backend.kept.documents import LONGEST_NAME, Plain
from backend.models.adapters import ABOUT
from backend.people.person import owner_of_new

RUN, TARGETS = "run.json", "targets.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_TEXT_BYTES = 64 * 2**20
OLD_SECONDS = 86_400
_NEEDED = {RUN, "config.json", "result.json"}
_ADAPTER = {f"adapter/{name}" for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, ABOUT)}
_KNOWN = _NEEDED | _ADAPTER | {"events.jsonl", TARGETS, "README.txt"}
_FREE = {"r", "lora_alpha", "lora_dropout", "target_modules", "base_model_name_or_path", "inference_mode"}

README = """AIA Lens, one fine-tune: settings, events, result{targets} and {adapter}.

Import it in the Library tab of another installation, or give adapter/ to PEFT. Nothing in it is pickled.
"""


class RunAbout(Plain):
    """Which run it is; ids are kept, so that links and pairs hold where it is imported."""

    format: Literal["aia-lens-run"] = "aia-lens-run"
    format_version: Literal[1] = 1
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    name: str = Field(max_length=LONGEST_NAME)
    role: Literal["aia", "control", "single"]
    pair: str | None = Field(pattern=r"^[0-9a-f]{16}$")
    created: float = Field(ge=0, le=1e11)


# --- out ---


def has_adapter(folder: Path) -> bool:
    """Whether a run's folder holds a PEFT adapter: what an export takes along, and Explore offers."""
    return all((folder / "adapter" / name).is_file() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))


def pack_run(runs: Runs, run_id: str) -> bytes:
    """A finished run as a zip. Raises `UserError` for any other, or where it is too large to be imported again."""
    status, result = runs.status(run_id), runs.result(run_id)
    if status.state != "finished" or result is None or status.config is None:
        raise UserError(f"Expected a finished run, got one that is {status.state}; export it when it is done.")
    folder = RunFolder(runs.folder / run_id)
    config, targets = _without_paths(status.config)
    about = RunAbout(id=run_id, name=status.name, role=status.role, pair=status.pair, created=status.created)
    files = {
        RUN: about.model_dump_json(indent=1).encode(),
        "config.json": _json(config),
        "events.jsonl": folder.events.read_bytes() if folder.events.is_file() else b"",
        "result.json": _json({**result, "adapter": "adapter", "config": config}),
        **({TARGETS: targets} if targets else {}),
    }
    if has_adapter(folder.path):
        files |= {f"adapter/{path.name}": path.read_bytes() for path in _adapter_files(folder)}
    told = "its adapter" if has_adapter(folder.path) else "no weights"
    files = {"README.txt": README.format(targets=", targets" if targets else "", adapter=told).encode(), **files}
    size = sum(map(len, files.values()))
    if size > MAX_IMPORT_BYTES:
        limit = MAX_IMPORT_BYTES // 2**20
        raise UserError(f"Expected a run of at most {limit} MiB, got {size / 2**20:,.0f} MiB; copy its folder instead.")
    return pack(files)


def _adapter_files(folder: RunFolder) -> list[Path]:
    return [path for name in sorted(_ADAPTER) if (path := folder.adapter / PurePath(name).name).is_file()]


def _without_paths(config: TrainingConfig) -> tuple[dict, bytes | None]:
    """Settings that name no file of this machine, and the content of the targets' file where there was one."""
    plain = config.model_dump(mode="json")
    plain["data"], plain["images"] = PurePath(plain["data"]).name, None
    targets = None
    if plain["targets"] not in ("auto", *PRESETS):
        with suppress(OSError, ValueError):
            load_targets(plain["targets"])  # only what is one
            targets = Path(plain["targets"]).read_bytes()
        plain["targets"] = TARGETS
    return plain, targets


# --- in ---


def unpack_run(runs: Runs, data: bytes) -> str:
    """Put an exported run into the runs' folder, all of it or nothing; → its id.

    Raises `UserError` for anything but an exported run, and for one that is there already.
    """
    members = read_members(data)
    about = check_run(members)
    pair = about.pair and own_id(runs, about.pair)
    about = about.model_copy(update={"id": own_id(runs, about.id), "pair": pair})
    target = runs.folder / about.id
    if target.exists():
        raise UserError(f"Expected a run that is not here yet, got “{about.name or about.id}” again; let it be.")
    runs.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(runs.folder)
    draft = Path(tempfile.mkdtemp(dir=runs.folder, prefix=".import-"))
    try:
        _write(draft, target, about, members)
        draft.rename(target)
    except OSError as error:
        raise UserError(f"The run could not be kept ({error.strerror}); make room, then import it again.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if runs.status(about.id).state != "finished":
        shutil.rmtree(target, ignore_errors=True)
        raise _not_a_run("a finished run", "one without a result")
    return about.id


def own_id(runs: Runs, run_id: str) -> str:
    """The id that an exported run gets here: its own, unless people are told apart and it was not theirs before.

    Else whoever has the zip would know the id, and could neither import what another has nor hide what they did.
    """
    owner = owner_of_new()
    if not owner or owner in {runs.kind(folder / run_id).owner() for folder in (runs.folder, runs.trash)}:
        return run_id
    return hashlib.sha256(f"{owner} {run_id}".encode()).hexdigest()[:16]


def _sweep(folder: Path) -> None:
    """Remove drafts of imports that were killed long ago."""
    for draft in folder.glob(".import-*"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > OLD_SECONDS:
                shutil.rmtree(draft)


def check_run(members: Mapping[str, bytes]) -> RunAbout:
    """What an export says it is, once all of it is known to be sound. Raises `UserError`."""
    names = set(members)
    if names - _KNOWN or _NEEDED - names:
        raise _not_a_run("the files of an exported run", "others, or a part missing")
    if any(len(content) > MAX_TEXT_BYTES for name, content in members.items() if not name.startswith("adapter/")):
        raise _not_a_run(f"files of at most {MAX_TEXT_BYTES // 2**20} MiB", "a larger one")
    try:
        about = RunAbout.model_validate_json(members[RUN])
    except (ValidationError, RecursionError) as error:
        raise _not_a_run(f"an id, name and role in {RUN}, format version 1", "others") from error
    config = _check_config(members)
    _check_events(members.get("events.jsonl", b""))
    if names & _ADAPTER:
        _check_adapter(members, config)
    return about


def _write(draft: Path, target: Path, about: RunAbout, members: Mapping[str, bytes]) -> None:
    """Write the files under names of our own. `target` is where the folder will lie."""
    config = _object(members["config.json"])
    if config["targets"] == TARGETS:
        config["targets"] = str(target / TARGETS)
    result = {**_object(members["result.json"]), "adapter": str(target / "adapter"), "config": config}
    meta = about.model_dump(exclude={"format"}) | {"owner": owner_of_new()}
    texts = {"config.json": _json(config), "result.json": _json(result), "meta.json": _json(meta)}
    for name in _KNOWN - {RUN, "README.txt"}:
        content = texts.get(name, members.get(name))
        if content is not None:
            path = draft / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    (draft / "meta.json").write_bytes(texts["meta.json"])
    if (draft / "adapter" / ADAPTER_WEIGHTS).is_file():
        _check_weights(draft / "adapter" / ADAPTER_WEIGHTS)


def _check_config(members: Mapping[str, bytes]) -> TrainingConfig:
    settings, result = _object(members["config.json"]), _object(members["result.json"])
    try:
        config = make_config(**settings)
    except (ValueError, TypeError) as error:
        raise _not_a_run("valid settings in config.json", "others") from error
    paths = PurePath(config.data).name != config.data or config.images is not None
    if paths or config.targets not in ("auto", TARGETS, *PRESETS):
        raise _not_a_run("settings that name no files", "some that do")
    if not {"before", "after", "losses", "config"} <= result.keys():
        raise _not_a_run("before, after and losses in result.json", "others")
    return config


def _check_events(data: bytes) -> None:
    for line in data.splitlines():
        event = _object(line)
        if not isinstance(event.get("event"), str):
            raise _not_a_run("an event on every line of events.jsonl", "something else")


def _check_adapter(members: Mapping[str, bytes], config: TrainingConfig) -> None:
    """Only LoRA as this program saves it: PEFT's settings can name modules to import and files to load."""
    if not {f"adapter/{name}" for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)} <= members.keys():
        raise _not_a_run("an adapter's settings and weights", "one without the other")
    settings = _object(members[f"adapter/{ADAPTER_CONFIG}"])
    plain = LoraConfig().to_dict() | {"peft_type": "LORA"}
    odd = [
        name
        for name, value in settings.items()
        if name not in {*_FREE, "peft_version"} and value != plain.get(name) and value not in (None, False, [], {})
    ]
    modules = settings.get("target_modules")
    named = isinstance(modules, list) and all(isinstance(m, str) and len(m) <= 100 for m in modules)
    sizes = all(type(settings.get(name)) is int and 1 <= settings[name] <= 4096 for name in ("r", "lora_alpha"))
    sizes = (
        sizes and type(settings.get("lora_dropout", 0)) in (int, float) and 0 <= settings.get("lora_dropout", 0) <= 1
    )
    about = _object(members.get(f"adapter/{ABOUT}", b"{}"))
    if odd or not named or not sizes or settings.get("peft_type") != "LORA":
        raise _not_a_run("an adapter as AIA Lens saves it", "other settings")
    if {settings.get("base_model_name_or_path"), about.get("model")} != {config.model}:
        raise _not_a_run(f"an adapter of {config.model[:60]}", "one of another model")


def _check_weights(path: Path) -> None:
    try:
        with safe_open(str(path), framework="numpy") as weights:
            if not all(".lora_" in name for name in weights.keys()):  # noqa: SIM118 - not a dict
                raise _not_a_run("LoRA weights", "others")
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise _not_a_run("whole safetensors", "damaged ones") from error


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _not_a_run("whole JSON", "a damaged file") from error
    if not isinstance(found, dict):
        raise _not_a_run("objects in its JSON", "something else")
    return found


def _not_a_run(expected: str, got: str) -> UserError:
    return UserError(f"Expected {expected} in the zip of a run, got {got}; export the run again.")


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
