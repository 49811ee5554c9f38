"""`iaside explain`: what it prints adds up, what it writes is what the library found."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from iaside_plugins import ErrorDecomposition

MODEL = "python:tiny_model:network"
FAST = ("--corruptions", "gaussian_noise,contrast", "--severities", "2,5", "--n-bands", 4)


def test_the_rows_add_up_and_the_files_hold_the_same(iaside, images, tmp_path):
    json_file, saved, plot = (tmp_path / name for name in ("e.json", "e.npz", "e.png"))
    options = (*FAST, "--json", json_file, "--save", saved, "--plot", plot)
    run = iaside("explain", MODEL, "--data", images, *options)
    assert run.code == 0, run.err
    assert run.err == ""
    assert "cost: at most 318 forward passes and 24 corrupted images to make" in run.out
    rows = re.findall(r"^(gaussian noise|contrast|mean of 2)((?: +-?\d+\.\d)+)$", run.out, re.M)
    assert len(rows) == 3
    for _, cells in rows:
        clean, *bands, error = map(float, cells.split())
        assert len(bands) == 4
        assert clean + sum(bands) == pytest.approx(error, abs=1e-6)
    found, result = json.loads(json_file.read_text()), ErrorDecomposition.load(saved)
    assert found["error"]["mean"]["bands"]["value"] == result.error.over().bands.value.tolist()
    assert len(found["error"]["conditions"]) == 4
    assert result.n_images == 6
    assert result.efficiency_residual < 1e-9
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "this model" in run.out  # a sentence leads
    assert run.out.index("this model") < run.out.index("points of error")


def test_one_image_has_no_interval_and_is_refused_before_the_work(iaside, images, tmp_path):
    given = ("--data", images, "--corruptions", "fog", "--attacks", "none", "--explain")
    for few in (("--n-explain", 1), ("--n-images", 1)):
        run = iaside("evaluate", MODEL, *given, *few, "--out", tmp_path / "e.json")
        assert run.code == 2
        assert "on at least 2 images, got 1: take more" in run.err
    run = iaside("explain", MODEL, "--data", images, "--corruptions", "fog", "--n-images", 1)
    run.refused("on at least 2 images, got 1: take more")


def test_no_repair_attacks_and_another_model(iaside, images):
    pytest.importorskip("foolbox", reason="needs the extra foolbox")
    run = iaside(
        "explain",
        MODEL,
        "--data",
        images,
        "--corruptions",
        "none",
        "--attacks",
        "fgsm",
        "--epsilons",
        "2/255,8/255",
        "--repair",
        0,
        "--n-bands",
        2,
        "--json",
        "-",
        "--versus",
        MODEL,
    )
    assert run.code == 0, run.err
    found = json.loads(run.out)
    levels = [one["level"] for one in found["error"]["conditions"]]
    assert levels == [2 / 255, 8 / 255]
    assert "repaired_without_high" not in found["error"]["mean"]
    between = found["versus"]["difference"]["error"]["mean"]
    assert between["perturbed"]["value"] == 0
    assert between["bands"]["value"] == [0, 0]


def test_another_model_has_a_mean_and_a_file_of_its_own(iaside, images, tmp_path):
    command = ("explain", MODEL, "--data", images, *FAST, "--n-bands", 2, "--repair", 0, "--quiet")
    file = tmp_path / "one.npz"
    other = ("--versus", MODEL, "--versus-mean", 0.5, "--versus-std", 0.25)
    assert iaside(*command, *other, "--save", file).code == 0
    alone = ("--mean", 0.5, "--std", 0.25, "--save", tmp_path / "alone.npz")
    assert iaside(*command, *alone).code == 0
    found = ErrorDecomposition.load(tmp_path / "one-versus.npz").loss.perturbed
    np.testing.assert_array_equal(
        found, ErrorDecomposition.load(tmp_path / "alone.npz").loss.perturbed
    )
    assert (found != ErrorDecomposition.load(file).loss.perturbed).any()


def test_a_stopped_run_goes_on(iaside, images, tmp_path):
    plain = ("--forwards", "plain")  # what is quickest is timed, and may be another in another run
    command = ("explain", MODEL, "--data", images, *FAST, *plain, "--quiet", "--json")
    whole = iaside(*command, tmp_path / "a.json")
    assert whole.code == 0
    first = iaside(*command, tmp_path / "b.json", "--resume", tmp_path / "r", "--n-images", 3)
    rest = iaside(*command, tmp_path / "c.json", "--resume", tmp_path / "r")
    assert first.code == rest.code == 0
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ac")
    assert two["n_forward"] < one["n_forward"]
    assert {**one, "n_forward": 0} == {**two, "n_forward": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--corruptions", "none"), "nothing to explain"),
        (("--corruptions", "rain"), "unknown corruption"),
        (("--severities", "7"), "severities"),
        (("--epsilons", "8/255"), "--epsilons needs --attacks"),
        (("--versus-weights", "w.pth"), "--versus"),
        (("--versus-mean", "0.5"), "--versus"),
        (("--protocol", "absence=gaussian"), "absence"),
        (("--protocol", "range_handling=rescale"), "range_handling"),
        (("--target-error", "-1"), "above 0"),
        (("--n-images", "0"), "at least 1"),
    ],
)
def test_what_makes_no_sense_is_one_line(iaside, images, options, message):
    iaside("explain", MODEL, "--data", images, *options).refused(message)


def test_evaluate_puts_the_split_into_the_entry(iaside, images, tmp_path):
    out = tmp_path / "entries"
    out.mkdir()
    run = iaside(
        "evaluate",
        MODEL,
        "--data",
        images,
        "--attacks",
        "none",
        "--n-bands",
        2,
        "--explain",
        "--out",
        out,
        "--n-spectral",
        1,
    )
    assert run.code == 0, run.err
    (file,) = out.glob("*.json")
    entry = json.loads(file.read_text())
    split, measured = entry["decomposition"], entry["corruption"]["unnormalised_mean_error"]
    assert split["mean"]["perturbed"] == pytest.approx(measured["value"])
    assert iaside("leaderboard", "validate", file).code == 0


def test_a_model_without_gradients_is_refused_before_the_work(iaside, images):
    run = iaside(
        "explain",
        "python:tiny_model:detached",
        "--data",
        images,
        "--corruptions",
        "none",
        "--attacks",
        "fgsm",
        "--epsilons",
        "8/255",
    )
    run.refused("gradient")


READ = ("explain", "python:tiny_model:small_input", "--resize", 24, "--crop", 20, "--n-bands", 4)


def test_systematic_noise_alone(iaside, images, tmp_path):
    pytest.importorskip("cv2")
    out = tmp_path / "e.json"
    run = iaside(*READ, "--data", images, "--corruptions", "none", "--systematic", "--json", out)
    assert run.code == 0, run.err
    found = json.loads(out.read_text())
    names = [one["condition"] for one in found["error"]["conditions"]]
    assert len(names) == 10
    assert "opencv bilinear" in names
    assert "pillow bilinear" not in names
    assert "left out: opencv decoder (no image is a JPEG" in run.out
    assert "Under systematic noise (the same files read otherwise) this model" in run.out
    assert re.search(r"^mean of 10 ", run.out, re.M)
    assert "systematic" not in found


def test_systematic_noise_beside_corruptions_has_its_own_table_and_files(iaside, images, tmp_path):
    pytest.importorskip("cv2")
    names = ("e.json", "e.npz", "e.png")
    json_file, saved, plot = (tmp_path / name for name in names)
    given = ("--json", json_file, "--save", saved, "--plot", plot, "--resume", tmp_path / "r")
    both = (*READ, "--data", images, *FAST, "--systematic", *given)
    run = iaside(*both, "--versus", MODEL, "--repair", 0)
    assert run.code == 0, run.err
    found = json.loads(json_file.read_text())
    kinds = [
        {one["condition"] for one in part["error"]["conditions"]}
        for part in (found, found["systematic"])
    ]
    assert kinds[0] == {"gaussian_noise", "contrast"}
    assert len(kinds[1]) == 10
    assert found["systematic"]["versus"]["difference"]["n_images"] == 6
    assert run.out.index("mean of 2 ") < run.out.index("systematic noise: the same files")
    assert "mean of 10 " in run.out
    beside = ErrorDecomposition.load(tmp_path / "e-systematic.npz")
    assert {one.name for one in beside.conditions} == kinds[1]
    assert {one.name for one in ErrorDecomposition.load(saved).conditions} == kinds[0]
    assert (tmp_path / "e-systematic.png").read_bytes().startswith(b"\x89PNG")
    again = iaside(*both, "--versus", MODEL, "--repair", 0)
    assert again.code == 0
    resumed = json.loads(json_file.read_text())["systematic"]
    assert resumed["n_forward"] == 0 < found["systematic"]["n_forward"]
    assert resumed["error"] == found["systematic"]["error"]


def test_nothing_to_read_otherwise_is_one_line(iaside, images):
    pytest.importorskip("cv2")
    run = iaside("explain", MODEL, "--data", images, "--corruptions", "none", "--systematic")
    run.refused("nothing to vary", "takes images as they are")


def test_dry_run_of_two_models_is_one_json(iaside, images):
    run = iaside(
        "explain", MODEL, "--data", images, "--corruptions", "fog", "--versus", MODEL, "--n-bands",
        3, "--dry-run", "--json", "-",
    )  # fmt: skip
    plan = json.loads(run.out)
    assert plan["dry_run"] is True
    assert len(plan["cost"]) == 2
    assert all(cost["n_forward"] > 0 for cost in plan["cost"])
