"""Memory pressure: what can be made again goes, in order and only as far as needed; what is at work stays."""

import pytest

from app.pressure import Pressure, container_limit, container_use, make_pressure, resident
from backend.engine import Engine
from backend.interface import UserError
from backend.kept.store import CaptureStore

MIB = 2**20


class Memory:
    """Bytes used, and what lets some of them go."""

    def __init__(self, used):
        self.used = used * MIB

    def let_go(self, mib):
        def go():
            self.used -= mib * MIB

        return go


def test_nothing_goes_below_the_limit():
    memory = Memory(100)
    assert Pressure(100 * MIB, lambda: memory.used, {"a": memory.let_go(50)}).look() == [] and memory.used == 100 * MIB


def test_only_as_much_goes_as_is_needed_the_first_first(caplog):
    memory = Memory(120)
    pressure = Pressure(100 * MIB, lambda: memory.used, {"captures": memory.let_go(30), "the model": memory.let_go(50)})
    assert pressure.look() == ["captures"] and pressure.look() == []
    assert "let go captures; 90 of 100 MiB used" in caplog.text


def test_all_goes_where_that_is_not_enough_and_it_is_told_once(caplog):
    memory = Memory(200)
    pressure = Pressure(100 * MIB, lambda: memory.used, {"captures": lambda: None, "the model": lambda: None})
    assert pressure.look() == pressure.look() == ["captures", "the model"]
    assert caplog.text.count("memory was short") == 1


def test_what_is_at_work_stays_until_the_next_look():
    def refuse():
        raise UserError("The model is at work.")

    assert Pressure(0, lambda: 1, {"the model": refuse}).look() == []


def test_the_model_is_unloaded_and_comes_back_when_it_is_wanted(tmp_path):
    engine = Engine(CaptureStore(tmp_path / "captures"))
    before = engine.load("tiny-janus")
    reliefs = {"captures in front": engine.unpacked.forget, "the model": engine.unload}
    assert make_pressure(1, reliefs).look() == [*reliefs]  # one MiB: everything is too much
    assert engine.state() == "no model loaded"
    assert engine.load("tiny-janus") is not before and engine.state().startswith("tiny-janus")


@pytest.mark.parametrize(("told", "limit"), [("1048576\n", MIB), ("max\n", None), (None, None)])
def test_a_container_tells_its_limit(tmp_path, told, limit):
    if told:
        (tmp_path / "memory.max").write_text(told)
    assert container_limit(tmp_path) == limit


def test_what_a_container_uses_is_without_the_files_that_the_system_keeps(tmp_path):
    (tmp_path / "memory.stat").write_text("anon 100\nfile 5000\nkernel 20\nshmem 3\ninactive_file 4000\n")
    assert container_use(tmp_path) == 123 and resident() > 10 * MIB
