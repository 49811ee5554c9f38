"""Evidence by band, in words: where the interval excludes 0."""

from __future__ import annotations

import numpy as np
import pytest

from iaside_plugins.importance.evidence import Evidence, band_list, total


@pytest.mark.parametrize(
    ("bands", "text"),
    [([], "no band"), ([3], "band 3"), ([0, 1, 2, 5], "bands 0-2, 5"), ([0, 2], "bands 0, 2")],
)
def test_bands_in_words(bands, text):
    assert band_list(bands) == text


def test_only_an_interval_that_excludes_zero_is_evidence():
    found = Evidence.of([1.0, -1.0, 1.0, -1.0, 0.0], [0.5, 0.5, 0.52, 0.52, None])
    assert (found.above, found.below, found.includes_zero) == ([0], [1], [2, 3, 4])
    assert found.sentence == (
        "evidence in band 0; evidence against the true class in band 1; "
        "interval includes 0 in bands 2-4"
    )
    assert Evidence.of([1.0], [None]).sentence == "evidence in no band; no interval in band 0"


def test_sum_of_bands_is_paired_over_images():
    psi = np.array([[1.0, -1.0, 5.0], [2.0, -2.0, 5.0], [3.0, -3.0, 5.0]])
    assert total(psi, [0, 1]) == (0.0, (0.0, 0.0))
    value, (low, high) = total(psi, [0, 2])
    assert value == 7.0
    assert high - value == pytest.approx(value - low) == pytest.approx(1.959964 / np.sqrt(3))
