"""What the tests of the RobustBench adapter share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from few_steps import few_steps


@pytest.fixture
def quick_attacks() -> Iterator[None]:
    """AutoAttack takes a tenth of its steps."""
    with few_steps():
        yield


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty current folder, with the cache beside it."""
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
