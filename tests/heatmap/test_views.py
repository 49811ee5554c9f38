"""Views of the same bands: the results' own numbers, on shared images, with their agreement."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from scipy import stats

from iaside_plugins import (
    InputError,
    Protocol,
    SpectralPartition,
    error_decomposition,
    fourier_heatmap,
    spectral_importance,
)
from iaside_plugins.heatmap.text import views_text
from iaside_plugins.heatmap.views import (
    BandViews,
    attack_view,
    importance_view,
    per_energy_view,
)

IDS = tuple("abcdefgh")


def _learnt():
    """A network, and images with the labels that it gives."""
    net, (x, _) = oracles.TinyNet(scale=30), oracles.sample(8, (8, 8))
    return net, x, net(x).argmax(dim=1)


@pytest.fixture(scope="module")
def results():
    net, x, y = _learnt()
    generator = torch.Generator().manual_seed(0)
    noisy = (x + 0.3 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    importance = spectral_importance(net, [(x, y, IDS)], Protocol(4))
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    split = error_decomposition(
        net, [(x[order], {("noise", 1): noisy[order]}, y[order], [IDS[k] for k in order])],
        Protocol(4),
    )  # fmt: skip
    heat = fourier_heatmap(net, [(x, y, IDS)], norm=3, partition=SpectralPartition(4))
    return importance, split, heat


def test_views_are_the_results_own_numbers(results):
    importance, split, heat = results
    wrong = np.arange(32).reshape(8, 4) % 3 == 0
    views = BandViews.of(
        heat, importance_view(importance), attack_view(wrong, IDS, 0.5), per_energy_view(split)
    )
    assert views.n_images == 8
    expected = [
        importance.shapley_values,
        100 * wrong.mean(axis=0),
        100 * split.per_energy().value,
        100 * heat.band_means,
    ]
    np.testing.assert_allclose(views.values, expected, rtol=1e-12)
    names = [view.name for view in views.views]
    assert names[0] == "importance"
    assert names[-1] == "Fourier heat map"
    np.testing.assert_allclose(
        views.views[2].interval, 100 * split.per_energy().interval, rtol=1e-12
    )
    np.testing.assert_allclose(views.views[3].interval, 100 * heat.band_means_interval)
    for i, j in [(0, 1), (2, 3)]:
        slow = stats.spearmanr(expected[i], expected[j]).statistic
        assert views.agreement[i, j] == pytest.approx(slow)
    ends = views.agreement_interval
    assert ends.shape == (4, 4, 2)
    assert (ends[..., 0] <= views.agreement + 1e-12).all()
    data = views.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["views"][1]["unit"] == "error in %, L2 0.5"
    text = views_text(views)
    assert "importance, Fourier heat map" in text
    assert text.count("[") == 6
    assert repr(views).endswith("8 images)")


def test_views_are_on_the_images_that_all_have(results):
    _, split, heat = results
    wrong = np.eye(4, dtype=bool)
    views = BandViews.of(heat, attack_view(wrong, "hgxe", 0.5), per_energy_view(split))
    assert views.views[0].ids == views.views[2].ids == ("e", "g", "h")
    np.testing.assert_allclose(views.values[0], [100 / 3, 100 / 3, 0, 100 / 3])
    with pytest.raises(InputError, match="none in common"):
        BandViews.of(heat, attack_view(wrong, "qrst", 0.5))
    with pytest.raises(InputError, match="expected views of 4 bands, got 3 of attack"):
        BandViews.of(heat, attack_view(wrong[:, :3], "abcd", 0.5))
    with pytest.raises(InputError, match="another view"):
        BandViews.of(heat)
    alone = BandViews.of(heat, attack_view(wrong[:1], "a", 0.5))
    assert np.isnan(alone.agreement_interval).all()


def test_images_of_one_name_are_told_apart_by_their_order(results):
    importance, _, heat = (replace(one, ids=tuple("aabcdefg")) for one in results)
    views = BandViews.of(heat, importance_view(importance))
    np.testing.assert_array_equal(views.views[0].rows, importance.per_image)


def test_a_band_without_a_frequency_is_left_out_of_the_agreement(results):
    importance, _, _ = results
    net, x, y = _learnt()
    sparse = fourier_heatmap(net, [(x, y, IDS)], norm=3, step=2, partition=SpectralPartition(4))
    assert np.isnan(sparse.band_means).tolist() == [False, True, False, False]
    views = BandViews.of(sparse, importance_view(importance))
    values = [importance.shapley_values[[0, 2, 3]], sparse.band_means[[0, 2, 3]]]
    assert views.agreement[0, 1] == pytest.approx(stats.spearmanr(*values).statistic)


def test_views_are_drawn_with_the_map_and_their_agreement(results):
    pytest.importorskip("matplotlib")
    importance, split, heat = results
    views = BandViews.of(heat, importance_view(importance), per_energy_view(split))
    figure = views.plot("tiny")
    figure.draw_without_rendering()
    titles = [ax.get_title() for ax in figure.axes if ax.get_visible()]
    for title in ("importance", "contribution per energy", "rank correlation over bands"):
        assert title in titles
    assert figure.get_suptitle().startswith("tiny, 8 images")
    shown = next(ax for ax in figure.axes if ax.get_title() == "importance")
    heights = [bar.get_height() for bar in shown.patches]
    np.testing.assert_allclose(heights, importance.shapley_values)
