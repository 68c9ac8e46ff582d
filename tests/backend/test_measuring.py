"""Many samples: which prompts, what is written down, and reports that do not depend on being interrupted."""

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aia.evaluation import held_out_drawings
from aia.intensity import Definition, Task
from backend.background import run_process
from backend.background.run_children import Children
from backend.background.runs import Runs
from backend.interface import Cancelled, UserError
from backend.kept.measurements import Measurements
from backend.measurement import DEFAULT_SAMPLING, describe_task, iterate_captures, measure_model
from backend.measuring.config import make_config
from backend.measuring.plan import make_plan
from backend.measuring.prompt_files import MAX_FILE_BYTES, PromptFiles, parse_prompts, read_prompt_file
from backend.measuring.prompts import text_prompts, world_prompts
from backend.measuring.rows import DEFINITIONS, Row, RowLog, make_row
from backend.measuring.runs import MeasureRun, Measures, measures_beside
from backend.measuring.work import measure_folder, measure_in, report_on
from backend.models.specs import find_spec
from tests.app.fakes import FakeModel
from tests.backend.library_fakes import make_report
from tests.backend.stand_ins import CONFIG, gone, pid_of, until, wait_for

FIVE = make_config(samples=5, understanding=5, generation=5, seed=3)


def made_row(index, values, kind="colour", tokens=5, task=Task.UNDERSTANDING):
    """Two heads per layer, whose mean by each definition is `values`, less 0.1 per definition after the first."""
    mean = np.array(values, np.float32)
    heads = [np.stack([mean - 0.05 - shift, mean + 0.05 - shift], 1) for shift in (0, 0.1, 0.2)]
    return Row(task, index, kind, tokens, np.stack(heads).astype(np.float32))


# --- rows and reports ---


def test_a_report_of_three_rows_is_what_one_reckons_by_hand():
    rows = [made_row(0, [0.3, 0.6]), made_row(1, [0.5, 0.6], "shape", 9), made_row(2, [math.nan, math.nan])]
    part = describe_task(rows, "m", Definition.FIGURE, DEFAULT_SAMPLING[Task.UNDERSTANDING])
    assert (part["n"], part["left_out"], part["kinds"], part["tokens"]) == (2, [2], ["colour", "shape"], [5, 9])
    assert part["mean"] == pytest.approx([0.4, 0.6]) and part["std"] == pytest.approx([math.sqrt(0.02), 0], abs=1e-6)
    assert part["spread"] == pytest.approx(math.sqrt(0.02) / 2, abs=1e-6)
    np.testing.assert_allclose(part["heads"], [[0.35, 0.45], [0.55, 0.65]], atol=1e-5)
    assert [other["definition"] for other in part["others"]] == ["training", "strict"]
    assert part["others"][1]["mean"] == pytest.approx([0.2, 0.4], abs=1e-6)
    np.testing.assert_allclose(part["others"][0]["heads"], [[0.25, 0.35], [0.45, 0.55]], atol=1e-5)


def test_a_row_counts_every_definition_exactly_as_its_capture_does():
    (capture,) = iterate_captures(FakeModel(), Task.GENERATION, 1, 0, DEFAULT_SAMPLING[Task.GENERATION])
    row = make_row(capture, 7, "counting")
    for definition in DEFINITIONS:
        assert np.array_equal(row.intensity(definition), capture.intensity(definition))
        assert np.array_equal(row.heads[DEFINITIONS.index(definition)], capture.head_intensity(definition))
    assert row.tokens == len(held_out_drawings(1, 0)[0].prompt.split()) and (row.index, row.kind) == (7, "counting")


def test_rows_come_back_bit_for_bit_and_whatever_is_damaged_is_passed_over(tmp_path):
    log = RowLog(tmp_path / "rows")
    assert log.read() == {}
    rows = [made_row(i, np.random.default_rng(i).random(4)) for i in range(3)]
    for row in rows[:2]:
        log.append(row)
    whole = log.path.read_bytes()
    for damage in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"task": "x"}',
        b"[" * 100_000,
        whole.splitlines()[1][:-30],
        b"\xff\xfe",
    ):
        log.path.write_bytes(whole + damage)  # as a kill leaves it, without an end
        log.append(rows[2])
        log.append(made_row(1, [0.5] * 4))  # the first of a number counts
        found = log.read()
        assert [index for _, index in found] == [0, 1, 2]
        assert all(np.array_equal(found[row.task, row.index].heads, row.heads) for row in rows)


@pytest.mark.parametrize(
    "change", [{"shape": [2, 4, 2]}, {"shape": [10**9, 1, 1]}, {"index": -1}, {"heads": "AAAA"}, {"task": 3}]
)
def test_a_row_of_another_form_is_passed_over(tmp_path, change):
    log = RowLog(tmp_path / "rows")
    log.append(made_row(0, [0.1] * 4))
    log.path.write_text(json.dumps(json.loads(log.path.read_text()) | change) + "\n")
    assert log.read() == {}


# --- interrupted and resumed ---


def measure(run, stop_after=None):
    """Measure with the fake model, asked to stop after so many rounds."""
    steps = []

    def listen(event):
        steps.extend([event] if event["event"] == "step" else [])

    return measure_in(run, listen, lambda: stop_after is not None and len(steps) >= stop_after, lambda _: FakeModel())


def begun(folder, config=FIVE):
    run = MeasureRun(folder)
    run.begin(config)
    return run


def test_a_measurement_that_was_stopped_ends_with_the_report_of_one_that_was_not(tmp_path):
    whole = measure(begun(tmp_path / "whole"))
    run = begun(tmp_path / "stopped")
    for rounds in (1, 2):
        with pytest.raises(Cancelled):
            measure(run, rounds)
    assert len(run.rows.read()) == 6
    with run.rows.path.open("ab") as file:
        file.truncate(run.rows.path.stat().st_size - 20)  # as a kill in the middle of a line leaves it
    assert len(run.rows.read()) == 5
    assert measure(run) == whole
    steps = [event["step"] for event in run.read_events() if event["event"] == "step"]
    assert steps == [1, 2, 3, 3, 4, 5]  # the third was measured again, in part


def test_it_is_the_report_that_measuring_at_once_gives(tmp_path):
    sampling = {task: FIVE.sampling(task) for task in Task}
    at_once = measure_model(FakeModel(), tuple(Task), 5, 3, sampling=sampling)
    assert measure(begun(tmp_path / "run")) == {"adapter": None, "precision": "float32"} | at_once


def test_other_weights_are_refused_on_resuming(tmp_path):
    run = begun(tmp_path / "run")
    with pytest.raises(Cancelled):
        measure(run, 1)
    other = FakeModel()
    other.revision = "another"
    with pytest.raises(UserError, match=r"^Expected the weights and the precision that this measurement began with"):
        measure_in(run, lambda event: None, bool, lambda _: other)


def test_rows_so_far_are_a_report_of_their_own(tmp_path):
    run = begun(tmp_path / "run")
    with pytest.raises(Cancelled):
        measure(run, 3)
    part = report_on(FIVE, "tiny-janus", None, run.rows.read())
    assert part["understanding"]["n"] == 3 and part["samples"] == 5 and part["correlation"]["r"] is not None


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    run = begun(tmp_path / "run")
    monkeypatch.setattr(RowLog, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"could not be written down \(No space left on device\); make room"):
        measure(run)


# --- real processes ---


def measure_in_child(folder):
    """The process of a measurement, but for its imports."""
    torch.set_num_threads(1)
    return run_process.main([folder], measure_folder)


@pytest.fixture
def measures(folder, monkeypatch, forks):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here = "tests.backend.test_measuring:measure_in_child"
    monkeypatch.setattr(Children, "_spawn", lambda _, run, log: forks.fork(here, str(run.path), log=log))
    return measures_beside(Runs(folder))


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "runs"
    for path in tmp_path.glob("*/*/process.json"):
        process = json.loads(path.read_text())
        if run_process.is_alive(process["pid"], process["started"]):
            os.killpg(process["pid"], signal.SIGKILL)


def test_killed_twice_and_resumed_it_keeps_the_report_of_an_uninterrupted_one(measures, tmp_path, tiny_janus):
    config = make_config(samples=8, understanding=8, generation=7, seed=1)
    own = measures.start(config, "killed")
    run = measures.run(own)
    for rows in (2, 5):
        until(measures, own, "running")
        wait_for(lambda rows=rows: len(run.rows.read()) >= rows, 120)
        os.killpg(pid := pid_of(measures, own), signal.SIGKILL)
        wait_for(lambda pid=pid: gone(pid))
        other = Measures(measures.folder)  # as after the server was restarted
        assert until(other, own, "interrupted").reason.endswith("Resume the run.")
        measures.resume(own)
    assert until(measures, own, "finished", seconds=120).step == 8
    result = measures.result(own)
    begin = {task: config.sampling(task) for task in Task}
    whole = begun(tmp_path / "whole", config)
    assert result["report"] == measure_in(whole, lambda event: None, bool, lambda _: tiny_janus)
    assert begin[Task.GENERATION].seed == 1 and result["report"]["generation"]["n"] == 7
    kept = Measurements(tmp_path / "measurements")
    assert kept.get(result["measurement"]).name == "killed"
    fitted = kept.get(result["measurement"]).curve(Task.UNDERSTANDING, Definition.STRICT)[0]
    assert fitted.tolist() == result["report"]["understanding"]["others"][1]["mean"]


def test_cancelled_it_keeps_its_rows_and_a_queued_one_leaves_at_once(measures):
    first, second = (measures.start(make_config(samples=500, understanding=0, generation=500)) for _ in "ab")
    until(measures, first, "running")
    run = measures.run(first)
    wait_for(lambda: run.rows.read(), 120)
    measures.cancel(second)
    assert measures.status(second).state == "stopped"
    measures.cancel(first)
    assert until(measures, first, "stopped").reason is None
    assert 1 <= len(run.rows.read()) < 500 and measures.result(first) is None
    assert {event["event"] for event in run.read_events()} == {"started", "step", "stopped"}


def test_runs_and_measurements_share_one_queue(folder, stand_in):
    runs = Runs(folder, stand_in("wait"))
    measures = measures_beside(runs)
    measures._children._command = stand_in("wait")
    (train,) = runs.start(CONFIG, control=False)
    ask = measures.start(FIVE)
    (later,) = runs.start(CONFIG, control=False)
    measures.tick()  # it is not its turn
    assert [measures.status(ask).place, runs.status(later).place, runs.status(train).place] == [2, 3, 1]
    until(runs, train, "running")
    for _ in range(3):
        measures.tick()
    assert measures.status(ask).state == "queued" and measures.status(ask).place == 1
    (folder / train / "done").touch()
    until(runs, train, "finished")
    runs.tick()  # nor is it that of the later run
    assert runs.status(later).state == "queued"
    until(measures, ask, "running")
    runs.tick()
    assert runs.status(later).state == "queued"
    measures.cancel(ask)
    until(measures, ask, "stopped")
    until(runs, later, "running")
    (folder / later / "done").touch()
    until(runs, later, "finished")


# --- what is asked ---


def test_the_first_prompts_are_the_same_whatever_the_number():
    for task in Task:
        assert [p.text for p in world_prompts(task, 3, 0)] == [p.text for p in world_prompts(task, 9, 0)[:3]]
    lines = [f"prompt {i}" for i in range(20)]
    few, many = text_prompts(lines, 4, 1), text_prompts(lines, 50, 1)
    assert few == many[:4] and sorted(p.text for p in many) == sorted(lines)  # none twice
    assert text_prompts(lines, 4, 2) != few


def test_own_rows_are_asked_about_their_own_pictures(tmp_path):
    (tmp_path / "images").mkdir()
    rows = []
    for number in range(3):
        Image.new("RGB", (64, 64), (90 * number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
        said = [("human", f"<image>\nquestion {number}?"), ("gpt", "yes"), ("human", "and then?"), ("gpt", "no")]
        rows.append({"image": f"{number}.png", "conversations": [{"from": who, "value": text} for who, text in said]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = []

    class Listening(FakeModel):
        def understand(self, image, prompt, sampling, cancel=None):
            asked.append((prompt, image.getpixel((0, 0))[0]))
            yield from super().understand(image, prompt, sampling, cancel)

    data = {"data": str(tmp_path / "rows.jsonl"), "images": str(tmp_path / "images"), "data_name": "mine.jsonl"}
    config = make_config(samples=100, understanding=3, generation=0, **data)
    report = measure_in(begun(tmp_path / "run", config), lambda event: None, bool, lambda _: Listening())
    assert sorted(asked) == [(f"question {number}?", 90 * number) for number in range(3)]
    assert report["data"] == "mine.jsonl" and report["understanding"]["kinds"] is None
    assert "generation" not in report and "correlation" not in report
    (tmp_path / "rows.jsonl").open("a").write("{}\n")
    with pytest.raises(UserError, match=r"got 1 bad of 4 \(line 4: no image\)"):
        measure_in(begun(tmp_path / "bad", config), lambda event: None, bool, lambda _: Listening())


def test_a_text_is_read_line_by_line():
    found = parse_prompts("\ufeffa red star\n\n  a  blue\tcircle \r\na red star\n".encode())
    assert found.prompts == ("a red star", "a blue circle") and found.bad == 0
    found = parse_prompts(b"good\n\xff\xfe\n" + b"x" * 2001 + b"\nzero\x00byte\nlast")
    assert found.prompts == ("good", "last")
    assert [(b.line, b.problem) for b in found.bad_lines] == [
        (2, "not UTF-8 text"),
        (3, "2,001 characters, more than 2,000"),
        (4, "characters that are no text"),
    ]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "Expected prompts, one a line, got no lines; choose another file."),
        (b"\xff\n\xff", "got 2 lines, all bad (line 1: not UTF-8 text; line 2: not UTF-8 text)"),
        (b"x\n" * (MAX_FILE_BYTES // 2 + 1), "Expected a text of at most 4 MiB"),
    ],
)
def test_a_text_without_prompts_is_one_sentence(tmp_path, data, says):
    (tmp_path / "p.txt").write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_prompt_file(tmp_path / "p.txt")
    assert says in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_bad_lines_are_refused_unless_they_may_be_skipped(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(UserError, match=r"^Expected only good lines, got 1 bad \(line 2: not UTF-8 text\)"):
        read_prompt_file(tmp_path / "p.txt", skip_bad=False)
    with pytest.raises(UserError, match="no such file"):
        read_prompt_file(Path("/dev/zero"))


def test_prompt_files_are_kept_by_content(tmp_path):
    files = PromptFiles(tmp_path / "prompts")
    (tmp_path / "p.txt").write_bytes(b"a star\n\xff\na circle\n")
    kept = files.take(tmp_path / "p.txt", "my\nprompts.txt")
    assert files.take(tmp_path / "p.txt", "again.txt").id == kept.id and len(files.list()) == 1
    assert (kept.count, kept.bad, kept.bad_lines[0].line, kept.name) == (2, 1, 2, "my?prompts.txt")
    assert files.path(kept.id).read_text() == "a star\na circle\n"
    assert files.id_of(str(files.path(kept.id))) == kept.id and files.id_of("/etc/passwd") is None
    for bad in ("", "../../etc", "0" * 16, None):
        with pytest.raises(UserError, match=r"^Expected the id of a file of prompts"):
            files.get(bad)
    (files.folder / f"{kept.id}.json").write_text("[]")
    assert files.list() == []


def test_a_plan_leaves_out_what_cannot_be_and_says_so():
    janus, sees = find_spec("tiny-janus"), find_spec("qwen3-vl-2b")
    assert make_plan(janus, None, 100).settings() == {"understanding": 100, "generation": 100}
    plan = make_plan(sees, None, 100)
    assert plan.settings() == {"understanding": 100, "generation": 0}
    assert plan.notes == ("Qwen3-VL 2B cannot do generation: only answering is measured.",)
    plan = make_plan(janus, None, 100, {Task.GENERATION: 40})
    assert plan.settings() == {"understanding": 0, "generation": 40}
    assert plan.notes == (
        "There are no questions in this file: only drawing is measured.",
        "There are 40 prompts for drawings: all of them are measured.",
    )
    for task, available in ((Task.GENERATION, None), (None, {Task.GENERATION: 40})):
        with pytest.raises(UserError, match=r"^Expected prompts for a task of Qwen3-VL 2B, got none"):
            make_plan(sees, task, 100, available)
    with pytest.raises(UserError, match="at least 2 samples"):
        make_plan(janus, None, 1)


@pytest.mark.parametrize(
    "settings",
    [{"samples": 1}, {"samples": 10**9}, {"understanding": 1}, {"seed": -1}, {"guidance": math.nan}, {"extra": 1},
     {"understanding": 0, "generation": 0}, {"model": ""}, {"definition": "loose"}, {"precision": "int1"}],
)  # fmt: skip
def test_bad_settings_are_one_sentence(settings):
    with pytest.raises(UserError, match=r"^Expected") as caught:
        make_config(**settings)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


# --- what is kept ---


def test_a_measurement_of_before_all_definitions_keeps_its_id_and_is_read(tmp_path):
    kept = Measurements(tmp_path)
    assert kept.save(make_report()) == "f148ccb073dc468e"  # as the first version wrote it
    old = kept.get("f148ccb073dc468e")
    part = old.report.tasks[Task.GENERATION]
    assert list(part.counted) == [Definition.STRICT] and part.heads is None
    assert old.counted(Task.GENERATION, Definition.FIGURE).definition == Definition.STRICT  # the one there is


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part.update(heads=[[0.1, 0.2]] * 7),
        lambda part: part.update(heads=[[0.1, 0.2]] * 7 + [[0.1]]),
        lambda part: part.update(heads=[[7.0]] * 8),
        lambda part: part.update(kinds=["colour"]),
        lambda part: part.update(kinds=["x" * 61] * 3),
        lambda part: part.update(tokens=[1, 2, -3]),
        lambda part: part["others"].append(part["others"][0]),
        lambda part: part["others"][0].update(definition="figure"),
        lambda part: part["others"][0].update(mean=[0.1], std=[0.1], intensities=[[0.1]] * 3),
        lambda part: part["others"][0].update(intensities=[[0.1] * 8]),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, change):
    report = measure_model(FakeModel(), tuple(Task), 3, 0)
    kept = Measurements(tmp_path)
    kept.save(report)
    change(report["generation"])
    with pytest.raises(UserError, match=r"^Expected a measurement, got a file with a wrong"):
        kept.save(report)
