"""Fits of power laws against numpy's polynomials and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from iaside_plugins.spectral.power_law import FIT, fit_power_law

F = np.array([1.0, 2.5, 4.5, 7.0, 11.0])


@pytest.mark.parametrize("exponent", [-3.0, -0.5, 0.0, 2.0])
def test_a_power_law_is_a_line(exponent):
    slope, curvature, r_squared, residual = fit_power_law(F, 7 * F**exponent)
    assert slope == pytest.approx(exponent, abs=1e-12)
    assert curvature == pytest.approx(0, abs=1e-11)
    assert r_squared == pytest.approx(1 if exponent else np.nan, abs=1e-9, nan_ok=True)
    assert residual == pytest.approx(0, abs=1e-12)


def test_against_numpy_and_on_the_last_axis():
    values = np.random.default_rng(0).uniform(0.1, 9, (3, 2, 5))
    found = fit_power_law(F, values)
    assert found.shape == (3, 2, len(FIT))
    x = np.log10(F)
    for place in np.ndindex(3, 2):
        y = np.log10(values[place])
        line = np.polyfit(x, y, 1)
        misfit = y - np.polyval(line, x)
        expected = [
            line[0],
            np.polyfit(x, y, 2)[0],
            1 - (misfit**2).sum() / ((y - y.mean()) ** 2).sum(),
            10 * np.sqrt((misfit**2).mean()),
        ]
        np.testing.assert_allclose(found[place], expected, rtol=1e-9)


def test_a_bend_is_told_from_a_line():
    x = np.log10(F)
    slope, curvature, r_squared, _ = fit_power_law(F, 10 ** (-2 * x - 0.7 * x**2))
    assert curvature == pytest.approx(-0.7, abs=1e-9)
    assert slope < -2
    assert 0.9 < r_squared < 1


def test_too_few_points():
    assert np.isnan(fit_power_law([2.0], [1.0])).all()
    two = fit_power_law([1.0, 10.0], [1.0, 0.01])
    assert two[0] == pytest.approx(-2)
    assert np.isnan(two[1:]).all()
