"""Accuracy against guessing: an exact test, said before the numbers at every door."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from scipy import stats

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.importance.chance import chance, chance_warning, not_judged
from iaside_plugins.stats.intervals import binomial_p


@pytest.mark.parametrize(
    ("hits", "n", "n_classes"), [(0, 5, 10), (13, 152, 10), (30, 152, 10), (700, 50_000, 1000)]
)
def test_the_test_is_scipys(hits, n, n_classes):
    expected = stats.binomtest(hits, n, 1 / n_classes, alternative="greater").pvalue
    assert binomial_p(hits, n, 1 / n_classes) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_what_is_said():
    assert chance(30, 152, 10)["above"]
    assert chance_warning(30, 152, 10) == ""
    assert "8.6% (13 of 152 images) is at or below chance, 10.00% for 10" in chance_warning(
        13, 152, 10
    )
    assert "is not distinguishable from chance" in chance_warning(2, 8, 10)
    assert chance_warning(1, 1, 10) == ""  # nothing could be better


def test_a_run_says_it_once_and_not_of_attacked_images(caplog):
    images, labels = torch.rand(12, 3, 8, 8), torch.arange(12) % 10
    good = torch.eye(10)[labels] * 9

    def guessing(x):
        return torch.zeros(len(x), 10).index_fill(1, torch.tensor([3]), 1.0)

    def knowing(x):  # whatever stands in the image, the classes of the first images
        return good[: len(x)].clone() + 0 * x.mean()

    protocol = Protocol(n_bands=2)
    with caplog.at_level(logging.WARNING, logger="iaside_plugins.importance.chance"):
        spectral_importance(guessing, (images, labels), protocol)
        assert len(caplog.records) == 1
        assert "1 of 12 images" in caplog.text
        with not_judged():
            spectral_importance(guessing, (images, labels), protocol)
        assert len(caplog.records) == 1
    assert np.isclose(chance(1, 12, 10)["p"], 1 - 0.9**12)
