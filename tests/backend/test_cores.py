"""Cores within a container's quota, as the kernel writes it down in both of its ways."""

import os

import pytest
import torch

from backend import cores
from backend.models import loading


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Eight cores, and a folder for what the kernel says of the container."""
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("told", "count"),
    [
        *(("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("1600000 100000", 8)),
        *(("max 100000", 8), ("nonsense", 8), ("1 0", 8), ("", 8)),
    ],
)
def test_a_quota_of_version_2(container, told, count):
    (container / "cpu.max").write_text(told)
    assert cores.count_cores() == count


@pytest.mark.parametrize(("quota", "count"), [("300000", 3), ("-1", 8), ("0", 8)])
def test_a_quota_of_version_1(container, quota, count):
    (container / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (container / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.count_cores() == count


def test_without_a_quota_all_that_it_may_run_on(container, monkeypatch):
    assert cores.count_cores() == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores.count_cores() == 5


def test_a_model_is_loaded_with_one_thread_less(container, monkeypatch):
    (container / "cpu.max").write_text("300000 100000")
    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    loading.choose_device_and_dtype()
    assert seen == [2]
