"""Files that leave and come in: every kind there and back, and everything that a stranger may send instead."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest

from backend.background.runs import Runs
from backend.comparison import Comparables
from backend.interface import UserError
from backend.kept import archives, run_archive
from backend.kept.archives import MAX_MEMBERS, pack, read_members
from backend.kept.library import Library
from backend.kept.library_files import LibraryFiles
from backend.kept.store import CaptureStore
from tests.app.made_runs import CONTROL, RUN, make_pair
from tests.backend.library_fakes import add_adapter, make_report
from tests.backend.test_library import drawing


def make_files(folder):
    return LibraryFiles(Library(Comparables(CaptureStore(folder / "captures"), Runs(folder / "runs"))))


@pytest.fixture
def here(tmp_path):
    """An installation with things in it."""
    files = make_files(tmp_path / "here")
    library = files.library
    library.store.put(drawing())
    library.measurements.save(make_report(), "measured once")
    make_pair(library.runs.folder)
    add_adapter(library.runs.folder / RUN)
    yield files
    library.store.close()


@pytest.fixture
def there(tmp_path):
    """An empty one."""
    files = make_files(tmp_path / "there")
    yield files
    files.library.store.close()


def everything(files):
    return {item.id for item in files.library.items()}


def refuse(files, data, name="file"):
    """The one sentence of a refusal, after which all is as before."""
    before = everything(files)
    with pytest.raises(UserError) as refused:
        files.take_in(data, name)
    sentence = str(refused.value)
    assert len(sentence) < 300 and "\n" not in sentence and "/tmp" not in sentence and "Traceback" not in sentence
    assert everything(files) == before
    runs = files.library.runs.folder
    assert not runs.exists() or not [*runs.glob(".import-*")]
    return sentence


# --- there and back ---


def test_a_capture_there_and_back_is_the_same_file(here, there):
    file = here.export([f"capture:{drawing().id}"])
    assert file.name == f"aia-lens-capture-{drawing().id}.npz"
    with np.load(io.BytesIO(file.content), allow_pickle=False) as arrays:
        assert arrays["mass"].shape == drawing().mass.shape
    [came] = there.take_in(file.content, file.name)
    assert (came.thing, came.already) == (f"capture:{drawing().id}", False)
    assert there.export([came.thing]).content == file.content
    assert there.library.item(came.thing).imported > 0 and here.library.item(came.thing).imported == 0


def test_a_capture_that_is_here_stays_as_it_was(here):
    fake = drawing(created=5.0)  # the same key with other content
    assert fake.id == drawing().id
    from backend.kept.capture_files import capture_to_npz

    [came] = here.take_in(capture_to_npz(fake))
    assert came.already and here.library.store.get(fake.id).created == drawing().created


def test_a_measurement_there_and_back_with_its_name(here, there):
    [item] = here.library.find(kind="measurement").items
    file = here.export([item.id])
    [came] = there.take_in(file.content, file.name)
    assert came.thing == item.id and there.library.item(item.id).name == "measured once"
    assert there.export([item.id]).content == file.content


def test_a_report_of_the_command_line_is_a_measurement(there):
    report = {"adapter": "/home/ann/runs/aia/adapter", "correlation": None, **make_report()}
    [came] = there.take_in(json.dumps(report, indent=2).encode(), "after.json")
    found = there.library.item(came.thing)
    assert found.name == "after" and b"/home" not in there.export([came.thing]).content


def test_a_run_there_and_back_with_curves_adapter_and_pair(here, there):
    for run in (RUN, CONTROL):
        file = here.export([f"run:{run}"])
        there.take_in(file.content, file.name)
    status = there.library.runs.status(RUN)
    assert (status.state, status.name, status.role, status.pair) == ("finished", "first try", "aia", CONTROL)
    from aia.intensity import Definition

    told = [
        {(s.role, s.task): s.mean.tolist() for s in files.library.things.series(f"run:{RUN}", Definition.TRAINING)}
        for files in (here, there)
    ]
    assert told[0] == told[1] and {role for role, _ in told[1]} == {"before", "after", "control", "target"}
    weights = [f.library.runs.folder / RUN / "adapter" / "adapter_model.safetensors" for f in (here, there)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert there.library.item(f"adapter:{RUN}").imported > 0


def test_a_runs_zip_says_no_path_of_the_machine(here):
    folder = here.library.runs.folder / RUN
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "adapter": str(folder / "adapter")}))
    members = read_members(here.export([f"run:{RUN}"]).content)
    assert not [name for name, content in members.items() if b"/tmp" in content or str(folder).encode() in content]
    assert "checkpoints" not in " ".join(members)


def test_a_runs_own_targets_travel_with_it(here, there, tmp_path):
    from aia.intensity import Definition
    from aia.targets import PRESETS, save_targets

    save_targets(PRESETS["paper-janus-pro"].stretch(8), tmp_path / "mine.json")
    for name in ("config.json", "result.json"):
        path = here.library.runs.folder / RUN / name
        content = json.loads(path.read_text())
        content.get("config", content)["targets"] = str(tmp_path / "mine.json")
        path.write_text(json.dumps(content))
    there.take_in(here.export([f"run:{RUN}"]).content)
    roles = {s.role for s in there.library.things.series(f"run:{RUN}", Definition.TRAINING)}
    assert "target" in roles
    again = there.export([f"run:{RUN}"]).content
    assert b"mine.json" not in again and read_members(again)["targets.json"] == (tmp_path / "mine.json").read_bytes()


def test_several_things_leave_and_come_in_as_one_zip(here, there):
    ids = [item.id for item in here.library.find(sort="kind", descending=False).items]
    file = here.export(ids)  # the adapter's run is in it once
    came = there.take_in(file.content, file.name)
    assert {one.thing for one in came} == {thing for thing in ids if not thing.startswith("adapter")}
    assert everything(there) == everything(here)
    assert all(one.already for one in there.take_in(file.content))


def test_a_deleted_run_that_is_imported_comes_out_of_the_trash(here):
    file = here.export([f"run:{RUN}"])
    here.library.delete(f"run:{RUN}")
    here.take_in(file.content)
    assert here.library.runs.status(RUN).state == "finished"


def test_what_cannot_be_exported_is_one_sentence(here, monkeypatch):
    (here.library.runs.folder / CONTROL / "result.json").unlink()
    for ids in ([], ["x"], ["capture:" + "0" * 24], ["run:" + "0" * 16], [f"run:{CONTROL}"], ["x"] * 60):
        with pytest.raises(UserError) as refused:
            here.export(ids)
        assert len(str(refused.value)) < 200
    monkeypatch.setattr(run_archive, "MAX_IMPORT_BYTES", 1000)
    with pytest.raises(UserError, match="copy its folder instead"):
        here.export([f"run:{RUN}"])


# --- what a stranger may send ---


def zipped(files, **about):
    """A zip by hand: names as they are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            for key, value in about.items():
                setattr(info, key, value)
            archive.writestr(info, content, about.get("compress_type", zipfile.ZIP_DEFLATED))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x80\x04\x95pickle",
        b"\xff" * 100,
        b"[" * 200_000,
        b'{"kind": "run"}',
        b'{"kind": "bundle", "things": []}',
        b"{}",
        b"PK\3\4",
        b"PK\3\4" + b"\0" * 100,
        b"PK\5\6" + b"\0" * 18,
        zipped({}),
        zipped({"notes.txt": b"hello"}),
        zipped({"capture-" + "0" * 24 + ".npz": b"no"}),
        zipped({"run-" + "0" * 16 + ".zip": zipped({"run-" + "0" * 16 + ".zip": zipped({"a": b""})})}),
    ],
    ids=range(15),
)
def test_anything_else_is_one_sentence(there, data):
    refuse(there, data)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/x", "a/../../b", "a/b/c", "C:\\x", "a\\b", ".hidden", "x" * 200, "a//b", ""]
)
def test_names_that_lead_elsewhere_are_refused(here, there, name):
    members = read_members(here.export([f"run:{RUN}"]).content)
    assert "file names" in refuse(there, zipped({**members, name: b"x"}))


def test_bombs_are_refused_before_they_unpack(there, monkeypatch):
    assert "times" in refuse(there, zipped({"run.json": b"0" * (40 * 2**20)}))
    assert "at most 128 files" in refuse(there, zipped({f"f{n}": b"" for n in range(MAX_MEMBERS + 1)}))
    assert "at most 128 files" in refuse(there, zipped({f"f{n}": b"" for n in range(5000)}))
    monkeypatch.setattr(archives, "MAX_IMPORT_BYTES", 2**20)
    packed = zipped({"run.json": np.random.default_rng(0).bytes(2**20 + 1)})
    assert "at most 1 MiB in a zip" in refuse(there, packed)


def test_a_declared_size_that_lies_gives_no_more_than_it_says(there):
    data = bytearray(zipped({"run.json": b"0" * 100_000}))
    at = data.rfind(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 10)
    refuse(there, bytes(data))


def test_other_compression_and_encryption_are_refused(there):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "packed otherwise" in refuse(there, zipped({"run.json": b"{}" * 50}, compress_type=method))
    data = bytearray(zipped({"run.json": b"{}"}))
    data[data.rfind(b"PK\1\2") + 8] |= 1
    assert "encrypted" in refuse(there, bytes(data))


def test_a_file_cut_short_anywhere_is_refused(here, there):
    for thing in (f"capture:{drawing().id}", f"run:{RUN}", here.library.find(kind="measurement").items[0].id):
        whole = here.export([thing]).content.strip()
        for share in (0.1, 0.5, 0.9, 0.999):
            refuse(there, whole[: int(share * len(whole))])


def changed(members, **content):
    """A run's members with some replaced; None leaves one out."""
    names = {name.replace("_json", ".json").replace("adapter__", "adapter/"): value for name, value in content.items()}
    return pack({name: value for name, value in {**members, **names}.items() if value is not None})


@pytest.mark.parametrize(
    "change",
    [
        {"run_json": b"{}"},
        {"run_json": None},
        {"result_json": b"[]"},
        {"result_json": b'{"before": 1, "after": 1, "losses": [], "config": {}}'},
        {"config_json": b'{"targets": "/etc/passwd"}'},
        {"config_json": b'{"data": "/etc/passwd"}'},
        {"config_json": b'{"images": "/etc"}'},
        {"config_json": b'{"steps": -1}'},
        {"events.jsonl": b"not json\n"},
        {"events.jsonl": b"[1]\n"},
        {"model.py": b"import os"},
        {"adapter/pytorch_model.bin": b"\x80\x04"},
        {"adapter/adapter_model.safetensors": b"\xff" * 64},
        {"adapter/adapter_model.safetensors": None},
        {"adapter/adapter_config.json": b"{}"},
        {"adapter/aia_lens.json": b'{"model": "another"}'},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_run_that_is_not_quite_one_is_refused(here, there, change):
    members = read_members(here.export([f"run:{RUN}"]).content)
    refuse(there, changed(members, **change))


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_mapping": {"parent_library": "os", "base_model_class": "system"}},
        {"megatron_config": {"x": 1}},
        {"peft_type": "PROMPT_TUNING"},
        {"target_modules": ".*"},
        {"r": 10**9},
        {"base_model_name_or_path": "/etc"},
        {"eva_config": {"rho": 2}},
        {"lora_dropout": "x"},
    ],
)
def test_an_adapters_settings_cannot_reach_further(here, there, settings):
    members = read_members(here.export([f"run:{RUN}"]).content)
    name = "adapter/adapter_config.json"
    members[name] = json.dumps({**json.loads(members[name]), **settings}).encode()
    refuse(there, pack(members))


def test_a_bad_thing_among_good_ones_keeps_all_out(here, there):
    members = read_members(here.export([f"capture:{drawing().id}", f"run:{RUN}"]).content)
    assert len(members) == 2
    refuse(there, pack({**members, "measurement-" + "0" * 16 + ".json": b"{}"}))


def test_a_full_disk_halfway_takes_back_what_was_kept(here, there, monkeypatch):
    file = here.export([item.id for item in here.library.find(sort="kind", descending=False).items])

    def full(*_):
        raise UserError("Expected room on the disk for runs, got a full one; free some space, then try again.")

    monkeypatch.setattr(there, "_keep_run", full)
    assert "room on the disk" in refuse(there, file.content)
