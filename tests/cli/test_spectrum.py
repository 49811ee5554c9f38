"""`iaside spectrum`: tables, JSON, a picture, resuming, and one line for every mistake."""

from __future__ import annotations

import json

import pytest
import typer
from image_files import make_tree, random_pixels, save
from tiny_model import WATCH

from iaside_plugins.cli import command as cli

MODEL = ("--model", "python:tiny_model:network", "--device", "cpu")
SOME = ("--corruptions", "gaussian_noise,contrast,pixelate", "--severities", "1,3", "--n-bands", 4)


def test_corruptions_alone_need_no_model(iaside, images, tmp_path):
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    run = iaside("spectrum", "--data", images, *SOME, "--long", "--json", out, "--plot", picture)
    assert run.code == 0, run.err
    for text in ("SNR (dB) by band", "gaussian noise 3", "slope", "12 (0)", "misfit"):
        assert text.replace("12 (0)", "6 (0)") in run.out
    assert "error" not in run.out
    data = json.loads(out.read_text())
    assert data["model"] is data["importance"] is None
    assert data["forecast"] == {}
    assert len(data["conditions"]) == 3 * 3  # all severities together, then each
    assert {row["strength"] for row in data["conditions"]} == {None, 1.0, 3.0}
    assert all(row["error"] is None for row in data["conditions"])
    assert len(data["bands"]) == 9 * 4
    assert data["corruptions"]["jpeg"] is False  # as CIFAR-10-C
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_model_adds_importance_errors_attacks_and_the_joined_view(iaside, images, tmp_path):
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    run = iaside(
        "spectrum",
        "--data",
        images,
        *SOME,
        *MODEL,
        "--long",
        "--attacks",
        "fgsm,deepfool,band_pgd",
        "--epsilons",
        "8/255",
        "--epsilons-l2",
        "0.5",
        "--attack-steps",
        3,
        "--n-attack",
        4,
        "--json",
        out,
        "--plot",
        picture,
    )
    assert run.code == 0, run.err
    for text in (
        "FGSM Linf, eps 8/255",
        "DeepFool L2, least",
        "success of PGD L2 inside one band",
        "where the model looks",
        "forecast error under 3 corruptions, from clean images and spectra alone",
        "the forecast is closer by",
        "exploratory",
    ):
        assert text in run.out, text
    data = json.loads(out.read_text())
    assert data["model"]["name"] == "network"
    assert data["importance"]["n_images"] == 6
    assert set(data["attacks"]) == {"fgsm", "deepfool", *(f"band_pgd_{k}" for k in range(4))}
    bands = [row for row in data["conditions"] if row["kind"] == "band attack"]
    assert [row["strength"] for row in bands] == [0.5] * 4
    # every attacked image is accounted for: counted, failed or misclassified before, unchanged
    for row in data["conditions"]:
        n = 4 if row["kind"] != "corruption" else 6
        assert row["n_images"] + row["n_failed"] + row["n_unchanged"] == n
        assert 0 <= row["error_low"] <= row["error"] <= row["error_high"] <= 1
    assert set(data["forecast"]) == {"corruptions", "severities"}
    assert data["forecast"]["severities"]["n_conditions"] == 6
    assert len(data["matches"]) == len(data["conditions"])


def test_it_takes_what_every_command_takes():
    root = typer.main.get_command(cli.app)
    options = {name for parameter in root.commands["spectrum"].params for name in parameter.opts}
    common = {
        "--device",
        "--batch-size",
        "--seed",
        "--n-images",
        "--n-bands",
        "--protocol",
        "--resume",
        "--json",
        "--quiet",
        "--plot",
        "--data",
        "--corruptions",
        "--attacks",
    }
    assert common <= options


def test_photographs_are_corrupted_at_224_and_measured_as_the_model_sees_them(iaside, tmp_path):
    tree = make_tree(tmp_path / "photographs", ("bird", "cat"), n=1, height=260, width=300)
    arguments = (
        "spectrum",
        "--data",
        tree,
        "--corruptions",
        "pixelate",
        "--severities",
        2,
        "--json",
        "-",
        "--n-bands",
        2,
    )
    alone = json.loads(iaside(*arguments).out)
    assert alone["image_size"] == [224, 224]
    assert alone["corruptions"]["size"] == 224
    assert alone["corruptions"]["jpeg"] is True
    seen = json.loads(iaside(*arguments, "--model", "python:tiny_model:large_input").out)
    assert seen["image_size"] == [128, 128]
    assert seen["corruptions"]["size"] == 224
    as_asked = json.loads(iaside(*arguments, "--resize", 40, "--crop", 32).out)
    assert as_asked["image_size"] == [32, 32]


def test_a_distributed_tree_is_read(iaside, tmp_path):
    clean = make_tree(tmp_path / "clean", ("bird", "cat"), n=1, height=256, width=256)
    for severity in range(1, 6):
        made = make_tree(
            tmp_path / "imagenet-c" / "fog" / str(severity),
            ("bird", "cat"),
            n=1,
            height=224,
            width=224,
        )
        for path in made.rglob("*.png"):
            save(path.with_suffix(".JPEG"), random_pixels(severity, 224, 224))
            path.unlink()
    run = iaside(
        "spectrum",
        "--data",
        clean,
        "--corruptions",
        tmp_path / "imagenet-c",
        "--severities",
        "1,5",
        "--n-bands",
        2,
        "--json",
        "-",
    )
    assert run.code == 0, run.err
    data = json.loads(run.out)
    assert data["corruptions"]["source"] == "distributed"
    assert [(row["name"], row["strength"]) for row in data["conditions"]] == [
        ("fog", None),
        ("fog", 1.0),
        ("fog", 5.0),
    ]


def test_without_a_model_many_bands_cost_nothing(iaside, images):
    run = iaside(
        "spectrum",
        "--data",
        images,
        "--corruptions",
        "contrast",
        "--severities",
        "1",
        "--n-bands",
        14,
        "--json",
        "-",
    )
    assert run.code == 0, run.err
    assert json.loads(run.out)["n_bands"] == 14


def test_json_on_stdout_is_alone_there(iaside, images):
    run = iaside(
        "spectrum", "--data", images, "--corruptions", "contrast", "--severities", 2, "--json", "-"
    )
    assert run.code == 0
    assert json.loads(run.out)["n_bands"] == 8


def test_an_interrupted_run_goes_on_and_finds_the_same(iaside, images, tmp_path):
    arguments = (
        "spectrum",
        "--data",
        images,
        *SOME,
        *MODEL,
        "--attacks",
        "pgd",
        "--attack-steps",
        3,
        "--quiet",
        "--json",
    )
    assert iaside(*arguments, tmp_path / "whole.json").code == 0
    whole = WATCH.rows
    WATCH._interrupt_after, WATCH.rows = whole - 10, 0
    run = iaside(*arguments, tmp_path / "no.json")
    assert run.code == 2
    assert "run the same command again" in run.err
    WATCH._interrupt_after, WATCH.rows = None, 0
    assert iaside(*arguments, tmp_path / "resumed.json").code == 0
    assert WATCH.rows < 0.7 * whole  # the attack, and what it sees of the images, runs again
    first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("whole.json", "resumed.json")
    )
    for data in (first, second):
        del data["provenance"], data["importance"]["n_forward"]
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--attacks", "fgsm"), ["attacks need a model", "--model SPEC"]),
        (("--corruptions", "none"), ["nothing to measure"]),
        (("--corruptions", "fgo"), ["unknown corruption 'fgo'", "fog"]),
        (("--corruptions", ","), ["names none"]),
        (("--severities", "0,6"), ["numbers from 1 to 5", "'0,6'"]),
        (("--attacks", "sparsefool", *MODEL), ["no attack is called 'sparsefool'", "l0_fmn"]),
        (("--attacks", "pgd", "--epsilons", "8", *MODEL), ["8/255 is 0.0314"]),
        (("--attacks", "ddn", "--attack-steps", 0, *MODEL), ["ddn: expected steps >= 1, got 0"]),
        (("--attacks", "fgsm", "--n-attack", 0, *MODEL), ["--n-attack must be at least 1"]),
        (("--n-bands", 40), ["--n-bands must be at most 32, got 40"]),
        (("--protocol", "reference"), ["norm must be one of chebyshev, euclidean, got 'boxes'"]),
        (("--plot", "found.bmp"), [".png, .svg or .pdf"]),
        (("--data", "missing"), ["missing"]),
        (("--device", "banana"), ["device must be auto, cpu or cuda[:i], got 'banana'"]),
        (("--weights", "w.pth"), ["--weights needs --model"]),
        (("--mean", "0.5"), ["--mean needs --model"]),
        (("--std", "imagenet"), ["--std needs --model"]),
        (("--epsilons", "2/255"), ["--epsilons needs --attacks"]),
        (("--n-attack", 3), ["--n-attack needs --attacks"]),
        (
            ("--attacks", "band_pgd", "--epsilons", "1/255", *MODEL),
            ["--epsilons needs an Linf attack"],
        ),
        (
            ("--attacks", "fgsm,deepfool", "--epsilons-l2", 1, *MODEL),
            ["--epsilons-l2 needs an L2 attack of given budgets"],
        ),
        (
            ("--attacks", "fgsm,fgm", "--attack-steps", 5, *MODEL),
            ["--attack-steps needs an attack of several steps"],
        ),
        (
            ("--attacks", "fgsm", "--epsilons", 0, *MODEL),
            ["fgsm: expected finite budgets of at least 0, some above 0, got [0.0]"],
        ),
        (
            ("--attacks", "band_pgd", "--epsilons-l2", "-1,0.5", *MODEL),
            ["band_pgd_0: expected finite budgets of at least 0, some above 0, got [-1.0, 0.5]"],
        ),
    ],
)
def test_mistakes_end_with_one_line_before_the_work(iaside, images, arguments, fragments):
    run = iaside("spectrum", "--data", images, *arguments)
    run.refused(*fragments)
    assert WATCH.rows == 0


def test_without_foolbox_the_extra_is_named(iaside, images, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "foolbox", None)
    run = iaside("spectrum", "--data", images, "--attacks", "fgsm", *MODEL)
    run.refused("pip install -e '.[foolbox]'")
