"""An image, its bands and a bar under each; and what a notebook shows of figures and results."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import (
    InputError,
    Protocol,
    SpectralPartition,
    compare,
    difference,
    error_decomposition,
    spectral_importance,
)
from iaside_plugins.adapters.captum_adapter import visualization
from iaside_plugins.display.html import html_table
from iaside_plugins.errors import InputTypeError
from iaside_plugins.visualization import visualize_bands

pytest.importorskip("matplotlib")
PNG = b"\x89PNG"


@pytest.mark.parametrize("n_bands", [2, 5, 12])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_band_image_stands_over_its_bar(n_bands, channels):
    image = oracles.sample(1, (24, 26))[0][0, :channels]
    values = np.linspace(-1, 2, n_bands)
    ends = np.stack([values - 0.5, values + 0.25], axis=1)
    partition = SpectralPartition(n_bands)
    figure = visualize_bands(
        image, values, partition=partition, intervals=ends, title="tiny", label="nats"
    )
    pictures = [ax for ax in figure.axes if ax.images]
    shown = [np.asarray(ax.images[0].get_array()) for ax in pictures]
    assert len(shown) == n_bands + 1
    moved = np.moveaxis(image.numpy(), 0, -1).squeeze()
    np.testing.assert_allclose(shown[0], moved, atol=1e-7)
    masks = oracles.band_masks(n_bands, 24, 26)
    for i, (mask, found) in enumerate(zip(masks, shown[1:], strict=True)):
        spectrum = np.fft.fft2(image.numpy().astype(np.float64)) * mask
        part = np.moveaxis(np.fft.ifft2(spectrum).real, 0, -1).squeeze()
        expected = np.clip(part, 0, 1) if i == 0 else 0.5 + 0.5 * part / np.abs(part).max()
        np.testing.assert_allclose(found, expected, atol=1e-6)
    bars = [ax for ax in figure.axes if ax.patches]
    assert [ax.patches[0].get_height() for ax in bars] == pytest.approx(list(values))
    assert len({ax.get_ylim() for ax in bars}) == 1
    assert all(ax.get_ylim()[0] < -1.5 and ax.get_ylim()[1] > 2.25 for ax in bars)
    assert bars[0].get_ylabel() == "nats"
    assert "cycles/image" in pictures[1].get_title()
    assert figure._repr_png_().startswith(PNG)


def test_an_image_alone_and_arrays_are_taken_and_others_are_refused():
    image = oracles.sample(1, (16, 16))[0]
    assert not any(ax.patches for ax in visualize_bands(image.numpy()).axes)
    assert visualization.visualize_bands is visualize_bands
    flat = torch.full((3, 16, 16), 0.5)  # nothing above DC
    visualize_bands(flat, np.zeros(8)).draw_without_rendering()
    with pytest.raises(InputError, match=r"\(C, H, W\) or \(H, W, C\) with 1 or 3 channels, got"):
        visualize_bands(image[:, :2])
    with pytest.raises(InputError, match=r"values of shape \(8,\), one a band, got \(3,\)"):
        visualize_bands(image, [1, 2, 3], partition=SpectralPartition())
    with pytest.raises(InputError, match=r"values of shape \(4,\), one a band, got \(6, 4\)"):
        visualize_bands(image, np.zeros((6, 4)))
    for values in (np.zeros(4), torch.zeros(6, 4)):
        with pytest.raises(InputError, match="got the values before the image"):
            visualize_bands(values, image)
    with pytest.raises(InputError, match=r"intervals of shape \(8, 2\)"):
        visualize_bands(image, np.zeros(8), intervals=np.zeros(8))
    with pytest.raises(InputError, match="n_bands <= 8"):
        visualize_bands(image, partition=SpectralPartition(9))
    with pytest.raises(InputTypeError, match="float images"):
        visualize_bands((255 * image).to(torch.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_captums_pictures_and_values_say_their_layout_and_their_bands(channels):
    image, values = oracles.sample(1, (16, 16))[0][0, :channels], torch.tensor([1.0, -2, 3, 4])
    expected = visualize_bands(image, values.numpy(), partition=SpectralPartition(4))
    for moved in (image.permute(1, 2, 0).numpy(), image.permute(1, 2, 0)[None]):
        found = visualize_bands(moved, values)
        assert len(found.axes) == len(expected.axes)
        for one, other in zip(found.axes, expected.axes, strict=True):
            assert [bar.get_height() for bar in one.patches] == [
                bar.get_height() for bar in other.patches
            ]
            for picture, same in zip(one.images, other.images, strict=True):
                np.testing.assert_allclose(picture.get_array(), same.get_array(), atol=1e-9)


def test_results_and_their_plots_are_seen_in_a_notebook():
    x, y = oracles.sample(6, (12, 12))
    net, other = oracles.TinyNet(), oracles.TinyNet(scale=3)
    noisy = (x + 0.1).clamp(0, 1)
    first, second = (spectral_importance(one, (x, y), Protocol(4)) for one in (net, other))
    splits = [
        error_decomposition(one, (x, {("fog", 1): noisy, ("fog", 2): x}, y), Protocol(4))
        for one in (net, other)
    ]
    for result in (first, compare(first, second), splits[0], difference(*splits)):
        html = result._repr_html_()
        assert html.startswith("<p>")
        assert "<table" in html
        assert len(repr(result)) < 200
    assert "<td>mean</td>" in splits[0]._repr_html_()
    for plot in (first.plot(), splits[0].plot("tiny"), difference(*splits).plot("a", "b")):
        assert plot._repr_png_().startswith(PNG)
    assert first.plot().get_title().startswith("6 images, m4-")
    assert splits[0].plot("tiny").get_suptitle().startswith("tiny: error")


def test_tables_escape_what_they_say():
    import pandas as pd

    html = html_table("<b>&", pd.DataFrame({"<i>": [np.nan, 1 / 3]}))
    assert "&lt;b&gt;&amp;" in html
    assert "<i>" not in html
    assert "–" in html
    assert "0.3333" in html
