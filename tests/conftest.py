"""Shared fixtures: the kit of real images and weights, and one CPU thread for every test."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from pathlib import Path

import hypothesis
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
os.environ.pop("COLUMNS", None)  # workers of pytest-xdist inherit one: text is as in a pipe
torch.set_num_threads(1)  # two threads are slower than one on the small tensors of the tests
hypothesis.settings.register_profile(  # no test is timed: other work may slow the machine down
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the kit, also through another fixture; skip `cuda` without a GPU."""
    for item in items:
        if "kit" in getattr(item, "fixturenames", ()):
            item.add_marker("kit")
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def kit() -> Path:
    """Return the kit's folder; skip the test, with the reason, where it is absent."""
    folder = Path(os.environ.get("IASIDE_KIT", ROOT.parent / "shared" / "kit"))
    if not (folder / "models.json").is_file():
        pytest.skip(f"the kit is not at {folder}; set IASIDE_KIT")
    return folder


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes start at once: forks of a process that has imported what they need.

    They get all that they are given by pickle, as those of a new interpreter do. Such ones are in
    `tests/parallel/test_processes.py`.
    """
    get_context = multiprocessing.get_context
    forks = get_context("forkserver")
    forks.set_forkserver_preload(["iaside_plugins", "oracles"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        forkserver.ensure_running()

    def context(method: str | None = None) -> multiprocessing.context.BaseContext:
        return forks if method == "spawn" else get_context(method)

    monkeypatch.setattr(multiprocessing, "get_context", context)


@pytest.fixture
def without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast passes are torch's own, as where onnxruntime is not installed."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
