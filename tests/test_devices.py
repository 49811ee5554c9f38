"""Every door gives the same numbers on every kind of device, see `device_checks`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from device_checks import CHECKS, checks, run_check

TESTS = Path(__file__).parent
CPU = [name for name, one in CHECKS.items() if not one.cuda_only]


def _passes(name: str, device: str) -> None:
    found = run_check(name, torch.device(device))
    if found["status"] == "not run":
        pytest.skip(found["reason"])
    assert found["status"] == "passed", found


@pytest.mark.parametrize("name", CPU)
def test_on_the_cpu(name):
    _passes(name, "cpu")


@pytest.mark.cuda
@pytest.mark.parametrize("name", CHECKS)
def test_on_a_gpu(name):
    _passes(name, "cuda:0")


def test_whatever_needs_a_gpu_is_a_check_which_the_command_runs_too():
    marked = [file.name for file in TESTS.rglob("*.py") if "pytest.mark.cuda\n" in file.read_text()]
    assert marked == [Path(__file__).name]


class TestReports:
    """What a check that fails says."""

    @pytest.fixture(autouse=True)
    def no_checks(self, monkeypatch):
        monkeypatch.setattr(checks, "CHECKS", {})

    def _found(self, **choices):
        name = next(iter(checks.CHECKS))
        return run_check(name, torch.device("cpu"))

    def test_the_size_of_a_deviation(self):
        @checks.check()
        def off(_device, notes):
            notes.near("values", [1.0, 2.0], [1.0, 2.5], 0.1)
            notes.near("shapes", [1.0], [1.0, 2.0], 0.1)
            notes.near("NaN", [float("nan")], [1.0], 0.1)
            notes.near("fine", [1.0], [1.0], 0)

        found = self._found()
        assert found["status"] == "failed"
        assert found["reason"] == "beyond its bound: values; shapes; NaN"
        assert found["measured"][0]["deviation"] == 0.5
        assert found["measured"][1]["deviation"] is None

    def test_an_error_stops_nothing(self):
        @checks.check()
        def broken(_device, notes):
            notes.near("before", [1.0], [1.0], 0)
            raise RuntimeError("CUDA error: device-side assert")

        found = self._found()
        assert found["status"] == "error"
        assert found["reason"].startswith("RuntimeError: CUDA error: device-side assert (test_dev")
        assert len(found["measured"]) == 1

    @pytest.mark.parametrize(
        ("choices", "reason"),
        [
            ({"needs": ("no_such_library",)}, "needs no_such_library"),
            ({"cuda_only": True}, "needs a GPU"),
            ({"n_gpus": 1000}, "needs 1000 GPUs"),
        ],
    )
    def test_what_is_missing(self, choices, reason):
        @checks.check(**choices)
        def never(_device, _notes):
            raise AssertionError

        assert (self._found()["status"], self._found()["reason"]) == ("not run", reason)

    def test_a_check_that_compares_nothing_is_none(self):
        @checks.check()
        def empty(_device, _notes):
            pass

        assert self._found()["status"] == "failed"
