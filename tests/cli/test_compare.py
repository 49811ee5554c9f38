"""`iaside compare`: a table, a JSON file, a picture, and one line for every mistake."""

from __future__ import annotations

import json

import pytest
from tiny_model import WATCH

pytest.importorskip("captum", reason="needs the extra captum")

from iaside_plugins.attributions.agreement import AgreementReport

pytestmark = pytest.mark.captum
MODEL = "python:tiny_model:network"
QUICK = ("--n-bands", 3, "--n-sensitivity", 2, "--methods", "ig,saliency", "--device", "cpu")


def test_it_prints_tables_and_writes_json_and_a_picture(iaside, images, tmp_path):
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    run = iaside("compare", MODEL, "--data", images, *QUICK, "--json", out, "--plot", picture)
    assert run.code == 0, run.err
    for text in (
        "attribution of each band, nats",
        "agreement with I-ASIDE",
        "Integrated Gradients",
        "passes",
    ):
        assert text in run.out
    data = json.loads(out.read_text())
    assert data["n_images"] == 6
    assert [row["method"] for row in data["agreement"]] == ["iaside", "ig", "saliency"]
    assert data["model"]["name"] == "network"
    assert data["provenance"]["versions"]["captum"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    report = AgreementReport.load(out)
    assert report.protocol.n_bands == 3
    assert "| Saliency |" in report.to_markdown()
    beside = iaside(
        "compare",
        MODEL,
        "--data",
        images,
        *QUICK,
        "--plot",
        tmp_path / "both.png",
        "--beside",
        out,
        "--quiet",
    )
    assert beside.code == 0, beside.err
    assert beside.out == ""
    heights = [
        int.from_bytes(file.read_bytes()[20:24], "big") for file in (picture, tmp_path / "both.png")
    ]
    assert heights[1] > heights[0], "room for another model's dots"
    few = ("--n-images", 2, "--plot", tmp_path / "both.png", "--beside", out, "--dry-run")
    fewer = iaside("compare", MODEL, "--data", images, *QUICK, *few)
    said = " ".join(fewer.out.split())
    assert "found.json is of other images: 2 of its 6 are among these 2" in said


def test_the_sensitivity_is_an_option_that_says_what_it_costs(iaside, images):
    quiet = ("--n-bands", 3, "--methods", "saliency", "--device", "cpu")
    run = iaside("compare", MODEL, "--data", images, *quiet)
    assert run.code == 0, run.err
    assert "sensitivity: not measured, as it explains an image 5 more times" in run.out
    asked = iaside(
        "compare", MODEL, "--data", images, *quiet, "--n-sensitivity", 2, "--dry-run", "--json", "-"
    )
    parts = json.loads(asked.out)["cost"]["parts"]
    assert parts["sensitivity"]["forward"] == 2 * 5 * 8  # of I-ASIDE: all coalitions of 3 bands
    assert parts["sensitivity"]["gradient"] == 2 * 5


def test_json_on_stdout_is_alone_there(iaside, images):
    run = iaside("compare", MODEL, "--data", images, *QUICK, "--json", "-")
    assert run.code == 0
    assert json.loads(run.out)["protocol"]["n_bands"] == 3


def test_an_interrupted_run_goes_on(iaside, images):
    WATCH._interrupt_after = 700
    run = iaside("compare", MODEL, "--data", images, *QUICK)
    assert run.code == 2
    assert "run the same command again" in run.err
    WATCH._interrupt_after, WATCH.rows = None, 0
    assert iaside("compare", MODEL, "--data", images, *QUICK).code == 0
    resumed, WATCH.rows = WATCH.rows, 0
    assert iaside("compare", MODEL, "--data", images, *QUICK).code == 0
    whole = WATCH.rows
    assert resumed < whole - 300, "700 rows were done, of which the last group is done again"


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--methods", "ig,salience"), ["unknown attribution method", "'salience'", "saliency"]),
        (("--protocol", "absence=gaussian"), ["needs --protocol absence=zero"]),
        (("--n-bands", 40), ["--n-bands must be at most 32, got 40"]),
        (("--n-sensitivity", -1), ["--n-sensitivity must be an integer of at least 0, got -1"]),
        (("--plot", "found.bmp"), [".png, .svg or .pdf"]),
        (
            ("--plot", "a.png", "--beside", "missing.json"),
            ["missing.json is not a saved agreement report"],
        ),
        (("--beside", "some.json"), ["--beside is for the plot", "--plot FILE"]),
        (("--protocol", "estimator=permutation"), ["needs --protocol estimator=exact"]),
        (("--device", "tpu"), ["--device must be auto, cpu or cuda[:i], got 'tpu'"]),
    ],
)
def test_mistakes_end_with_one_line_before_the_work(iaside, images, arguments, fragments):
    run = iaside("compare", MODEL, "--data", images, *arguments)
    run.refused(*fragments)
    assert WATCH.rows == 0


def test_without_captum_the_extra_is_named(iaside, images, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith(("captum", "iaside_plugins"))]:
        if (
            name.startswith("captum")
            or "captum" in name
            or "attribution" in name
            or (name.endswith("spectral_shapley"))
        ):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "captum", None)
    run = iaside("compare", MODEL, "--data", images)
    run.refused("pip install -e '.[captum]'")
