"""The report of spectra: pooling, matching, intervals, text and pictures, on planted numbers."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from iaside_plugins import Protocol, SpectralPartition, spectral_importance
from iaside_plugins.spectra.perturbation import perturbation_spectrum
from iaside_plugins.spectra.plots import plot_spectrum
from iaside_plugins.spectra.report import PerturbedCondition, SpectrumReport, pooled
from iaside_plugins.spectra.text import (
    _band_attack_rows,
    fit_table,
    label,
    spectrum_summary,
    spectrum_text,
)
from iaside_plugins.spectra.verdict import verdict
from iaside_plugins.spectral.energy import band_energies, band_products
from iaside_plugins.stats.correlation import rank_correlation

PARTITION = SpectralPartition(4)
RNG = torch.Generator().manual_seed(0)
X = torch.rand(8, 3, 16, 16, generator=RNG, dtype=torch.float64)
NOISE = torch.randn(X.shape, generator=RNG, dtype=torch.float64)
IDS = tuple("abcdefgh")


def condition(name: str, strength: float, scale: float, **options) -> PerturbedCondition:
    wrong = (np.arange(8) < 8 * scale).astype(float)
    given = {
        "kind": "corruption",
        "name": name,
        "title": name,
        "strength": strength,
        "norm": None,
        "ids": IDS,
        "energies": band_energies(X, X + scale * NOISE, PARTITION),
        "counts": np.ones(8, dtype=bool),
        "wrong": wrong,
    }
    return PerturbedCondition(**given | options)


def report(conditions, importance=None) -> SpectrumReport:
    return SpectrumReport(
        tuple(conditions), PARTITION, (16, 16), 3, importance, {"model": None, "seed": 0}
    )


@pytest.fixture(scope="module")
def importance():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 16), torch.nn.Flatten())
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=RNG) / 9
    batch = [(X.float(), torch.arange(8) % 5, list(IDS))]
    return spectral_importance(net.eval(), batch, Protocol(n_bands=4))


CONDITIONS = [
    condition("fog", 1, 0.1),
    condition("fog", 2, 0.5),
    condition("snow", 1, 0.3),
    condition("snow", 2, 0.9),
    condition("frost", 1, 0.2),
    condition("frost", 2, 0.4),
    condition(
        "pgd",
        8 / 255,
        0.2,
        kind="attack",
        title="PGD Linf",
        norm="Linf",
        counts=np.array([True] * 5 + [False] * 3),
        wrong=np.array([1.0] * 6 + [0.0] * 2),
    ),
    condition("ddn", None, 0.05, kind="attack", title="DDN L2", norm="L2"),
    condition("band_pgd_1", 0.5, 0.05, kind="band attack", title="PGD L2 in band 1", norm="L2"),
]


def test_a_corruption_over_all_severities_averages_each_image_first():
    one, two = CONDITIONS[:2]
    both = pooled([one, two])
    np.testing.assert_allclose(both.energies, (one.energies + two.energies) / 2)
    np.testing.assert_allclose(both.wrong, (one.wrong + two.wrong) / 2)
    short = condition(
        "fog",
        2,
        0.5,
        ids=IDS[1:],
        energies=two.energies[1:],
        wrong=two.wrong[1:],
        counts=two.counts[1:],
    )
    assert pooled([one, short]).ids == IDS[1:]  # an image unreadable in one is left out of both


def test_figures_are_those_of_the_spectra():
    frame = report(CONDITIONS).to_frame()
    assert [label(row) for row in frame.to_dict("records")] == [
        "fog",
        "fog 1",
        "fog 2",
        "snow",
        "snow 1",
        "snow 2",
        "frost",
        "frost 1",
        "frost 2",
        "PGD Linf, eps 8/255",
        "DDN L2, least",
        "PGD L2 in band 1, eps 0.5",
    ]
    row = frame.iloc[2]
    alone = perturbation_spectrum(X, X + 0.5 * NOISE, n_bands=4)
    assert row["slope"] == pytest.approx(alone.slope, abs=1e-9)
    assert row["slope_low"] == pytest.approx(alone.slope_interval[0], abs=1e-9)
    assert row["error"] == 4 / 8
    assert frame.iloc[0]["error"] == pytest.approx((1 + 4) / 16)
    assert frame.iloc[0]["error_low"] < frame.iloc[0]["error"] < frame.iloc[0]["error_high"]
    attack = frame.iloc[9]
    assert (attack["n_images"], attack["n_failed"], attack["n_unchanged"]) == (5, 3, 0)
    # 5 successes, 1 misclassified without an attack, 2 that withstand
    assert (attack["n_correct"], attack["success"], attack["error"]) == (7, 5 / 7, 6 / 8)
    assert np.isnan(frame.iloc[11]["slope"])  # one band is no spectrum
    bands = report(CONDITIONS).bands()
    assert len(bands) == 12 * 4


def test_matches_are_rank_correlations_over_bands(importance):
    found = report(CONDITIONS, importance).matches()
    row = found[found["name"] == "ddn"].iloc[0]
    energy = CONDITIONS[7].energies.mean(axis=0)[4:8]
    expected = rank_correlation(importance.shapley_values, energy)
    assert row["energy"] == pytest.approx(float(expected))
    assert row["energy_low"] <= row["energy"] <= row["energy_high"]
    assert report(CONDITIONS).matches().empty


def test_the_forecast_is_over_corruptions_and_over_severities(importance):
    found = report(CONDITIONS, importance).forecast
    assert [str(one) for one in found["corruptions"].conditions] == ["fog", "snow", "frost"]
    assert len(found["severities"].conditions) == 6
    alone = perturbation_spectrum(X, X + 0.5 * NOISE, n_bands=4)
    own = importance.forecast(alone)
    np.testing.assert_allclose(found["severities"].forecast[:, 1], own.per_image, atol=1e-12)
    mean = found["severities"].forecast[:, :2].mean(axis=1)
    np.testing.assert_allclose(found["corruptions"].forecast[:, 0], mean, atol=1e-12)
    # White noise of many strengths on one spectrum: the SNR says all of what was planted.
    ranks = {row["predictor"]: row for row in found["severities"].to_dict()["predictors"]}
    assert ranks["overall_snr"]["rank_correlation"] == pytest.approx(1, abs=0.03)
    assert report(CONDITIONS).forecast == {}
    assert report(CONDITIONS[:4], importance).forecast == {}  # of two corruptions


def test_an_image_that_one_condition_lacks_is_left_out_of_the_forecast(importance):
    two = CONDITIONS[1]
    short = condition(
        "fog",
        2,
        0.5,
        ids=IDS[1:],
        energies=two.energies[1:],
        wrong=two.wrong[1:],
        counts=two.counts[1:],
    )
    found = report([CONDITIONS[0], short, *CONDITIONS[2:6]], importance).forecast["severities"]
    assert len(found.clean) == 7
    np.testing.assert_array_equal(found.measured[:, 0], CONDITIONS[0].wrong[1:])


def test_what_is_stored_are_the_means_of_every_severity():
    products = band_products(X, X + 0.1 * NOISE, PARTITION)
    found = report([condition("fog", 1, 0.1, products=products)]).stored()
    assert [one.condition for one in found] == [("fog", 1)]
    np.testing.assert_allclose(found[0].noise, CONDITIONS[0].energies[:, 4:8].mean(axis=0))
    np.testing.assert_allclose(found[0].product, products.mean(axis=0))


@pytest.mark.parametrize("with_model", [False, True])
def test_text_json_and_picture(importance, with_model, tmp_path):
    found = report(CONDITIONS, importance if with_model else None)
    found.save(tmp_path / "found.json")
    data = json.loads((tmp_path / "found.json").read_text())
    text = spectrum_text(data)
    assert "PGD Linf, eps 8/255" in text
    assert ("the forecast is closer by" in text) == with_model
    assert len(fit_table(data).splitlines()) == 2 + 3 + 2
    figure = plot_spectrum(data)
    figure.savefig(tmp_path / "found.png")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:5] == ["fog", "snow", "frost", "PGD Linf, eps 8/255", "DDN L2, least"]
    assert ("importance and attack energy" in titles) == with_model
    assert ("errors, forecast and measured" in titles) == with_model
    line = figure.axes[0].lines[-1]
    slope = np.diff(line.get_ydata()[[0, -1]]) / np.diff(np.log10(line.get_xdata()[[0, -1]])) / 10
    assert slope[0] == pytest.approx(data["conditions"][0]["slope"])


@pytest.mark.parametrize("with_model", [False, True])
def test_the_summary_has_a_row_a_perturbation_and_ends_with_the_verdict(importance, with_model):
    data = report(CONDITIONS, importance if with_model else None).to_dict()
    head, _, *rows = spectrum_summary(data).splitlines()
    assert "--long for severities" in head
    names = ["fog", "snow", "frost", "PGD Linf, eps 8/255", "DDN L2, least"]
    assert [row.split("  ")[1] for row in rows[:5]] == names
    slope = data["conditions"][0]["slope"]
    assert f"  {slope:+.2f}" in rows[0]
    assert any(row.startswith("success of PGD L2 inside one band") for row in rows)
    assert rows[-2] == ""
    assert rows[-1].startswith("verdict: Signal over perturbation falls with frequency like")
    assert "of 5 perturbations" in rows[-1]
    for words in ("The model has evidence in", "It errs most under snow", "than the clean error"):
        assert (words in rows[-1]) == with_model


def test_each_clause_of_the_verdict_has_its_interval():
    falls = {
        "kind": "corruption",
        "slope_low": -3.0,
        "slope_high": -2.0,
        "r_squared_low": 0.97,
        "error": 0.5,
    }
    falls |= {"error_low": 0.4, "error_high": 0.6}
    rises = falls | {"slope_low": 0.1, "slope_high": 0.2, "error": 0.7}
    bent = falls | {"r_squared_low": 0.94}
    unknown = falls | dict.fromkeys(("slope_low", "slope_high", "r_squared_low"))
    alone = {"importance": None, "forecast": {}}
    rows = {"a": falls, "b": rises, "c": bent, "d": unknown}
    assert verdict(alone, rows) == (
        "Signal over perturbation falls with frequency like a power law under 1 of 4 "
        "perturbations, and rises under b."
    )
    assert verdict(alone, {"a": bent}).endswith("under 0 of 1 perturbation.")
    clean = {"predictor": "clean_error", "advantage": 0.1, "advantage_low": -0.1}
    check = {"predictors": [clean | {"advantage_high": 0.3}]}
    found = {
        "importance": {"shapley_values": [1.0, 0.0], "shapley_se": [0.1, 0.1]},
        "forecast": {"corruptions": check},
    }
    text = verdict(found, rows)
    assert (
        "The model has evidence in band 0; interval includes 0 in band 1. It errs most under b"
        in text
    )
    assert "not shown to be closer to the measured one" in text
    clean["advantage_low"] = 0.05
    check["predictors"] = [clean | {"advantage_high": 0.3}]
    assert "is closer to the measured one" in verdict(found, {})
    assert "perturbations" not in verdict(found, {})


@pytest.mark.parametrize("n_bands", [2, 3, 4, 5, 8])
def test_the_picture_of_any_number_of_bands_has_ticks_that_do_not_overlap(n_bands):
    partition = SpectralPartition(n_bands)
    energies = band_energies(X, X + 0.1 * NOISE, partition)
    one = condition("fog", 1.0, 1.0, energies=energies)
    data = SpectrumReport((one,), partition, (16, 16), 3, None, {"model": None}).to_dict()
    figure = plot_spectrum(json.loads(json.dumps(data)))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = sorted(label.get_window_extent().intervalx.tolist() for label in ax.get_xticklabels())
    assert len(boxes) >= 2
    assert all(left[1] < right[0] for left, right in itertools.pairwise(boxes))
    assert not ax.get_xticklabels(minor=True)
    (text,) = ax.texts
    assert ("R²" in text.get_text()) == (n_bands > 2)  # two points are on any line
    assert figure.get_suptitle().startswith(f"8 images, {n_bands} bands (chebyshev)")


def test_a_band_attack_that_no_image_counts_for_has_no_success():
    bands = [
        {"kind": "band attack", "name": f"band_pgd_{k}", "strength": 0.5, "success": success}
        for k, success in enumerate((None, 0.25))
    ]
    assert _band_attack_rows({"conditions": bands, "n_bands": 2})[1][1:] == ["–", "25%"]
