"""Progress in passes: parts of one bar, weights, and what a terminal, a notebook and a log see."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import oracles
import pytest

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.value_table import progress
from iaside_plugins.value_table.progress import (
    GRADIENT_PASSES,
    Progress,
    advance,
    beside_bars,
    part,
)


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_work_inside_other_work_moves_the_outermost_bar():
    with Progress({"forward": 10, "gradient": 4}, False) as outer:
        assert outer.total == 10 + 4 * GRADIENT_PASSES
        with Progress({"forward": 10}, False) as inner:
            inner.update({"forward": 4})
            assert (inner.n, outer.n) == (4, 4)
            inner.set_work({"forward": 6})  # fewer images are enough
            assert outer.total == 6 + 4 * GRADIENT_PASSES
            inner.update({"forward": 1})
        assert outer.n == 5
        assert outer.total == 5 + 4 * GRADIENT_PASSES  # the sixth was not needed
        advance({"gradient": 4})
        assert outer.n == outer.total
    advance({"forward": 1})  # of nobody
    assert outer.n == outer.total


def test_a_part_counts_what_was_planned_however_many_passes_it_took():
    with Progress({"forward": 20}, False) as bar:
        with part({"forward": 10}):
            advance({"forward": 3})
            assert bar.n == 3
        assert bar.n == 10
        with bar.part({"forward": 5}):
            advance({"forward": 50})
            assert bar.n == 15
        with pytest.raises(KeyError), bar.part({"forward": 5}):
            raise KeyError
        assert bar.n == 15
        bar.set_left({"forward": 2})
        assert bar.total == 17


def test_weights_of_the_outermost_count():
    with Progress({"corrupted": 10}, False, weights={"corrupted": 3.0}) as outer:
        with Progress({"corrupted": 10}, False) as inner:
            inner.update({"corrupted": 1})
        assert (outer.n, outer.total) == (3, 3)


def test_a_log_gets_a_plain_line_now_and_then(capsys, monkeypatch):
    times = iter([0.0, 10.0, 111.0, 112.0, 150.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with Progress({"forward": 300}, True, "evaluate") as bar:
        for n in (50, 61, 1, 1):
            bar.update({"forward": n})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "iaside: evaluate 37 %, 2 of 5 min"
    assert second == "iaside: evaluate 38 %, 2 of 7 min"


def test_a_kernels_library_alone_is_no_notebook(monkeypatch):
    kernel = SimpleNamespace(IPKernelApp=SimpleNamespace(initialized=lambda: False))
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", kernel)
    monkeypatch.setitem(sys.modules, "ipykernel", kernel)
    assert not progress._in_a_notebook()


def test_short_work_leaves_no_line_in_a_log(capsys):
    spectral_importance(oracles.TinyNet(), oracles.sample(2), Protocol(2), show_progress=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_and_a_notebook_get_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with Progress({"forward": 6}, True, "evaluate") as bar:
        bar.set_description("fgsm 0.5/255")
        bar.update({"forward": 6})
    assert "evaluate, fgsm 0.5/255: 100%" in terminal.getvalue()
    assert "6/6 passes" in terminal.getvalue()
    monkeypatch.undo()
    kernel = SimpleNamespace(IPKernelApp=SimpleNamespace(initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", kernel)  # its stderr is no terminal
    spectral_importance(oracles.TinyNet(), oracles.sample(2), Protocol(2), show_progress=True)
    assert "6/6 passes" in capsys.readouterr().err


def test_more_work_than_was_foretold_takes_nothing_of_what_is_to_come():
    with Progress({"forward": 30}, False) as outer:
        with Progress({"forward": 10}, False) as inner:
            inner.update({"forward": 25})
            assert (inner.n, inner.total) == (25, 25)
            assert (outer.n, outer.total) == (25, 45)
        outer.update({"forward": 30})
        assert (outer.n, outer.total) == (55, 55)


def test_what_is_written_meanwhile_has_lines_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "stdout", sys.stderr)
    with Progress({"forward": 10}, True, "title") as bar:
        bar.update({"forward": 5})
        with beside_bars():
            sys.stderr.write("a warning\n")
    text = sys.stderr.getvalue()
    assert "\ra warning\n\r" in text
    assert text.rindex("title") > text.index("a warning")
