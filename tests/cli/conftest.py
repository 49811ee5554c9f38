"""The command line in this process (a fresh one costs seconds), tiny models and tiny images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from image_files import make_tree, random_pixels, save
from tiny_model import WATCH

from iaside_plugins.cli import command as cli
from iaside_plugins.corruptions.frost import FROST_FILES
from iaside_plugins.value_table.speed import Speed, speed_of
from iaside_plugins.workflows import cost

CLASSES = ("airplane", "bird", "cat")  # of CIFAR-10: 0, 2, 3


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def refused(self, *fragments: str) -> None:
        """Assert exit code 2 and one line on stderr that holds every fragment."""
        assert self.code == 2, self
        assert self.err.startswith("iaside: "), self.err
        assert self.err.count("\n") == 1, self.err
        for fragment in fragments:
            assert fragment in self.err


Iaside = Callable[..., Run]


def _uncounted(*arguments: Any, **options: Any) -> Speed:
    """Time a model as the commands do, without a trace in `WATCH`."""
    before, WATCH._interrupt_after = vars(WATCH).copy(), None
    try:
        return speed_of(*arguments, **options)
    finally:
        vars(WATCH).update(before)


@pytest.fixture
def iaside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Iaside]:
    """Runs `iaside` with arguments; unfinished work goes to tmp_path/cache."""
    monkeypatch.setenv("IASIDE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cost, "speed_of", _uncounted)
    monkeypatch.setattr(WATCH, "_interrupt_after", None)
    monkeypatch.setattr(WATCH, "rows", 0)

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["iaside", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return Run(end.value.code, out, err)  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six colour images of 32 x 32 in folders of CIFAR-10's classes."""
    return make_tree(tmp_path_factory.mktemp("images"), CLASSES, n=2, height=32, width=32)


@pytest.fixture(scope="session")
def frost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Textures of noise, so that no test depends on an installed package."""
    folder = tmp_path_factory.mktemp("frost")
    for k, name in enumerate(FROST_FILES):
        save(folder / name, random_pixels(900 + k, 230, 230))
    return folder
