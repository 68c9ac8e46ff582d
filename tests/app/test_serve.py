"""What the server does beside the page: the queue moves on whatever happens, and models make room for runs."""

import subprocess
import sys
from pathlib import Path

import app.serve
from aia.config import make_config
from app.serve import keep_ticking, room_maker
from backend.finetuning.memory import training_memory
from backend.models.specs import SPECS, find_spec
from tests.backend.stand_ins import wait_for

ROOT = Path(__file__).resolve().parents[2]


def test_the_queue_goes_on_after_a_look_at_it_failed(monkeypatch, caplog):
    class Runs:
        ticks = 0

        def tick(self):
            self.ticks += 1
            if self.ticks == 1:
                raise RuntimeError("something unforeseen")

    monkeypatch.setattr(app.serve, "TICK_SECONDS", 0.001)
    runs = Runs()
    keep_ticking(runs)
    wait_for(lambda: runs.ticks >= 3)
    assert "something unforeseen" in caplog.text


class Engine:
    """Notes how many bytes it was asked to make room for."""

    def __init__(self):
        self.asked = []

    def spec(self, name):
        return find_spec(name)

    def make_room(self, needed):
        self.asked.append(needed)
        return False


def test_a_run_that_is_about_to_start_asks_for_the_memory_it_will_take():
    engine, config = Engine(), make_config(batch_size=32)
    assert room_maker(engine)(config) is False
    assert engine.asked == [training_memory(config, SPECS[0]).total]


def test_a_run_of_an_unknown_model_is_left_to_say_so_itself():
    engine = Engine()
    assert room_maker(engine)(make_config(model="gone")) is True and engine.asked == []


def test_gradio_is_not_imported_before_it_is_told_where_uploads_go():
    """It takes its folder from the environment when it is imported; and bad settings fail in a second, not in ten."""
    code = "import sys, app.serve; print('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "False\n"
