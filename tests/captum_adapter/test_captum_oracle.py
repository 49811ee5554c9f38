"""I-ASIDE is Captum's ShapleyValues on gated bands: every form of it gives the same numbers.

Captum sums in single precision whatever the model's, so its forms agree to 1e-6 of the largest
value; the float64 brute force beside them agrees to rounding.
"""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import Protocol, SpectralPartition, spectral_importance

pytest.importorskip("captum", reason="needs the extra captum")

from captum.attr import ShapleyValues

from iaside_plugins.adapters.captum_adapter import BandSplit, SpectralShapley

pytestmark = pytest.mark.captum
CASES = [(3, (8, 8)), (3, (7, 9)), (4, (8, 10)), (4, (9, 9)), (4, (11, 8))]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    """Bands, network in double, images, labels, and our values."""
    n_bands, size = request.param
    net = oracles.TinyNet().double()
    images, labels = oracles.sample(2, size, dtype=torch.float64)
    found = SpectralShapley(net).attribute(images, target=labels, n_bands=n_bands)
    return n_bands, net, images, labels, found.numpy()


def tolerance(net, images) -> float:
    """1e-6 of the largest value: Captum's accumulator is single precision."""
    return 1e-6 * max(1.0, float(net(images).detach().log_softmax(dim=1).abs().max()))


def test_equal_to_brute_force_in_double(case):
    n_bands, net, images, labels, found = case
    table = oracles.value_table(net, images.numpy(), labels, n_bands)
    expected = [oracles.shapley_by_orders(row) for row in table]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("per_eval", [1, 3])
def test_gate_form(case, per_eval):
    n_bands, net, images, labels, found = case
    split = BandSplit(n_bands)
    captums = ShapleyValues(split.gate_forward(net)).attribute(
        torch.ones(2, n_bands, dtype=torch.float64),
        target=labels,
        additional_forward_args=(split(images),),
        perturbations_per_eval=per_eval,
    )
    np.testing.assert_allclose(captums.numpy(), found, rtol=0, atol=tolerance(net, images))


def test_band_stack_form_with_a_baseline(case):
    n_bands, net, images, labels, _ = case
    split = BandSplit(n_bands)
    baseline = torch.full_like(images, 0.3)
    captums = ShapleyValues(split.band_forward(net)).attribute(
        split(images),
        split(baseline),
        labels,
        feature_mask=torch.arange(n_bands).view(1, -1, 1, 1, 1),
        perturbations_per_eval=2,
    )
    ours = SpectralShapley(net).attribute(images, 0.3, labels, n_bands=n_bands)
    np.testing.assert_allclose(
        captums[:, :, 0, 0, 0].numpy(), ours.numpy(), rtol=0, atol=tolerance(net, images)
    )


def test_spectrum_form_which_knows_nothing_of_our_filters(case):
    n_bands, net, images, labels, found = case
    masks = torch.from_numpy(oracles.band_masks(n_bands, *images.shape[2:]))
    index = masks.int().argmax(dim=0)

    def forward(spectrum):
        image = torch.fft.ifft2(spectrum)
        assert float(image.imag.abs().max()) < 1e-12
        return net(image.real).log_softmax(dim=1)

    captums = ShapleyValues(forward).attribute(
        torch.fft.fft2(images), target=labels, feature_mask=index[None, None].contiguous()
    )
    for band in range(n_bands):
        y, x = torch.nonzero(masks[band])[0]
        np.testing.assert_allclose(
            captums[:, 0, y, x].real.numpy(), found[:, band], rtol=0, atol=tolerance(net, images)
        )


def test_real_and_imaginary_parts_share_their_bands(case):
    n_bands, net, images, labels, found = case
    index = SpectralPartition(n_bands).index(*images.shape[2:])[None, None].contiguous()
    spectrum = torch.fft.fft2(images)

    def forward(real, imaginary):
        return net(torch.fft.ifft2(torch.complex(real, imaginary)).real).log_softmax(dim=1)

    parts = ShapleyValues(forward).attribute(
        (spectrum.real.contiguous(), spectrum.imag.contiguous()),
        target=labels,
        feature_mask=(index, index),
    )
    for part in parts:
        for band in range(n_bands):
            y, x = torch.nonzero(index[0, 0] == band)[0]
            np.testing.assert_allclose(
                part[:, 0, y, x].numpy(), found[:, band], rtol=0, atol=tolerance(net, images)
            )


def test_one_number_a_data_set_is_the_global_explanation(case):
    n_bands, net, images, labels, found = case
    split = BandSplit(n_bands)
    stack = split(images)

    def mean_log_likelihood(gates):
        kept = split.gate_forward(net)(gates.expand(2, -1), stack)
        return kept.gather(1, labels[:, None]).mean()

    captums = ShapleyValues(mean_log_likelihood).attribute(
        torch.ones(1, n_bands, dtype=torch.float64)
    )
    ours = SpectralShapley(net).attribute_dataset(
        (images, labels), n_bands=n_bands, precision="float64"
    )
    atol = tolerance(net, images)
    np.testing.assert_allclose(captums[0].numpy(), ours.shapley_values, rtol=0, atol=atol)
    np.testing.assert_allclose(found.mean(axis=0), ours.shapley_values, rtol=0, atol=1e-12)


def test_every_door_gives_one_number(case):
    n_bands, net, images, labels, found = case
    core = spectral_importance(net, (images, labels), Protocol(n_bands), precision="float64")
    np.testing.assert_allclose(core.per_image, found, rtol=0, atol=1e-12)
