"""What the tests of the RobustBench adapter share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FEWER = 10  # times fewer steps and queries of AutoAttack


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of whatever steps an AutoAttack has been given: ours still differ if they would."""
    library = pytest.importorskip("pyautoattack", reason="needs the extra robustbench")
    run = library.AutoAttack.run_standard_evaluation

    def quick(self: Any, *images: Any, **options: Any) -> Any:
        for attack in (self.apgd, self.apgd_targeted, self.fab):
            attack.n_iter //= FEWER
        self.square.n_queries //= FEWER
        return run(self, *images, **options)

    monkeypatch.setattr(library.AutoAttack, "run_standard_evaluation", quick)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty current folder, with the cache beside it."""
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
