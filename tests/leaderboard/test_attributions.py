"""The page on attributions shows what its files hold, whose tables are computed again here."""

from __future__ import annotations

from pathlib import Path

import pytest

from iaside_plugins.attributions.agreement import AgreementReport

FOLDER = Path(__file__).resolve().parents[2] / "leaderboard" / "attributions"
FILES = sorted(FOLDER.glob("*.json"))


def test_there_is_a_standard_a_robust_and_an_imagenet_model():
    models = [AgreementReport.load(path).info["model"] for path in FILES]
    assert {model["dataset"] for model in models} == {"cifar10", "imagenet"}
    training = {model["training"] for model in models if model["dataset"] == "cifar10"}
    assert len(training) == 2
    assert "standard" in training


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_page_shows_the_files_figures(path):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    report = AgreementReport.load(path)
    assert path.stem == report.info["model"]["name"]
    assert report.to_markdown() in page
    assert f"{report.n_images} images" in page


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_say_where_they_are_from_and_name_no_place(path):
    provenance = AgreementReport.load(path).info["provenance"]
    assert provenance["git_dirty"] is False
    assert provenance["versions"]["captum"]
    text = path.read_text(encoding="utf-8")
    assert "/home/" not in text
    assert "/root" not in text
