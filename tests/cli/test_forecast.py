"""`iaside profile --forecast`, and spectra that `iaside spectrum` saves of one's own pairs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from image_files import make_tree, random_pixels, save
from PIL import Image

from iaside_plugins import SpectralImportance
from iaside_plugins.spectra.stored import load_spectra, shipped_spectra

MODEL = ("python:tiny_model:network", "--device", "cpu")


def noisy(clean, folder):
    """The images of a folder with camera noise, under the same names, in a new folder."""
    for path in sorted(clean.rglob("*.png")):
        pixels = np.asarray(Image.open(path)).astype(float)
        noise = np.random.default_rng(len(str(path))).normal(0, 12, pixels.shape)
        save(folder / path.relative_to(clean), np.clip(pixels + noise, 0, 255).astype(np.uint8))
    return folder


def test_the_corruptions_are_forecast_from_shipped_spectra(iaside, images, tmp_path):
    arguments = ("profile", *MODEL, "--data", images, "--n-bands", 4, "--forecast")
    run = iaside(*arguments, "--save", tmp_path / "found.npz", "--json", tmp_path / "found.json")
    assert run.code == 0, run.err
    for text in ("signed score", "  gaussian noise", "  mean of 15", "no additive noise"):
        assert text in run.out, text
    data = json.loads((tmp_path / "found.json").read_text())["forecast"]
    assert [len(data["names"]), len(data["conditions"])] == [15, 75]
    result = SpectralImportance.load(tmp_path / "found.npz")
    own = result.forecast(shipped_spectra(32)[7])
    assert data["conditions"][7]["error"] == pytest.approx(own.error)


def test_ones_own_perturbation_is_measured_saved_and_forecast(iaside, images, tmp_path):
    folder, file = noisy(images, tmp_path / "camera"), tmp_path / "camera.json"
    measure = ("spectrum", "--data", images, "--perturbed", folder, "--n-bands", 8)
    run = iaside(*measure, "--save", file)
    assert run.code == 0, run.err
    assert "  camera " in run.out
    (found,) = load_spectra(file)
    assert (found.condition, found.n_images) == (("camera", None), 6)
    run = iaside("profile", *MODEL, "--data", images, "--n-bands", 4, "--spectrum", file)
    assert run.code == 0, run.err
    assert "  camera " in run.out
    assert "mean of" not in run.out


def test_pairs_need_no_class_folders_without_a_model(iaside, tmp_path):
    for k in range(3):
        save(tmp_path / "clean" / f"{k}.png", random_pixels(k, 32, 32))
        save(tmp_path / "noisy" / f"{k}.jpg", random_pixels(k, 32, 32))
    pair = ("spectrum", "--data", tmp_path / "clean", "--perturbed", tmp_path / "noisy")
    run = iaside(*pair, "--json", "-")
    assert run.code == 0, run.err
    data = json.loads(run.out)
    assert [(row["name"], row["strength"], row["n_images"]) for row in data["conditions"]] == [
        ("noisy", None, 3)
    ]
    (tmp_path / "noisy" / "1.jpg").unlink()
    iaside(*pair).refused("1 of 3 images are not in", "1.png")


def test_pairs_of_two_sizes_are_said(iaside, tmp_path, caplog):
    """A crop of 100 pixels, resized again, shows another part than the whole image."""
    for k in range(2):
        save(tmp_path / "clean" / f"{k}.png", pixels := random_pixels(k, 100, 130))
        save(tmp_path / "noisy" / f"{k}.png", pixels[:, 15:115])
    run = iaside("spectrum", "--data", tmp_path / "clean", "--perturbed", tmp_path / "noisy")
    assert run.code == 0, run.err
    assert "of 100 x 100 pixels, and the clean ones of 130 x 100 (width x height)" in caplog.text


def test_a_model_shows_its_error_on_the_pairs(iaside, images, tmp_path):
    folder = noisy(images, tmp_path / "camera")
    model = ("--model", *MODEL, "--n-bands", 4, "--json", "-")
    run = iaside("spectrum", "--data", images, "--perturbed", folder, *model)
    assert run.code == 0, run.err
    (row,) = json.loads(run.out)["conditions"]
    assert 0 <= row["error"] <= 1


def test_corruptions_are_saved_with_their_severities(iaside, images, tmp_path):
    some = ("--corruptions", "contrast,pixelate", "--severities", "1,3", "--save")
    run = iaside("spectrum", "--data", images, *some, tmp_path / "found.json")
    assert run.code == 0, run.err
    found = [one.condition for one in load_spectra(tmp_path / "found.json")]
    assert found == [("contrast", 1), ("contrast", 3), ("pixelate", 1), ("pixelate", 3)]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--forecast", "--protocol", "estimator=permutation"), ["use --protocol estimator=exact"]),
        (("--forecast", "--protocol", "reference"), ["chebyshev or euclidean, got boxes"]),
        (("--forecast", "--protocol", "band_norm=euclidean"), ["does not add up to 8 euclidean"]),
        (("--spectrum", "missing.json"), ["cannot read missing.json"]),
    ],
)
def test_what_cannot_be_forecast_is_said_before_the_work(iaside, images, arguments, fragments):
    run = iaside("profile", *MODEL, "--data", images, *arguments)
    run.refused(*fragments)


def test_other_sizes_are_sent_to_spectrum_save(iaside, tmp_path):
    tree = make_tree(tmp_path / "images", ("bird", "cat"), n=1, height=48, width=48)
    run = iaside("profile", *MODEL, "--data", tree, "--resize", 0, "--crop", 0, "--forecast")
    run.refused("shipped for images of 32 and 224 pixels, not 48", "--spectrum FILE")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--perturbed", "DIR", "--corruptions", "fog"), ["--corruptions and --perturbed exclude"]),
        (("--perturbed", "DIR", "--severities", "1"), ["--severities and --perturbed exclude"]),
        (("--perturbed", "missing"), ["there is no folder missing of perturbed images"]),
        (
            ("--save", "f.json", "--corruptions", "none", "--attacks", "fgsm", "--model", MODEL[0]),
            ["--save keeps the spectra of corruptions"],
        ),
    ],
)
def test_mistakes_of_pairs_end_with_one_line(iaside, images, tmp_path, arguments, fragments):
    folder = shutil.copytree(images, tmp_path / "DIR")
    given = [folder if word == "DIR" else word for word in arguments]
    iaside("spectrum", "--data", images, *given).refused(*fragments)
