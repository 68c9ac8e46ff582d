"""The page's model makes room for a run, says so, and comes back when there is room again."""

import pytest
from PIL import Image

from aia import world
from backend.background.room import MADE_ROOM, Room
from backend.background.runs import Runs
from backend.engine import Engine
from backend.finetuning.memory import training_memory
from backend.interface import Finished, Notice, UserError
from backend.kept.store import CaptureStore
from backend.models.loading_memory import loading_memory
from backend.models.specs import SPECS, Precision
from tests.backend.stand_ins import CONFIG, start, until, until_step

PICTURE = Image.fromarray(world.draw_scene(world.Scene((world.Thing("red", "star", "large", 32, 32),))))
NEEDED = training_memory(CONFIG, SPECS[0]).total
ITS_OWN = sum(part.bytes for part in loading_memory(SPECS[0], Precision.FULL).values())


class Device:
    """Memory of which a test says how much is free."""

    def __init__(self, free):
        self.free = free

    def __call__(self):
        return self.free


@pytest.fixture
def device():
    return Device(2 * NEEDED)


@pytest.fixture
def engine(tmp_path, device, tiny_janus):
    engine = Engine(CaptureStore(tmp_path / "captures"), room=Room(device))
    engine.adopt(tiny_janus)
    return engine


@pytest.fixture
def runs(folder, stand_in, engine):
    return Runs(folder, stand_in("wait"), lambda config: engine.make_room(training_memory(config, SPECS[0]).total))


def ask(engine, question="what colour is the star?"):
    return engine.understand("tiny-janus", PICTURE, question)


def test_a_run_that_fits_beside_the_model_leaves_it_alone(runs, engine):
    until_step(runs, start(runs))
    assert engine.state().startswith("tiny-janus")


def test_a_run_that_does_not_fit_has_the_model_let_go_before_it_starts(runs, engine, device):
    run_id = start(runs)
    device.free = NEEDED - 1
    until(runs, run_id, "running")
    assert engine.state() == MADE_ROOM


def test_a_model_at_work_is_waited_for(runs, engine, device):
    run_id, answer = start(runs), ask(engine)
    device.free = NEEDED - 1
    next(answer)
    runs.tick()
    assert (runs.status(run_id).state, runs.status(run_id).place) == ("queued", 1)
    assert isinstance([*answer][-1], Finished)
    until(runs, run_id, "running")
    assert engine.state() == MADE_ROOM


def test_the_model_comes_back_where_it_fits_and_says_that_it_was_away(engine, device):
    device.free = NEEDED - 1
    assert engine.make_room(NEEDED) and engine.make_room(NEEDED)
    device.free = ITS_OWN
    first, second = [*ask(engine)], [*ask(engine, "how many objects are there?")]
    notices = [event.text for event in first if isinstance(event, Notice)]
    assert notices == ["tiny-janus had made room for a run and was loaded again."]
    assert isinstance(first[-1], Finished) and not any(isinstance(event, Notice) for event in second)
    assert engine.state().startswith("tiny-janus")


def test_the_model_is_refused_in_one_sentence_while_it_does_not_fit(engine, device):
    device.free = ITS_OWN - 2**20
    engine.make_room(NEEDED)
    with pytest.raises(UserError, match=r"^tiny-janus made room for a run and does not fit beside it; wait"):
        [*ask(engine)]
    assert engine.state() == MADE_ROOM
    device.free += 2**20
    assert isinstance([*ask(engine)][-1], Finished)


def test_a_model_that_never_fitted_is_refused_by_its_own_sentence(engine, device):
    device.free = 0
    assert isinstance([*ask(engine)][-1], Finished), "what is loaded stays"
    with pytest.raises(UserError, match=r"Expected .* of free memory for tiny-janus in full precision, got 0 MiB"):
        Engine(engine.store, room=Room(device)).load("tiny-janus")
