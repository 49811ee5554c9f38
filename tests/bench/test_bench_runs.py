"""The benchmark runs and says what it promises; its figures are for whoever runs it in full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).with_name("bench_importance.py")


def test_the_quick_benchmark_reports_every_figure(tmp_path):
    command = [sys.executable, str(BENCH), "--quick", "--json", str(tmp_path / "bench.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "| inputs / bare | total / bare |" in done.stdout
    assert "| ResNet-18 |" in done.stdout
    report = json.loads((tmp_path / "bench.json").read_text())
    for network in ("ResNet-18", "MobileNetV2"):
        found = report["networks"][network]
        assert len(found["rounds"]) == report["rounds"] == 2
        assert 0 < found["inputs/bare"]["median"] < found["total/bare"]["median"]
    few, many = report["peak_memory_mb"].values()
    # a process with torch takes 200 MB; 16 images of 32 x 32 must not add to it
    assert 0 < many < few + 40
    passes = {(row["n_bands"], row["estimator"]): row["passes"] for row in report["passes"]}
    assert passes[8, "exact"] == 255.1  # and one black image for all ten
    assert passes[8, "permutation, 1 pair(s) of chains"] < 17


def test_the_quick_captum_benchmark_reports_every_figure(tmp_path):
    bench = BENCH.with_name("bench_captum.py")
    command = [sys.executable, str(bench), "--quick", "--json", str(tmp_path / "bench.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    report = json.loads((tmp_path / "bench.json").read_text())
    assert "| bands | passes an image: ours | Captum |" in done.stdout
    for row in report["records"]:
        assert row["ours_rows"] == report["n_images"] * 2 ** row["n_bands"]
        assert row["captum_rows"] > row["ours_rows"]
        assert row["difference"] < 1e-5  # Captum sums in single precision


def test_the_quick_scaling_benchmark_reports_every_figure(tmp_path):
    bench = BENCH.with_name("bench_scaling.py")
    command = [sys.executable, str(bench), "--quick", "--json", str(tmp_path / "bench.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    report = json.loads((tmp_path / "bench.json").read_text())
    assert "Rows equal to those of one process: yes" in done.stdout
    assert report["equal"]
    assert set(report["speed"]) == set(report["start_seconds"]) == {"1 worker", "2 workers"}
    for name, speed in report["speed"].items():
        ratios = [seconds["alone"] / seconds[name] for seconds in report["rounds"]]
        assert min(ratios) <= speed["median"] <= max(ratios)
