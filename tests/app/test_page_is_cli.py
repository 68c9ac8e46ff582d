"""A run started from the page is the run that the command line starts: the same numbers."""

import json
import subprocess
import sys
import time
from pathlib import Path

from aia.config import TrainingConfig
from app.finetune.form import NAMES
from app.finetune.page import Finetune
from app.finetune.request import Requests
from backend.background.runs import Runs
from backend.finetuning.finetune import RunFolder

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"steps": 4, "batch_size": 2, "probe_every": 2, "probe_samples": 4, "score_samples": 4, "learning_rate": 1e-3}
NUMBERS = ("before", "after", "losses")
SECONDS = 400


def start_from_the_page(folder, **settings):
    """Click Start with the form as it comes, but for these settings; → the finished run's folder."""
    runs = Runs(folder / "runs")
    tab = Finetune(Requests(runs, folder))
    values = TrainingConfig().model_dump(mode="json") | settings
    tab.on_start({}, *(values[name] for name in NAMES), {}, False, "from the page")
    (run,) = runs.list()
    deadline = time.monotonic() + SECONDS
    while runs.status(run.id).state in ("queued", "running"):
        assert time.monotonic() < deadline, runs.log_tail(run.id)
        time.sleep(0.5)
        tab.on_poll({"run": run.id})
    assert runs.status(run.id).state == "finished", runs.log_tail(run.id)
    return RunFolder(runs.folder / run.id)


def run_the_command(folder, **settings):
    """`python -m app finetune` with the same settings."""
    given = [f"--set={name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "app", "finetune", "--run-dir", str(folder), *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    return RunFolder(folder)


def test_curves_losses_scores_and_samples_are_those_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums in another order would differ in the last digits
    page = start_from_the_page(tmp_path / "page", **SMALL)
    command = run_the_command(tmp_path / "command", **SMALL)
    mine, theirs = (json.loads(folder.result.read_text()) for folder in (page, command))
    assert mine["config"] == theirs["config"]
    for name in NUMBERS:
        assert mine[name] == theirs[name], name
    assert mine["after"]["scores"]["generation"]["overall"] is not None and len(mine["losses"]) == 4
    moments = [[e["items"] for e in f.read_events() if e["event"] == "sampled"] for f in (page, command)]
    assert moments[0] == moments[1] and len(moments[0]) == 3
    for picture in page.samples.rglob("*.png"):
        assert picture.read_bytes() == (command.samples / picture.relative_to(page.samples)).read_bytes()
