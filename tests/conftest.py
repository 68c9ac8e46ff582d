"""Fixtures shared by the rooms' tests: the embedded model, and a random Janus checkpoint in the real format."""

from __future__ import annotations

import os
import tempfile

import pytest
import torch

os.environ.setdefault("AIA_LENS_DATA", tempfile.mkdtemp(prefix="aia-lens-tests-"))  # before the registry is read

from backend.families import load_model
from backend.models.specs import SPECS, ModelSpec
from tests.browser.chromium import chromium  # one for every folder: two would not start in one process
from tests.checkpoints import janus

__all__ = ["chromium"]

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_janus():
    """The embedded model, loaded once."""
    return load_model(SPECS[0])


@pytest.fixture
def tiny_janus_copy():
    """The embedded model, loaded for one test that changes it."""
    return load_model(SPECS[0])


@pytest.fixture(scope="session")
def random_janus_spec(tmp_path_factory) -> ModelSpec:
    """A folder as the hub would hold it, with random weights."""
    return janus.make(tmp_path_factory.mktemp("random-janus"))


@pytest.fixture(scope="session")
def random_janus(random_janus_spec):
    return load_model(random_janus_spec)
