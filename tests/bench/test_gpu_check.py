"""The command that checks a GPU: a part that dies stops no other, the table says what is off."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("gpu_check.py")


@pytest.fixture
def gpu_check(monkeypatch):
    """The command as a module; it adds to the module path, which is put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    where = importlib.util.spec_from_file_location("gpu_check", FILE)
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    return module


def _check(name, status="passed", reason="", measured=()):
    return {
        "kind": "check",
        "name": name,
        "status": status,
        "reason": reason,
        "measured": list(measured),
    }


def test_checks_after_one_that_ends_the_process_run_in_the_next(gpu_check, monkeypatch):
    parts = [
        ([{"kind": "begun", "name": "a"}, _check("a"), {"kind": "begun", "name": "b"}], "killed"),
        ([{"kind": "begun", "name": "c"}, _check("c"), _check("d", "not run", "needs x")], ""),
    ]
    done = []

    def part_lines(_part, _seconds, _options, known):
        done.append(list(known))
        return parts[len(done) - 1]

    monkeypatch.setattr(gpu_check, "part_lines", part_lines)
    lines = list(gpu_check.all_checks(100, argparse.Namespace()))
    assert done == [[], ["a", "b"]]
    assert [(line["name"], line["status"], line["reason"]) for line in lines] == [
        ("a", "passed", ""),
        ("b", "error", "killed"),
        ("c", "passed", ""),
        ("d", "not run", "needs x"),
    ]


def test_a_process_that_cannot_begin_is_not_started_again(gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check, "part_lines", lambda *_: ([], "exit code 1: no driver"))
    (line,) = gpu_check.all_checks(100, argparse.Namespace())
    assert line == {
        "kind": "part",
        "part": "checks",
        "status": "error",
        "reason": "exit code 1: no driver",
    }


def _options(**given):
    return argparse.Namespace(device="cpu", script=None, weights=None, quick=True, **given)


def test_a_part_that_hangs_is_ended(gpu_check, monkeypatch, tmp_path):
    program = tmp_path / "hangs.py"
    program.write_text(
        "import sys, time, pathlib\n"
        "file = pathlib.Path(sys.argv[sys.argv.index('--lines') + 1])\n"
        'file.write_text(\'{"kind": "speed"}\\n{"kind": "hal\')\n'
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(gpu_check, "__file__", str(program))
    monkeypatch.setattr(gpu_check, "GRACE", 0.5)
    start = time.monotonic()
    lines, ended = gpu_check.part_lines("small", 0.5, _options(), [])
    assert time.monotonic() - start < 20
    assert (lines, ended) == ([{"kind": "speed"}], "ended after 1 s")


def test_a_part_that_fails_says_its_last_line(gpu_check, monkeypatch, tmp_path):
    program = tmp_path / "fails.py"
    program.write_text("raise RuntimeError('no driver')")
    monkeypatch.setattr(gpu_check, "__file__", str(program))
    lines, ended = gpu_check.part_lines("small", 20, _options(), ["a", "b"])
    assert (lines, ended) == ([], "exit code 1: RuntimeError: no driver")


def test_the_table_says_the_size_of_what_is_off(gpu_check, monkeypatch):
    near = {"what": "values", "deviation": 2e-5, "bound": 1e-4, "ok": True}
    off = {"what": "hits", "deviation": 0.25, "bound": 0, "ok": False}
    nan = {"what": "score", "deviation": None, "bound": 0.1, "ok": False}
    lines = [
        {"kind": "environment", "card": "A card", "driver": "1.2", "torch": "2.13.0"},
        _check("exact", measured=[near]),
        _check("repair", "failed", "beyond its bound: hits", [near, off, nan]),
        _check("graphs", "error", "RuntimeError: a | b"),
        {"kind": "part", "part": "ViT-B/16", "status": "error", "reason": "ended after 60 s"},
    ]
    monkeypatch.setattr(gpu_check, "measured", lambda _: iter(lines))
    report = gpu_check.report_of(_options(minutes=8))
    text = gpu_check.markdown(report)
    assert not report["passed"]
    assert text.startswith("# A card\n\ndriver 1.2, torch 2.13.0")
    assert (
        "1 passed, 1 failed, 1 error. The greatest deviation, as a share of its bound: 0.2" in text
    )
    assert "| repair | hits | 0.25 | 0 |" in text
    assert "| repair | score | no number | 0.1 |" in text
    assert "| graphs | RuntimeError: a \\| b |  |  |" in text
    assert "- part ViT-B/16: error, ended after 60 s" in text


def test_what_falls_short_is_named(gpu_check):
    row = {"network": "ResNet-50", "way": "plain", "precision": "TF32", "memory": {"within": False}}
    rows = [{**row, "steady": {"profile": 0.97, "explain": 0.941}}]
    assert gpu_check._short_of(rows) == (
        "Below 0.95 of bare passes: explain of ResNet-50, plain, TF32: 0.941. "
        "More memory than the bound: ResNet-50, plain, TF32."
    )


def test_a_machine_without_a_gpu_is_told_so(gpu_check, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert "no GPU here; --device cpu runs the same on the CPU" in capsys.readouterr().err
