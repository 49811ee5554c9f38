"""`iaside profile`: what it prints, what it writes, what its options change."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from image_files import make_tree
from tiny_model import WATCH, network

from iaside_plugins import Protocol, SpectralImportance, __version__, spectral_importance
from iaside_plugins.adapters.imagenet.folders import ImageFolderData

MODEL = "python:tiny_model:network"
KEYS = {  # attribute names of the published interface
    "n_images",
    "n_classes",
    "shapley_values",
    "shapley_se",
    "per_image",
    "values",
    "distribution",
    "distribution_interval",
    "score",
    "score_interval",
    "signed_score",
    "signed_score_interval",
    "efficiency_residual",
    "n_forward",
    "protocol",
}
BAND = re.compile(
    r"^ +(\d+) +([\d.]+)-([\d.]+) +([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\] +(█*)\|(█*)$", re.M
)


def test_version_and_help(iaside):
    assert iaside("--version").out.strip() == __version__
    bare, explicit = iaside(), iaside("--help")
    assert bare.code == explicit.code == 0
    assert bare.out == explicit.out
    for command in ("demo", "profile", "evaluate", "leaderboard"):
        assert f" {command} " in bare.out
        assert "Usage: " in iaside(command, "--help").out


def test_images_may_be_at_a_url(iaside, images):
    results = []
    for data in (images, f"file://{images}"):
        run = iaside("profile", MODEL, "--data", data, "--n-bands", 2, "--json", "-")
        assert run.code == 0, run.err
        results.append(json.loads(run.out))
    assert results[0] == results[1]
    iaside("profile", MODEL, "--data", "memory://none/here").refused("memory://none/here")
    run = iaside("doctor", f"file://{images}")
    assert run.code == 0, run.err
    assert run.out.replace("file://", "") == iaside("doctor", images).out


def test_summary_says_what_the_library_found(iaside, images):
    run = iaside("profile", MODEL, "--data", images, "--n-bands", 4)
    assert run.code == 0
    assert run.err == ""
    data = ImageFolderData(images, resize=None, crop=None)
    result = spectral_importance(network().eval(), data, Protocol(n_bands=4))
    rows = BAND.findall(run.out)
    assert [int(row[0]) for row in rows] == [0, 1, 2, 3]
    assert [(float(row[1]), float(row[2])) for row in rows] == [(0, 4), (4, 8), (8, 12), (12, 16)]
    # printed to three decimals of a nat, one of a percent
    np.testing.assert_allclose([float(r[3]) for r in rows], result.shapley_values, atol=6e-4)
    ends = [[float(row[4]), float(row[5])] for row in rows]
    np.testing.assert_allclose(ends, result.evidence.intervals, atol=6e-4)
    bars = [bool(row[6] + row[7]) for row in rows]
    assert bars == [low > 0 or high < 0 for low, high in result.evidence.intervals]
    assert not any(row[6] for row in rows if not row[3].startswith("-"))
    assert f"  score        {result.score:+.3f} " in run.out
    assert f"signed score {result.signed_score:+.3f}" in run.out
    assert "6 images of 32 x 32" in run.out
    assert result.protocol.protocol_id in run.out


def test_json_on_stdout_is_nothing_but_json(iaside, images, tmp_path):
    arguments = ("profile", MODEL, "--data", images, "--n-bands", 3)
    printed = iaside(*arguments, "--json", "-")
    found = json.loads(printed.out)
    assert set(found) >= KEYS
    assert found["model"]["name"] == "network"
    assert np.shape(found["values"]) == (6, 8)
    file = tmp_path / "new folder" / "profile.json"
    written = iaside(*arguments, "--json", file)
    assert "signed score" in written.out
    assert json.loads(file.read_text()) == found
    silent = iaside(*arguments, "--json", file, "--quiet")
    assert (silent.code, silent.out, silent.err) == (0, "", "")


def test_one_image_has_no_intervals_but_a_profile(iaside, images):
    run = iaside("profile", MODEL, "--data", images, "--n-bands", 3, "--n-images", 1)
    assert run.code == 0
    assert "1 images of" in run.out
    found = json.loads(
        iaside("profile", MODEL, "--data", images, "--n-images", 1, "--json", "-").out
    )
    assert found["signed_score_interval"] == [None, None]
    assert found["shapley_se"] == [None] * 8


def test_save_and_plot(iaside, images, tmp_path):
    saved, plotted = tmp_path / "a" / "r.npz", tmp_path / "b" / "p.png"
    arguments = ("--n-bands", 3, "--save", saved, "--plot", plotted, "--json", "-")
    run = iaside("profile", MODEL, "--data", images, *arguments)
    result = SpectralImportance.load(saved)
    assert result.shapley_values.tolist() == json.loads(run.out)["shapley_values"]
    assert plotted.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "extra", "expected"),
    [
        ("default", (), Protocol()),
        ("reference", (), Protocol.reference()),
        ("reference,image_batch=3", ("--n-bands", 3), Protocol.reference(3, image_batch=3)),
        (
            "absence=gaussian,range_handling=clip",
            ("--seed", 5),
            Protocol(absence="gaussian", range_handling="clip", seed=5),
        ),
        ("seed=3,absence=gaussian", ("--seed", 5), Protocol(absence="gaussian", seed=3)),
        (
            "estimator=permutation,beta=0.5",
            ("--n-bands", 4),
            Protocol(n_bands=4, estimator="permutation", beta=0.5),
        ),
        ("reference,black_empty=false", ("--n-bands", 3), Protocol.reference(3, black_empty=False)),
    ],
)
def test_protocols(iaside, images, text, extra, expected):
    arguments = ("--n-images", 3, "--protocol", text, *extra, "--json", "-")
    found = json.loads(iaside("profile", MODEL, "--data", images, *arguments).out)
    assert found["protocol"] == expected.to_dict()


def test_protocol_file(iaside, images, tmp_path):
    file = tmp_path / "protocol.json"
    expected = Protocol(n_bands=5, band_norm="euclidean", temperature=2.0)
    file.write_text(json.dumps(expected.to_dict()))
    arguments = ("--n-images", 2, "--protocol", file, "--json", "-")
    found = json.loads(iaside("profile", MODEL, "--data", images, *arguments).out)
    assert found["protocol"] == expected.to_dict()
    overridden = json.loads(
        iaside("profile", MODEL, "--data", images, *arguments, "--n-bands", 3).out
    )
    assert overridden["protocol"]["n_bands"] == 3


def test_selection_preprocessing_and_name(iaside, images):
    arguments = ("--n-bands", 2, "--json", "-")
    few = json.loads(
        iaside("profile", MODEL, "--data", images, "--n-images", 4, "--seed", 1, *arguments).out
    )
    assert len(set(few["ids"])) == few["n_images"] == 4
    options = ("--resize", 20, "--crop", 16, "--interpolation", "bicubic", "--name", "mine")
    shaped = json.loads(iaside("profile", MODEL, "--data", images, *options, *arguments).out)
    assert shaped["image_size"] == [16, 16]
    assert shaped["model"]["name"] == "mine"
    assert shaped["model"]["preprocessing"]["interpolation"] == "bicubic"
    normalised = ("--mean", "imagenet", "--std", "0.25,0.5,1")
    other = json.loads(iaside("profile", MODEL, "--data", images, *normalised, *arguments).out)
    assert other["model"]["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert other["model"]["preprocessing"]["std"] == [0.25, 0.5, 1]


THREE = """
from torch import nn
def net():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    net.preprocessing = {"resize": 32, "crop": 32}
    return net
"""


def test_labels_by_rank_or_by_a_file(iaside, images, tmp_path, monkeypatch):
    arguments = ("profile", MODEL, "--data", images, "--n-bands", 2, "--json", "-")
    assert set(json.loads(iaside(*arguments).out)["labels"]) == {0, 2, 3}
    iaside(*arguments, "--labels", "rank").refused("10 outputs", "sorted folders, 3", "--classes")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three_outputs.py").write_text(THREE)
    three = ("profile", "python:three_outputs:net", *arguments[2:])
    iaside(*three).refused("3 outputs", "cifar10, by the names of the folders", "--labels rank")
    ranked = json.loads(iaside(*three, "--labels", "rank").out)
    assert set(ranked["labels"]) == {0, 1, 2}
    classes = tmp_path / "classes.txt"
    classes.write_text("cat\nbird\nairplane\n" + "".join(f"other{k}\n" for k in range(7)))
    assert json.loads(iaside(*arguments, "--classes", classes).out)["labels"] == [2, 2, 1, 1, 0, 0]


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precisions(iaside, images, precision):
    arguments = ("profile", MODEL, "--data", images, "--n-bands", 2, "--json", "-")
    single = json.loads(iaside(*arguments).out)
    found = json.loads(iaside(*arguments, "--precision", precision).out)
    assert found["precision"] == precision
    # bfloat16 has 8 bits: relative errors near 1 % of log-likelihoods near 2 nats
    tolerance = 1e-5 if precision == "float64" else 0.05
    np.testing.assert_allclose(
        found["shapley_values"], single["shapley_values"], atol=tolerance, rtol=0
    )


def test_resume_folder_keeps_every_image(iaside, images, tmp_path):
    arguments = ("profile", MODEL, "--data", images, "--n-bands", 3, "--resume", tmp_path / "kept")
    first = json.loads(iaside(*arguments, "--json", "-").out)
    WATCH.rows = 0
    second = json.loads(iaside(*arguments, "--json", "-").out)
    assert WATCH.rows == second.pop("n_forward") == 0
    del first["n_forward"]
    assert second == first
    other = iaside(*arguments[:-4], "--n-bands", 4, "--resume", tmp_path / "kept")
    other.refused("holds another run", "protocol", "give another folder")
    # as the defaults were in earlier versions
    chains = iaside(*arguments, "--protocol", "permutation", "--forwards", "fast")
    chains.refused("same choices (--forwards plain, --protocol estimator=exact) or give another")


def test_more_bands_than_all_coalitions_are_of_chains(iaside, images):
    run = iaside("profile", MODEL, "--data", images, "--n-bands", 13)
    assert run.code == 0, run.err
    said = "estimator: 13 pairs of chains, 157 passes an image, as all coalitions of 13 bands"
    assert f"{said} would be 8,192" in " ".join(run.out.split())
    asked = iaside("profile", MODEL, "--data", images, "--n-bands", 13, "--protocol", "exact")
    asked.refused("--n-bands", "8,192")


def test_grey_models_read_grey_images(iaside, images):
    run = iaside("profile", "python:tiny_model:grey", "--data", images, "--n-bands", 2)
    assert run.code == 0, run.err


def test_target_error_is_an_option(iaside, images):
    arguments = ("--n-bands", 2, "--target-error", "0.5", "--json", "-")
    found = json.loads(iaside("profile", MODEL, "--data", images, *arguments).out)
    assert found["n_images"] == 6  # never below 100 images


def test_target_says_what_the_error_is_of(iaside, images):
    arguments = ("--n-bands", 2, "--target-error", "0.5", "--target", "sign", "--json", "-")
    assert json.loads(iaside("profile", MODEL, "--data", images, *arguments).out)["n_images"] == 6
    run = iaside("profile", MODEL, "--data", images, "--target", "sign")
    run.refused("--target needs --target-error")
    run = iaside("profile", MODEL, "--data", images, "--target-error", 1, "--target", "width")
    run.refused("--target must be one of signed_score, score, sign; got 'width'")


def test_manifest(iaside, images, tmp_path):
    manifest = tmp_path / "list.csv"
    Path(tmp_path / "in").symlink_to(images)
    manifest.write_text("path,label\nin/bird/img_0.png,2\nin/cat/img_1.png,9\n")
    found = json.loads(iaside("profile", MODEL, "--data", manifest, "--json", "-").out)
    assert found["labels"] == [2, 9]


def test_with_many_images_chains_run_until_the_score_is_known(iaside, tmp_path):
    many = make_tree(tmp_path, ("airplane", "bird", "cat"), n=100, height=32, width=32)
    arguments = ("profile", MODEL, "--data", many, "--n-bands", 6, "--json", tmp_path / "a.json")
    run = iaside(*arguments, "--target-error", 0)
    assert "estimator: 6 pairs of chains, 31 passes an image" in run.out
    assert "--protocol exact" in run.out
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["protocol"]["estimator"] == "permutation"
    assert found["n_images"] == 300
    iaside(*arguments, "--target-error", 0.2)
    assert json.loads((tmp_path / "a.json").read_text())["n_images"] < 300
    iaside(*arguments, "--protocol", "exact", "--n-images", 100)
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["protocol"]["estimator"], found["n_images"]) == ("exact", 100)
    assert found["protocol"]["forwards"] == "fast"  # 6,300 passes


def test_what_was_written_is_said(iaside, images, tmp_path):
    files = [tmp_path / name for name in ("r.npz", "p.png", "r.json")]
    options = zip(("--save", "--plot", "--json"), files, strict=True)
    arguments = ("profile", MODEL, "--data", images, "--n-bands", 2)
    arguments += tuple(word for pair in options for word in pair)
    run = iaside(*arguments, "--n-images", 1000)
    assert run.out.splitlines()[-3:] == [f"wrote {file}" for file in files]
    assert "images: --n-images 1000 takes all of them" in run.out
    assert "wrote" not in iaside(*arguments, "--quiet").out
    assert "takes all" not in iaside(*arguments, "--n-images", 1).out
