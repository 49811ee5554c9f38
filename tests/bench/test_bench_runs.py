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
    assert all(row["inputs/copy"]["median"] > 0 for row in report["scaling"])


def test_the_quick_benchmark_of_faster_passes_reports_every_figure(tmp_path):
    bench = BENCH.with_name("bench_forwards.py")
    options = ["--quick", "--models", "MobileNetV2", "--json", str(tmp_path / "bench.json")]
    command = [sys.executable, str(bench), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "| model | bare, ms/row | plain | fast | settling, in images |" in done.stdout
    report = json.loads((tmp_path / "bench.json").read_text())
    (row,) = report["models"]
    assert row["greatest_difference_nats"]["fast"] < 1e-3  # what a step may move at most
    assert report["device"]


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


def test_the_quick_statistics_benchmark_reports_every_figure(tmp_path):
    table = tmp_path / "published.csv"
    rows = [f"{0.5 + k / 100},{1.2 - k / 100 + (k % 3) / 50}" for k in range(40)]
    table.write_text("\n".join(["clean_accuracy,mce", *rows]))
    bench = BENCH.with_name("bench_statistics.py")
    command = [sys.executable, str(bench), "--quick", "--published", str(table)]
    command += ["--json", str(tmp_path / "bench.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "clean accuracy against mCE, n = 40: spearman -0.99" in done.stdout
    report = json.loads((tmp_path / "bench.json").read_text())
    assert len(report["rates"]) == 10  # five kinds of models, two numbers of them
    for row in report["rates"]:
        assert f"{row['kind']}, n = {row['n_models']}: p of ranks" in done.stdout
        assert 0 <= row["verdict"] <= row["p of ranks"] <= 1
