"""The benchmark runs and says what it promises; its figures are for whoever runs it in full."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from iaside_plugins.cli import main

FOLDER = Path(__file__).parent
HAS_SHAPIQ = importlib.util.find_spec("shapiq") is not None


@pytest.fixture
def script(monkeypatch, capsys):
    """Run a script as its command does, in this process, where torch is imported already."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])

    def run(name: str, *options: object) -> str:
        monkeypatch.setattr(sys, "argv", [str(FOLDER / name), *map(str, options)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an error in the tests alone
            runpy.run_path(sys.argv[0], run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def bench(script, tmp_path):
    """Run a benchmark: what it prints, and its JSON report."""
    file = tmp_path / "bench.json"
    return lambda *command: (script(*command, "--json", file), json.loads(file.read_text()))


def test_the_quick_benchmark_reports_every_figure(bench):
    text, report = bench("bench_importance.py", "--quick")
    assert "| inputs / bare | total / bare |" in text
    assert "| ResNet-18 |" in text
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


def test_the_quick_benchmark_of_faster_passes_reports_every_figure(bench):
    text, report = bench("bench_forwards.py", "--quick", "--models", "MobileNetV2")
    assert "| model | bare, ms/row | plain | fast | settling, in images |" in text
    (row,) = report["models"]
    assert row["greatest_difference_nats"]["fast"] < 1e-3  # what a step may move at most
    assert report["device"]


def test_the_quick_check_of_a_gpu_runs_on_the_cpu_from_a_copied_tree(tmp_path):
    command = [
        sys.executable,
        str(FOLDER / "gpu_check.py"),
        "--quick",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("gpu-*.json")
    report = json.loads(file.read_text())
    assert file.with_suffix(".md").read_text() in done.stdout
    assert report["passed"]
    assert not report["part"]
    status = {row["name"]: row["status"] for row in report["check"]}
    assert status["importance_exact"] == "passed"
    assert status["cuda_graphs"] == "not run"
    assert {(row["way"], row["precision"]) for row in report["speed"]} == {
        (way, precision)
        for way in ("plain", "channels last")
        for precision in ("float32", "bfloat16")
    }
    assert len(report["earns"]) == 4  # groups ahead and copies, at two batch sizes
    for kind in ("speed", "settling", "earns"):
        assert {row["status"] for row in report[kind]} == {"measured"}, report[kind]
    for row in report["speed"]:
        assert row["whole"].keys() == row["steady"].keys() == {"profile", "explain"}
        assert min(*row["whole"].values(), *row["host_ms_a_batch"].values()) > 0
        assert row["memory"]["MB bound"] == pytest.approx((16 + 2 * 11) * 3 * 16**2 * 4 / 1e6)


def test_the_quick_captum_benchmark_reports_every_figure(bench):
    text, report = bench("bench_captum.py", "--quick")
    assert "| bands | passes an image: ours | Captum |" in text
    for row in report["records"]:
        assert row["ours_rows"] == report["n_images"] * 2 ** row["n_bands"]
        assert row["captum_rows"] > row["ours_rows"]
        assert row["difference"] < 1e-5  # Captum sums in single precision


def test_the_quick_cluster_benchmark_reports_every_figure(bench, script, tmp_path):
    text, report = bench("bench_cluster.py", "--quick")
    assert "Rows equal to those of one process: yes" in text
    found = report["speed"]
    assert found["equal"]
    assert set(found["speed"]) == set(found["start_seconds"]) == {"1 worker", "2 workers"}
    for name, speed in found["speed"].items():
        ratios = [seconds["alone"] / seconds[name] for seconds in found["rounds"]]
        assert speed["median"] == pytest.approx(np.median(ratios))
    few, many = report["growth"].values()
    assert few["row_bytes"] < many["got_bytes"] < 400
    assert many["sent_bytes"] < 200
    page = tmp_path / "page.md"
    page.write_text("Above\n<!-- plan -->\nold\n<!-- end of plan -->\nbelow\n")
    shown = script("plan_cluster.py", tmp_path / "bench.json", "--gpus", 8, "--page", page)
    assert "| gpus | 8 |" in shown
    start, end = "Above\n<!-- plan -->\n\n", "\n<!-- end of plan -->\nbelow\n"
    assert page.read_text() == f"{start}{shown}{end}"
    assert f"| sent_bytes | {many['sent_bytes']:.3g} | measured" in shown


def test_the_quick_benchmark_of_evaluate_reports_every_figure(bench):
    pytest.importorskip("cv2")
    text, report = bench("bench_evaluate.py", "--quick", "--profile", "--explain")
    assert "| pairs | CPU s | decodings | corruptions made |" in text
    assert "| decodings of a file | pool starts |" in text
    (row,) = report["records"]
    assert (row["decodings of a file"], row["pool starts"]) == (1, 1)
    bound = max(row["passes, s"], row["making, s"] / row["n_workers"])
    assert row["bound, s"] == pytest.approx(bound)
    assert row["wall / bound"] == pytest.approx(row["evaluate, s"] / bound)
    seconds = report["profiles"][0]["seconds"]
    assert 0 < sum(seconds.values()) - seconds["all"] < seconds["all"]
    apart, once = report["explain"]
    assert (once["decodings"], apart["decodings"]) == (1, 2)
    assert once["corruptions made"] in (70, 75)  # without frost or with it
    assert apart["corruptions made"] == 2 * once["corruptions made"]


def test_the_quick_statistics_benchmark_reports_every_figure(bench, tmp_path):
    table = tmp_path / "published.csv"
    rows = [f"{0.5 + k / 100},{1.2 - k / 100 + (k % 3) / 50}" for k in range(40)]
    table.write_text("\n".join(["clean_accuracy,mce", *rows]))
    text, report = bench("bench_statistics.py", "--quick", "--published", table)
    assert "clean accuracy against mCE, n = 40: spearman -0.99" in text
    assert len(report["rates"]) == 10  # five kinds of models, two numbers of them
    for row in report["rates"]:
        assert f"{row['kind']}, n = {row['n_models']}: p of ranks" in text
        assert 0 <= row["verdict"] <= row["p of ranks"] <= 1


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Where value tables of the kit are kept, which more than one script needs."""
    return tmp_path_factory.mktemp("tables")


@pytest.fixture
def kit_bench(bench, kit, monkeypatch):
    """Run a script on models of the kit."""
    monkeypatch.setenv("IASIDE_KIT", str(kit))
    return bench


@pytest.mark.kit
@pytest.mark.slow
def test_the_quick_coverage_study_reports_every_interval(kit_bench, tables):
    text, report = kit_bench("bench_coverage.py", tables, "--quick")
    assert "| of | tied bands | images | score | signed score | Shapley values, by band |" in text
    assert len(report["fixed"]) == 6
    assert len(report["stopped"]) == 18
    for row in report["fixed"]:
        # 40 samples: the standard error of a coverage of 95 % is 3.4 %
        assert row["signed_score"]["coverage"] >= 0.95 - 3 * 0.034
        assert len(row["shapley_values"]["coverage"]) == 8
        wide, plain = row["signed_score"], row["signed_score, jackknife alone"]
        assert wide["half_width"] >= plain["half_width"] - 1e-9
    assert (tables / "c10_resnet2b_adv-m8-n40.npz").is_file()
    assert all(row["n_5"] >= 100 for row in report["stopped"])


@pytest.mark.kit
@pytest.mark.slow
def test_the_quick_study_of_passes_reports_every_estimator(kit_bench, tables):
    text, report = kit_bench("bench_passes.py", tables, "--quick", "--run")
    assert "| c10_resnet2b_adv | permutation 8 | 57.0 |" in text
    assert [row["method"] for row in report["runs"]] == ["exact", "permutation 8"]
    passes = {row["method"]: row["passes_an_image"] for row in report["simulated"]}
    for row in report["runs"]:  # what was counted is what was foretold, and one black image
        assert row["n_forward"] == row["n_images"] * passes[row["method"]] + 1


@pytest.mark.kit
@pytest.mark.slow
def test_the_quick_study_of_estimators_counts_passes_and_errors(kit_bench, tables):
    _, report = kit_bench("bench_estimators.py", tables, "--quick")
    ours = {
        (row["method"], row["budget"]): row
        for row in report["records"]
        if not row["method"].startswith("shapiq") and row["n_bands"] == 6
        if row["what"] == "values"
    }
    assert {method for method, _ in ours} == {
        "permutation",
        "regression",
        "gaussian process",
        "one fit",
    }
    assert all(row["passes"] <= row["budget"] for row in ours.values())
    assert ours["regression", 64]["error"] < 1e-12  # all 64 coalitions of 6 bands
    assert ours["gaussian process", 64]["error"] < 1e-12
    assert ours["regression", 48]["error"] < ours["permutation", 48]["error"]
    assert bool(report["shapiq"]) == HAS_SHAPIQ
    assert [row["what"] for row in report["reference"]] == ["values", "hits"]
    assert len(report["coverage"]) == 4


@pytest.mark.kit
@pytest.mark.slow
@pytest.mark.skipif(
    not HAS_SHAPIQ, reason="shapiq is not installed (pip install shapiq lightgbm xgboost)"
)
def test_shapiq_has_the_same_exact_values(kit_bench, tables):
    _, report = kit_bench("bench_estimators.py", tables, "--quick")
    assert [row["difference"] < 1e-12 for row in report["oracle"]] == [True]
    rivals = {row["method"] for row in report["records"] if row["method"].startswith("shapiq")}
    assert len(rivals) + len(report["missing"]) == 10
    assert "shapiq SVARM" in rivals


def test_the_quick_benchmark_of_compare_makes_the_passes_that_it_announces(bench):
    pytest.importorskip("captum", reason="needs the extra captum")
    text, record = bench("bench_compare.py", "--quick")
    assert "| greatest memory, GB |" in text
    assert record["made_rows"] == record["announced_rows"] > 0
    assert record["peak_gb"] >= record["peak_before_gb"] > 0


def test_the_quick_benchmark_of_the_board_reports_every_figure(bench):
    text, records = bench("bench_board.py", "--quick")
    assert "| part | 1 models | 2 models | 8 models |" in text
    assert "| statistics |" in text
    assert [record["models"] for record in records] == [1, 2, 8]
    pages = [record["bytes"]["index.html"] for record in records]
    assert pages == sorted(pages)
    assert all(seconds > 0 for record in records for seconds in record["seconds"].values())


@pytest.mark.kit
@pytest.mark.slow
def test_the_quick_study_of_forecasts_reports_every_figure(kit_bench, tmp_path):
    models = ("--models", "c10_small_pgd,c10_marabou_small")
    sizes = ("--images", 3, "--bands", 4, "--resamples", 20)
    text, report = kit_bench("bench_forecast.py", tmp_path, *models, *sizes)
    assert "| forecast: mean absolute error |" in text
    assert (report["n_nets"], report["n_cells"]) == (2, 75)
    for row in report["nets"]:  # shipped spectra are those of more images of the same kind
        shipped, own = np.array(row["forecast"]), np.array(row["forecast_own_spectra"])
        assert np.abs(shipped - own).mean() < 0.1
    rows = [np.array(row["forecast"]) - np.array(row["measured"]) for row in report["nets"]]
    known = report["figures"]["forecast: mean absolute error"]
    assert known[0] == pytest.approx(np.abs(rows).mean(), abs=1e-3)


@pytest.mark.kit
@pytest.mark.slow
def test_forecasts_of_an_entry_are_those_of_the_images_it_was_made_of(
    kit_bench, kit, tmp_path, monkeypatch
):
    net, few = "c10_marabou_small", ("--images", 3, "--resamples", 20)
    entry = tmp_path / "entries" / f"{net}.json"
    run = ("--resume", entry.with_suffix(".run"), "--out", entry)
    command = ("evaluate", f"kit:{net}", "--data", kit / "cifar10", "--n-images", 3, *run)
    monkeypatch.setattr(sys, "argv", ["iaside", *map(str, command)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    _, own = kit_bench("bench_forecast.py", entry.parent, "--entries", "--models", net)
    _, again = kit_bench("bench_forecast.py", tmp_path / "measured", "--models", net, *few)
    ((read,), (measured,)) = own["nets"], again["nets"]
    shared = ("n_images", "n_bands", "clean", "conditions", "measured", "forecast")
    assert {key: read[key] for key in shared} == {key: measured[key] for key in shared}


@pytest.mark.kit
@pytest.mark.slow
def test_the_quick_benchmark_of_engines_reports_every_engine(kit_bench):
    models = ("--models", "kit:c10_resnet2b_adv")
    text, report = kit_bench("bench_engines.py", "--quick", *models)
    assert "| model | batch | engine | CPU ms a row |" in text
    found = {row["engine"]: row for row in report["rows"]}
    assert {"plain", "fast"} <= set(found)
    assert found["plain"]["logits"] == 0
    assert all(row["shapley"] < 1e-3 for row in found.values())
    assert all(name in text for name in report["missing"])


def test_the_quick_benchmark_of_answers_reports_every_figure(kit_bench):
    text, report = kit_bench("bench_answer.py", "--quick")
    assert "| model | command | images | passes | CPU s | over bare | peak MB |" in text
    (row,) = report["models"]
    assert row["bare_s_a_pass"] > 0
    profile, explain = (row["commands"][name] for name in ("profile", "explain"))
    assert (profile["n_images"], profile["n_passes"]) == (4, 4 * 7 + 1)
    assert explain["n_passes"] > 4 * 4 * 3
    assert all(one["cpu_s"] > 0 and one["peak_mb"] > 50 for one in (profile, explain))
