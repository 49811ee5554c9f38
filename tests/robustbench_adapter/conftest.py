"""What the tests of the RobustBench adapter share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from few_steps import few_steps

from iaside_plugins.value_table.speed import Speed

COST = import_module("iaside_plugins.adapters.robustbench_adapter.cost")  # not the function


@pytest.fixture
def quick_attacks() -> Iterator[None]:
    """AutoAttack takes a tenth of its steps."""
    with few_steps():
        yield


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No passes are timed, so that those of the run can be counted."""
    monkeypatch.setattr(COST, "speed_of", lambda *_, **__: Speed())


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty current folder, with the cache beside it."""
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
