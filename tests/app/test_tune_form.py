"""The Fine-tune form before a start: fields, lists, data, targets that are edited, fitted and saved, the estimate."""

import json
import re

import gradio as gr
import numpy as np
import pytest

from aia.config import TrainingConfig
from aia.intensity import Definition, Task
from aia.targets import PRESETS, parse_targets
from app.components.dataset import DataFiles
from app.finetune import desk as tune_desk
from app.finetune.api import TuneEndpoints
from app.finetune.desk import Desk
from app.finetune.form import ADVANCED, MAIN, NAMES, make_tune_form, read_form
from app.finetune.known import Known
from app.finetune.request import Requests
from app.finetune.run_record import RunReader
from app.finetune.targets import OWN, depth_in_layers, table_of
from backend.background.runs import Runs
from backend.comparison import Comparables
from backend.embedded import load_embedded
from backend.interface import UserError
from backend.models.specs import SPECS
from tests.app.made_runs import CONTROL, LAYERS, RUN, STARTS, make_pair
from tests.app.run_fakes import FakeRuns, make_status
from tests.backend.zips import asking, drawing, picture, write_rows, write_zip

TINY = PRESETS["tiny-experts"]
TABLE = table_of(TINY)
AROUND = ("tiny-janus", "", "training", "")


def make_desk(runs, folder, things=None):
    return Desk(Requests(runs, folder), Known(runs, RunReader(runs), SPECS, things))


@pytest.fixture
def fake(tmp_path):
    """A desk over a finished run that was measured, without captures."""
    return make_desk(FakeRuns(make_status(RUN, "finished", step=4)), tmp_path)


@pytest.fixture
def desk(tmp_path, engine, answer, drawing):
    """A desk over two captures and a finished pair."""
    make_pair(tmp_path / "runs")
    for capture in (answer, drawing):
        engine.store.put(capture)
    runs = Runs(tmp_path / "runs")
    return make_desk(runs, tmp_path, Comparables(engine.store, runs))


def values(**changes):
    defaults = TrainingConfig().model_dump(mode="json") | {"steps": 12, "batch_size": 2} | changes
    return [*(defaults[name] for name in NAMES), changes.get("table", {}), True, "mine"]


def skipped(value):
    return value == gr.skip()


def edited(**cells):
    rows = [list(row) for row in TABLE["rows"]]
    for cell, value in cells.items():
        rows[int(cell[1])][int(cell[2])] = value
    return TABLE | {"rows": rows, "edited": True}


def drawn(view, name):
    return [t["y"] for t in view.figure["data"] if t["name"].startswith(name)]


# --- fields -------------------------------------------------------------------------------------


def test_every_setting_but_files_is_on_the_form_with_its_description(fake):
    with gr.Blocks():
        form = make_tune_form(SPECS)
    assert set(NAMES) | {"images", "format_version", "aia"} == set(TrainingConfig.model_fields)
    assert len(MAIN) + len(ADVANCED) == len(NAMES)
    for name in ADVANCED:
        assert form.fields[name].info == TrainingConfig.model_fields[name].description
    settings, control, name = read_form(tuple(field.value for field in form.values))
    assert (fake.requests.config(settings), control, name or "") == (TrainingConfig(), True, "")


def test_an_edited_table_counts_whatever_the_choice_still_says():
    settings, *_ = read_form(tuple(values(targets="paper-emu3", table=edited(c01=0.9))))
    assert settings["targets"]["rows"][0][1] == 0.9
    settings, *_ = read_form(tuple(values(targets="paper-emu3", table=TABLE)))
    assert settings["targets"] == "paper-emu3"


# --- data ---------------------------------------------------------------------------------------


def send(desk, uploads, rows):
    images = write_zip(uploads / "i.zip", {"a.png": picture()})
    file = write_rows(uploads / "upload.jsonl", rows)
    data = {"meta": {"_type": "gradio.FileData"}}
    files = DataFiles(rows=data | {"path": str(file), "orig_name": "mine.jsonl"}, images=data | {"path": str(images)})
    return desk.on_upload(files)


def test_uploaded_data_are_chosen_and_their_bad_rows_told(fake, uploads):
    rows = [asking("a.png"), drawing("a.png"), asking("<b>.png")]
    files, choice, report, good_only = send(fake, uploads, rows)
    assert (files.message, choice["value"]) == (None, f"dataset:{fake.requests.datasets.list()[0].id}")
    assert choice["choices"][1] == ("mine.jsonl, 2 rows", choice["value"])
    assert "3 rows: 1 understanding, 1 generation, 1 bad; 1 image." in report
    assert "<td>3</td>" in report and "&lt;b&gt;" in report and "<b>" not in report
    assert (good_only["visible"], good_only["value"]) == (True, False)
    assert fake.on_data(choice["value"])[0] == report
    assert fake.on_data("world") == ["", gr.update(visible=False, value=False)]


def test_good_data_need_no_checkbox_and_unusable_data_are_a_sentence(fake, uploads):
    *_, report, good_only = send(fake, uploads, [asking("a.png")])
    assert "lens-bad-rows" not in report and good_only["visible"] is False
    files, *others = send(fake, uploads, ["{"])
    assert files.message.startswith("Expected") and all(map(skipped, others))
    assert "upload it again" in fake.on_data("dataset:" + "0" * 16)[0]


# --- lists --------------------------------------------------------------------------------------


def test_lists_hold_what_there_is_by_now(desk):
    desk.requests.targets.save(TINY, "mine")
    data, adapters, targets, generation, understanding = (update["choices"] for update in desk.on_lists("tiny-janus"))
    assert [id for _, id in data] == ["world"]
    assert [id for _, id in adapters] == ["", RUN, CONTROL]
    assert ("mine", "saved:mine") in targets and targets[-1][1] == OWN
    for choices, kind in ((generation, "drew"), (understanding, "tiny-janus: ")):
        ids = [id for _, id in choices]
        assert ids[:3] == ["", f"run:{RUN} after", f"run:{RUN} before"]
        assert [name for name, id in choices if id.startswith("capture:") and kind in name]
    assert [id for _, id in desk.on_lists("another")[1]["choices"]] == [""]


def test_an_adapter_goes_on_with_its_own_settings(fake):
    config = fake.requests.runs.status(RUN).config
    assert fake.on_adapter(RUN) == [config.method, config.lora_rank, config.lora_alpha]
    assert all(map(skipped, fake.on_adapter("")))
    assert all(map(skipped, fake.on_adapter("f" * 16)))


# --- targets ------------------------------------------------------------------------------------


def test_a_preset_is_drawn_over_the_model_and_fills_the_table(fake):
    view, message, table = fake.on_choice("paper-emu3", TABLE, *AROUND)
    assert drawn(view, "generation now") == [[0.2] * LAYERS] and drawn(view, "understanding now") == [[0.6] * LAYERS]
    assert "Grey: the model now, from an earlier run." in view.sentence and message == ""
    assert table["layers"] == LAYERS and table["edited"] is False and table["rows"] != TABLE["rows"]


def test_an_edit_moves_the_chart_and_a_wrong_one_is_a_sentence(fake):
    before = fake.on_redraw("auto", TABLE, *AROUND)[0]
    view, message, choice = fake.on_edit(edited(c01=0.9), *AROUND)
    assert drawn(view, "target")[0][0] == 0.9 != drawn(before, "target")[0][0]
    assert (message, choice) == ("", OWN) and view.key != before.key
    view, message, _ = fake.on_edit(edited(c01=1.9), *AROUND)
    assert skipped(view) and "Expected T from 0 to 1 for generation, layer 1, got 1.9" in message


def test_no_model_is_a_sentence(fake):
    view, message, table = fake.on_choice("auto", TABLE, None, "", "training", "")
    assert skipped(view) and skipped(table) and "Expected the name of a known model" in message


@pytest.mark.parametrize("definition", [None, [], "nope"])
def test_an_unknown_definition_means_the_first(fake, definition):
    view, _ = fake.on_redraw("auto", TABLE, "tiny-emu3", "", definition, "")
    assert view.figure == fake.on_redraw("auto", TABLE, "tiny-emu3", "", "figure", "")[0].figure


def test_a_reference_of_the_paper_is_drawn_by_depth(fake):
    view = fake.on_redraw("auto", TABLE, *AROUND[:3], "fig1-qwen3-vl-8b")[0]
    (curve,) = [t for t in view.figure["data"] if "Qwen3-VL-8B" in t["name"]]
    assert len(curve["x"]) == len(curve["y"]) == 36
    assert 0.5 < curve["x"][0] < 1 and 8 < curve["x"][-1] < 8.5
    assert "Dashed: Qwen3-VL-8B, fig. 1, by depth." in view.sentence
    np.testing.assert_allclose(depth_in_layers(8, 8), np.arange(1, 9))


def test_before_anything_is_done_an_embedded_model_has_the_curves_it_comes_with(tmp_path, engine, answer):
    engine.store.put(answer)
    runs = Runs(tmp_path / "runs")
    desk = make_desk(runs, tmp_path, Comparables(engine.store, runs))
    view = desk.on_redraw("auto", TABLE, *AROUND)[0]
    assert view.sentence.endswith("Grey: the model now, from the measurement that comes with it.")
    for task in Task:
        [mean] = drawn(view, f"{task} now")
        np.testing.assert_allclose(mean, load_embedded()["tiny-janus"].curve(task, Definition.TRAINING)[0], atol=1e-4)


def test_without_runs_the_model_is_as_captures_or_a_measurement_saw_it(tmp_path, engine, answer, drawing, monkeypatch):
    monkeypatch.setattr("app.finetune.known.load_embedded", dict)
    runs = Runs(tmp_path / "runs")
    things = Comparables(engine.store, runs)
    desk = make_desk(runs, tmp_path, things)
    assert "Grey" not in desk.on_redraw("auto", TABLE, *AROUND)[0].sentence
    engine.store.put(answer)
    view = desk.on_redraw("auto", TABLE, *AROUND)[0]
    assert "Grey: the model now, from the newest capture." in view.sentence
    mean = answer.head_intensity(Definition.TRAINING).mean(1)
    np.testing.assert_allclose(drawn(view, "understanding now")[0], mean, atol=1e-6)
    assert drawn(view, "generation now") == [[None] * LAYERS]


def test_the_run_to_go_on_from_says_where_it_starts(fake):
    view = fake.on_redraw("auto", TABLE, "tiny-janus", RUN, "training", "")[0]
    assert drawn(view, "generation now")[0] == pytest.approx([0.3] * LAYERS)
    assert "the run to go on from" in view.sentence


def test_stages_are_fitted_to_a_capture_and_the_other_task_keeps_its_own(desk, answer):
    view, message, table, choice = desk.on_fit("auto", TABLE, "", f"capture:{answer.key.id}", 3, *AROUND)
    assert choice == OWN and table["edited"] is True
    fitted = desk.requests.find_targets({"rows": table["rows"]}, "tiny-janus")
    mean = answer.head_intensity(Definition.TRAINING).mean(1)
    assert np.count_nonzero(np.diff(fitted.as_arrays(Task.UNDERSTANDING)[0])) == 2  # three stages
    assert np.abs(fitted.as_arrays(Task.UNDERSTANDING)[0] - mean).mean() < np.abs(mean - mean.mean()).mean()
    np.testing.assert_allclose(fitted.as_arrays(Task.GENERATION), TINY.as_arrays(Task.GENERATION), atol=1e-4)
    assert "Generation keeps its stages; understanding fitted to" in message and "in 3 stages" in message
    assert drawn(view, "target")[1] == pytest.approx(fitted.as_arrays(Task.UNDERSTANDING)[0].tolist(), abs=1e-6)


def test_a_run_can_be_fitted_to_as_it_was_before_and_as_it_became(desk):
    starts = {}
    for moment in ("before", "after"):
        table = desk.on_fit("auto", TABLE, f"run:{RUN} {moment}", "", LAYERS, *AROUND)[2]
        starts[moment] = table["rows"][0][1]
    assert starts == {"before": STARTS[Task.GENERATION], "after": 0.45}


@pytest.mark.parametrize(
    ("generation", "stages", "match"),
    [
        ("", 4, "something to fit to"),
        (f"run:{RUN} after", 9, "1 to 8 stages"),
        (f"run:{RUN} after", None, "number of"),
        ("capture:" + "0" * 24, 4, "is stored here"),
        ("run:x", 4, "xpected"),
        ("nonsense", 4, "xpected|has no"),
    ],
)
def test_what_cannot_be_fitted_is_a_sentence(desk, generation, stages, match):
    view, message, *others = desk.on_fit("auto", TABLE, generation, "", stages, *AROUND)
    assert skipped(view) and all(map(skipped, others))
    assert re.search(match, message)


def test_edited_stages_are_saved_chosen_and_downloaded(fake):
    table = edited(c01=0.9)
    message, choice, saved = fake.on_save("auto", table, "My own", "tiny-janus")
    assert "Saved as “My own”" in message and choice["value"] == "saved:my-own" and saved["edited"] is False
    assert ("My own", "saved:my-own") in choice["choices"]
    again = fake.on_choice("saved:my-own", saved, *AROUND)[2]
    assert again["rows"][0][1] == 0.9
    file, message = fake.on_download("saved:my-own", saved, "My own", "tiny-janus")
    assert file["name"] == "My-own.json" and parse_targets(json.loads(file["text"])).generation[0].target == 0.9
    assert "Expected a name" in fake.on_save("auto", table, " ", "tiny-janus")[0]
    assert "number from 0 to 1 as T" in fake.on_download("auto", edited(c01=None), "", "tiny-janus")[1]


def test_own_stages_stay_when_they_are_chosen(fake):
    table = edited(c01=0.9)
    view, message, kept = fake.on_choice(OWN, table, *AROUND)
    assert drawn(view, "target")[0][0] == 0.9 and kept == table
    assert skipped(message)  # what was said of them stays as well, when the tab comes to the front
    assert "Expected T" in fake.on_choice(OWN, edited(c01=1.9), *AROUND)[1]
    assert fake.on_choice(OWN, {}, *AROUND)[2]["edited"] is False


# --- the estimate -------------------------------------------------------------------------------


def test_an_estimate_says_time_and_memory_and_is_silent_while_the_form_is_wrong(fake):
    told = fake.on_estimate(*values())
    assert "earlier run" in told and "Memory: about" in told and "samples of 96 tokens" in told
    assert "rough" in fake.on_estimate(*values(method="full"))
    assert fake.on_estimate(*values(steps=None)) == ""


def test_what_cannot_fit_is_said_in_place_of_the_estimate(fake, monkeypatch):
    def refuse(config, spec):
        raise UserError(f"Expected less than {config.batch_size}.")

    monkeypatch.setattr(tune_desk, "check_training_fits", refuse)
    told = fake.on_estimate(*values(batch_size=4096))
    assert 'role="alert"' in told and "Expected less than 4096." in told and "Memory" not in told


# --- the same for programs ----------------------------------------------------------------------


def test_programs_fit_and_upload_the_same(desk, uploads, monkeypatch, answer):
    monkeypatch.setattr("app.finetune.api.answer_or_refuse", lambda work: work())
    endpoints = TuneEndpoints(desk.requests, desk.known.things)
    found = endpoints.fit_targets(understanding=f"capture:{answer.key.id}", stages=3, name="mine")
    assert found["saved"] == "saved:mine" and "Generation keeps its stages" in found["told"]
    config = desk.requests.config({"targets": found["targets"]}, keep=True)
    assert desk.requests.describe(config)["targets"]["understanding"] == found["targets"]["understanding"]
    marked = {"meta": {"_type": "gradio.FileData"}}
    rows = write_rows(uploads / "u.jsonl", [asking("a.png"), drawing("a.png"), "{"])
    images = write_zip(uploads / "i.zip", {"a.png": picture()})
    report = endpoints.upload_dataset(marked | {"path": str(rows)}, marked | {"path": str(images)})
    assert report["rows"] == {"understanding": 1, "generation": 1} and report["bad_rows"][0]["line"] == 3
    assert desk.requests.config({"data": report["data"], "skip_bad_rows": True}).images
    with pytest.raises(UserError, match="Expected an uploaded JSON or JSONL file"):
        endpoints.upload_dataset({"path": "/etc/passwd"}, {"path": "/etc/passwd"})
