"""The command that checks a GPU: a part that dies stops no other, the table says what is off."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from iaside_plugins import InputError

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
        ([{"kind": "begun", "name": "c"}, _check("c", "error", "illegal")], "exit code 1"),
        ([_check("d", "not run", "needs x")], ""),
    ]
    done = []

    def part_lines(_part, _seconds, _options, known):
        done.append(list(known))
        return parts[len(done) - 1]

    monkeypatch.setattr(gpu_check, "part_lines", part_lines)
    lines = list(gpu_check.all_checks(100, argparse.Namespace()))
    assert [sorted(known) for known in done] == [[], ["a", "b"], ["a", "b", "c"]]
    assert [(line["name"], line["status"], line["reason"]) for line in lines] == [
        ("a", "passed", ""),
        ("b", "error", "killed"),
        ("c", "error", "illegal"),
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
    assert (lines, ended) == ([{"kind": "speed"}], "out of time, ended after 1 s")


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


@pytest.mark.parametrize(
    ("ended", "status", "passed"),
    [
        ("out of time, ended after 60 s", "not run", True),
        ("exit code -11: nothing was said", "error", False),
    ],
)
def test_a_network_that_takes_too_long_is_no_failure(ended, status, passed, gpu_check, monkeypatch):
    def part_lines(part, *_):
        return ([_check("a")], "") if part == "checks" else ([], ended)

    monkeypatch.setattr(gpu_check, "part_lines", part_lines)
    report = gpu_check.report_of(_options(minutes=8))
    assert report["passed"] is passed
    assert report["part"] == [{"part": "rest of small", "status": status, "reason": ended}]


def test_what_falls_short_is_named(gpu_check):
    row = {"network": "ResNet-50", "way": "plain", "precision": "TF32", "memory": {"within": False}}
    rows = [{**row, "steady": {"profile": 0.97, "explain": 0.941}}]
    assert gpu_check._short_of(rows) == (
        "Below 0.95 of bare passes: explain of ResNet-50, plain, TF32: 0.941. "
        "More memory than the bound: ResNet-50, plain, TF32."
    )


@pytest.fixture
def bench(gpu_check):
    """What is measured of the small network, on the CPU."""
    import gpu_table

    return gpu_table.Bench("small", _options(), time.monotonic() + 60)


def test_without_time_nothing_is_measured_and_all_of_it_is_named(bench):
    bench.deadline = time.monotonic() - 1
    rows = list(bench.rows())
    assert {(row["status"], row["reason"][:11]) for row in rows} == {("not run", "out of time")}
    assert [row["kind"] for row in rows] == [*["speed"] * 4, "settling", *["earns"] * 4]


def test_rounds_are_left_out_where_time_is_short(bench):
    bench.sizes = replace(bench.sizes, rounds=50)
    bench.deadline = time.monotonic() + 0.2
    found = bench._turns({"a": lambda: time.sleep(0.05) or 1, "b": lambda: 2})
    assert 1 <= len(found["a"]) == len(found["b"]) < 10
    assert {n for n, _ in found["b"]} == {2}


def test_what_fails_or_does_not_apply_is_said(bench):
    def fails():
        raise RuntimeError("CUDA error: no kernel\nsecond line")

    def refuses():
        raise InputError("there is no batch norm to fold")

    assert bench._tried({}, fails)["reason"] == "RuntimeError: CUDA error: no kernel"
    refused = bench._tried({}, refuses)
    assert (refused["status"], refused["reason"]) == ("not run", "there is no batch norm to fold")


def test_clocks_and_memory_of_a_gpu_are_read_as_torch_has_them(bench, monkeypatch):
    import gpu_table

    class Event:
        def __init__(self, *, enable_timing):
            assert enable_timing

        def record(self):
            pass

        def synchronize(self):
            pass

        def elapsed_time(self, _other):
            return 250.0  # milliseconds

    peaks = iter([100e6, 101e6])
    for name, value in {
        "Event": Event,
        "synchronize": lambda _device=None: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda _device: None,
        "max_memory_allocated": lambda _device: next(peaks),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    ready = bench._set_up("plain", "float32", 16)
    bench.device = SimpleNamespace(type="cuda")
    assert gpu_table.timed(lambda: 7, bench.device) == (7, 0.25)
    memory = bench._peak_memory(ready)
    assert memory["MB beyond a bare pass"] == 1
    assert not memory["within"]  # 38 images of 3 x 16 x 16


def test_the_command_names_the_networks_that_are_measured(gpu_check):
    import gpu_table

    assert {*gpu_check.NETWORKS, "small"} == set(gpu_table.NETWORKS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no GPU here; --device cpu runs the same on the CPU"),
        (["--weights", "no.pth"], "--weights no.pth: there is no such file"),
        (["--script", "no.py"], "--script no.py: there is no such file"),
    ],
)
def test_what_cannot_begin_is_said_at_once(given, said, gpu_check, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *given])
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert said in capsys.readouterr().err
