"""`iaside show`: what was stored, without the model and without the images."""

from __future__ import annotations

import csv
import json

import numpy as np

MODEL = "python:tiny_model:network"


def _profile(iaside, images, *options):
    run = iaside("profile", MODEL, "--data", images, "--n-bands", 4, "--json", "-", *options)
    return json.loads(run.out)


def test_a_run_and_a_saved_result_show_the_same(iaside, images, tmp_path):
    saved, kept = tmp_path / "result.npz", tmp_path / "run"
    found = _profile(iaside, images, "--save", saved, "--resume", kept)
    run = iaside("show", kept)
    assert run.code == 0
    assert run.out == iaside("show", saved).out
    assert f"{found['signed_score']:+.3f}" in run.out
    shown = json.loads(iaside("show", kept, "--json", "-").out)
    for name in ("shapley_values", "signed_score_interval", "ids", "labels", "values"):
        assert shown[name] == found[name]


def test_another_beta_and_the_classes(iaside, images, tmp_path):
    kept, table, plot = tmp_path / "run", tmp_path / "classes.csv", tmp_path / "profile.png"
    found = _profile(iaside, images, "--resume", kept)
    run = iaside("show", kept, "--beta", 0.5, "--by-class", table, "--plot", plot, "--json", "-")
    steeper = json.loads(run.out)
    assert steeper["protocol"]["beta"] == 0.5
    assert steeper["shapley_values"] == found["shapley_values"]
    assert steeper["score"] != found["score"]
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["n_images"]) for row in rows) == found["n_images"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_saved_split_of_errors_is_shown(iaside, images, tmp_path):
    saved, plot = tmp_path / "why.npz", tmp_path / "why.png"
    kept = tmp_path / "kept"
    options = ("--data", images, "--corruptions", "contrast", "--n-bands", 2, "--save", saved)
    options += ("--resume", kept)
    found = json.loads(iaside("explain", MODEL, *options, "--json", "-").out)
    run = iaside("show", saved, "--plot", plot)
    assert run.code == 0, run.err
    assert "points of error" in run.out
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown = json.loads(iaside("show", saved, "--json", "-").out)
    assert shown == {key: found[key] for key in shown}
    iaside("show", saved, "--beta", 0.5).refused("--beta", "iaside explain")
    iaside("show", kept).refused("folder of iaside explain", "--save FILE.npz")


def test_of_other_files_the_command_is_named(iaside, tmp_path):
    for text, words in (
        ('{"entry_id": "a"}', "leaderboard validate"),
        ('{"score": 1}', "FILE.npz of --save"),
        ("no", "FILE.npz of --save"),
    ):
        (tmp_path / "it.json").write_text(text)
        iaside("show", tmp_path / "it.json").refused("it.json is no saved result", words)
    np.savez(tmp_path / "map.npz", head=json.dumps({"fourier_heat_map": 1}))
    iaside("show", tmp_path / "map.npz").refused("a Fourier heat map", "iaside heatmap")


def test_what_holds_no_result(iaside, tmp_path):
    iaside("show", tmp_path / "nothing").refused("there is no", "nothing", "--resume folder")
    (tmp_path / "empty").mkdir()
    iaside("show", tmp_path / "empty").refused("does not say what run")
    (tmp_path / "text.npz").write_text("no")
    iaside("show", tmp_path / "text.npz").refused("not a sound .npz file")


def test_forwards_and_batch_size_of_profile(iaside, images):
    plain = _profile(iaside, images)
    fast = _profile(iaside, images, "--forwards", "fast", "--batch-size", "auto")
    assert fast["protocol"]["forwards"] == "fast"
    assert abs(fast["signed_score"] - plain["signed_score"]) < 1e-4  # float32 in another order
    iaside("profile", MODEL, "--data", images, "--forwards", "quick").refused(
        "--forwards must be one of plain, fast, compiled"
    )
    iaside("profile", MODEL, "--data", images, "--batch-size", "some").refused(
        "--batch-size must be 'auto' or an integer"
    )
