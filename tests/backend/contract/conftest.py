"""Fixtures of the contract: each family's random checkpoint and every embedded model, by what they can do.

A test that asks for `seeing` runs for every model that answers about pictures, `drawing` for every one that draws,
`training` for every one that can be fine-tuned, `drawing_training` for those of them that draw. Ask for `random_…` to
leave out the embedded models, which are slower, `embedded_…` for them alone, and for `copy_of` to change a model.
"""

from __future__ import annotations

from functools import cache

import pytest

from aia.intensity import Task
from backend.families import FAMILIES, as_trainable, load_model
from backend.models.specs import SPECS
from tests import checkpoints

RANDOM = {f"random-{name}": checkpoints.module_of(name).TASKS for name in checkpoints.FAMILIES}
EMBEDDED = {spec.name: spec.tasks for spec in SPECS if spec.embedded}
FAMILY_OF = {f"random-{name}": name for name in checkpoints.FAMILIES} | {s.name: s.family for s in SPECS}


def names_for(fixture: str) -> list[str]:
    """Names of the models that a fixture stands for."""
    names = {"random": RANDOM, "embedded": EMBEDDED}.get(fixture.split("_")[0], RANDOM | EMBEDDED)
    task = Task.GENERATION if "drawing" in fixture else Task.UNDERSTANDING
    return [
        name
        for name, tasks in names.items()
        if task in tasks and ("training" not in fixture or FAMILIES[FAMILY_OF[name]].training)
    ]


LOADED = ("seeing", "drawing", "random_seeing", "random_drawing")
TRAINABLE = ("training", "drawing_training", "random_training", "embedded_training")


def pytest_generate_tests(metafunc):
    for fixture in {*LOADED, *TRAINABLE} & set(metafunc.fixturenames):
        metafunc.parametrize(fixture, names_for(fixture), indirect=True, scope="session")


@pytest.fixture(scope="session")
def spec_of(tmp_path_factory):
    """The spec of a name; a random checkpoint is written when it is first wanted."""

    @cache
    def find(name: str):
        if name in EMBEDDED:
            return next(spec for spec in SPECS if spec.name == name)
        return checkpoints.module_of(FAMILY_OF[name]).make(tmp_path_factory.mktemp(name))

    return find


@pytest.fixture(scope="session")
def load_once(spec_of):
    return cache(lambda name: load_model(spec_of(name)))


@pytest.fixture
def copy_of(spec_of):
    """Load a model anew, for a test that changes it."""
    return lambda model, **settings: load_model(spec_of(model.name), **settings)


def _make_fixture(name: str, of=lambda model: model):
    @pytest.fixture(scope="session", name=name)
    def load(request, load_once):
        return of(load_once(request.param))

    return load


seeing, drawing, random_seeing, random_drawing = (_make_fixture(name) for name in LOADED)
training, drawing_training, random_training, embedded_training = (
    _make_fixture(name, as_trainable) for name in TRAINABLE
)


@pytest.fixture
def family_of():
    """The module of tests/checkpoints that a model belongs to."""
    return lambda model: checkpoints.module_of(FAMILY_OF[model.name])
