"""Forecasts as tables and text: means, intervals, rivals and misses, on planted numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import oracles
import pytest

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.spectra.forecast_text import agreement_lines, forecast_text
from iaside_plugins.spectra.forecasts import ForecastCheck, forecast_table, misses
from iaside_plugins.spectra.stored import shipped_spectra


@pytest.fixture(scope="module")
def table() -> tuple:
    found = spectral_importance(oracles.TinyNet(), oracles.sample(9, (32, 32)), Protocol(4))
    return found, forecast_table(found, shipped_spectra(32))


def planted(n: int = 40) -> ForecastCheck:
    """Two corruptions of two severities: the first is forecast right, the second 30 points low."""
    errors = np.array([0.2, 0.4, 0.6, 0.8])
    measured = (np.arange(n)[:, None] < errors * n).astype(float)
    forecast = np.tile([0.2, 0.4, 0.3, 0.5], (n, 1))
    clean = (np.arange(n) < 0.1 * n).astype(float)
    conditions = tuple(Condition(name, s) for name in ("fog", "snow") for s in (1, 2))
    share = np.array([0.0, 0.1, 0.7, 0.9])
    return ForecastCheck(conditions, forecast, measured, clean, share, np.array([9.0, 7, 5, 3]))


def test_names_and_the_mean_are_means_of_the_forecasts(table):
    importance, data = table
    json.dumps(data, allow_nan=False)
    assert [len(data["names"]), len(data["conditions"])] == [15, 75]
    fog = [row for row in data["conditions"] if row["name"] == "fog"]
    row = next(row for row in data["names"] if row["name"] == "fog")
    assert row["error"] == pytest.approx(np.mean([one["error"] for one in fog]))
    assert row["error_low"] <= row["error"] <= row["error_high"]
    assert data["mean"]["error"] == pytest.approx(np.mean([one["error"] for one in data["names"]]))
    assert data["clean"]["error"] == pytest.approx(1 - importance.clean_accuracy)
    spectrum = shipped_spectra(32)[0]
    assert data["conditions"][0]["error"] == pytest.approx(importance.forecast(spectrum).error)


def test_the_text_says_what_is_no_noise(table):
    _, data = table
    text = forecast_text(data)
    assert "  mean of 15" in text
    assert "  clean (measured)" in text
    assert max(map(len, text.splitlines())) <= 100
    unseen = text.split("25% or more for")[1]
    assert "contrast" in unseen
    assert "fog" in unseen
    assert "gaussian noise" not in unseen
    one = forecast_table(table[0], shipped_spectra(32)[:1])
    assert "mean of" not in forecast_text(one)
    assert "additive" not in forecast_text(one)


def test_a_check_by_hand():
    found = planted().to_dict()
    known = {row["predictor"]: row for row in found["predictors"]}
    assert known["forecast"]["mean_absolute_error"] == pytest.approx(0.15)
    assert known["clean_error"]["mean_absolute_error"] == pytest.approx(0.4)
    assert known["clean_error"]["advantage"] == pytest.approx(0.25)
    assert known["forecast"]["rank_correlation"] == pytest.approx(0.8)  # of 1 3 2 4 and 1 2 3 4
    assert known["overall_snr"]["rank_correlation"] == pytest.approx(1)
    for row in found["conditions"]:
        assert row["difference"] == pytest.approx(row["forecast"] - row["error"])
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert found["clean_error"] == pytest.approx(0.1)


def test_misses_are_those_whose_interval_does_not_hold_zero():
    found = planted().to_dict()
    assert [(row["name"], row["level"]) for row in misses(found)] == [("snow", 1), ("snow", 2)]
    text = "\n".join(agreement_lines("severities", found))
    assert "it misses 2 of 4, most of all snow 1 -30%; snow 2 -30%" in text
    assert "the forecast is closer by +0.250" in text


def test_severities_are_averaged_by_name():
    both = planted().by_name()
    assert [str(one) for one in both.conditions] == ["fog", "snow"]
    np.testing.assert_allclose(both.measured.mean(axis=0), [0.3, 0.7])
    np.testing.assert_allclose(both.forecast[0], [0.3, 0.4])
    text = "\n".join(agreement_lines("corruptions", both.to_dict()))
    assert "for snow:" in text
    nothing = replace(planted(), snr_db=np.array([np.inf, 7, 5, 3]))  # fog 1 changes no pixel
    np.testing.assert_array_equal(nothing.by_name().snr_db, [np.inf, 4])
