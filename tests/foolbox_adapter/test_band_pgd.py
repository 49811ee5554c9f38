"""BandRestrictedPGD: confined to its bands, within its budget, and as strong as it can be."""

from __future__ import annotations

import pytest
import torch
from foolbox_nets import BandReader, generator, images, small_net

from iaside_plugins import InputError
from iaside_plugins.adapters.foolbox_adapter.models import foolbox
from iaside_plugins.spectral.band_maps import keep_bands
from iaside_plugins.spectral.partition import SpectralPartition

pytest.importorskip("foolbox", reason="needs the extra foolbox")
fb = foolbox()
from iaside_plugins.adapters.foolbox_adapter import BandRestrictedPGD  # noqa: E402

PARTITION = SpectralPartition(4)
EPSILON = {"L2": 1.0, "Linf": 8 / 255}


def attack(bands: list[int], **options: object):
    return BandRestrictedPGD(bands, n_bands=4, **{"steps": 10, "rel_stepsize": 0.2, **options})


def run(net, method, x, epsilon, labels=None):
    model = fb.PyTorchModel(net, bounds=(0, 1), device="cpu")
    labels = net(x).argmax(1) if labels is None else labels
    _, clipped, is_adv = method(model, x, labels, epsilons=epsilon)
    return clipped.detach(), is_adv


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize("bands", [[0], [3], [1, 2]])
def test_no_energy_outside_the_bands_and_none_beyond_the_budget(norm, bands):
    x = torch.rand(6, 3, 16, 16, generator=generator(2))  # touches its bounds
    clipped, _ = run(small_net(), attack(bands, norm=norm), x, EPSILON[norm])
    delta = clipped.double() - x.double()
    energy = PARTITION.energy(delta)
    outside = [band for band in range(4) if band not in bands]
    assert (energy[:, outside].sum(1) < 1e-8 * energy.sum(1)).all()  # float32 of images near 1
    size = torch.linalg.vector_norm(delta, ord=2 if norm == "L2" else torch.inf, dim=(1, 2, 3))
    assert (size <= EPSILON[norm] * (1 + 1e-5)).all()
    assert (size > 0.8 * EPSILON[norm]).all()


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_valid_images_at_the_price_of_a_little_leakage(norm):
    x = torch.rand(6, 3, 16, 16, generator=generator(2))
    method = attack([1, 2], norm=norm, keep="bounds")
    clipped, _ = run(small_net(), method, x, EPSILON[norm])
    assert clipped.min() >= 0
    assert clipped.max() <= 1
    energy = PARTITION.energy(clipped.double() - x.double())
    assert 0 < (energy[:, [0, 3]].sum(1) / energy.sum(1)).max() < 0.02


def test_the_optimum_of_a_linear_model():
    """The greatest rise of one logit's difference, in a band, is along the projected gradient."""

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(3, 16, 16, generator=generator(5)) / 99)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            margin = (x * self.weight).sum(dim=(1, 2, 3))
            return torch.stack([margin, -margin], dim=1)

    net = Two().eval()
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    clipped, _ = run(net, attack([2]), images(), 0.5, labels)
    direction = keep_bands(net.weight.detach()[None], PARTITION.index(16, 16), [2])
    direction = direction / torch.linalg.vector_norm(direction)
    sign = torch.where(labels == 0, -1.0, 1.0).view(-1, 1, 1, 1)
    torch.testing.assert_close(clipped - images(), 0.5 * sign * direction, atol=1e-4, rtol=0)


def test_only_the_band_that_is_read_can_be_attacked():
    """The causal check, planted: importance and vulnerability in one band, none elsewhere."""
    net = BandReader(2).eval()
    success = [run(net, attack([band]), images(), 3.0)[1].float().mean() for band in range(4)]
    assert success[2] == 1
    assert success[0] == success[1] == success[3] == 0


def test_bounds_and_eagerpy_and_targets():
    net, x = small_net(), images()
    labels = net(x).argmax(1)
    plain = fb.PyTorchModel(net, bounds=(0, 1), device="cpu")
    expected, _ = run(net, attack([1]), x, 1.0)
    wide = plain.transform_bounds((0, 255))
    _, clipped, _ = attack([1])(wide, 255 * x, labels, epsilons=255.0)
    torch.testing.assert_close(clipped / 255, expected, atol=2e-4, rtol=0)
    target = fb.criteria.TargetedMisclassification((labels + 1) % 5)
    _, clipped, _ = attack([0, 1, 2, 3])(plain, x, target, epsilons=3.0)
    gain = net(clipped).log_softmax(1) - net(x).log_softmax(1)
    assert (gain.gather(1, ((labels + 1) % 5)[:, None]) > 0).all()


def test_no_gradient_is_left_in_the_parameters():
    net = small_net()
    run(net, attack([1]), images(), 1.0)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": []}, "at least one band"),
        ({"bands": [9]}, "numbered 0 to 3, got 9"),
        ({"norm": "L1"}, "'L2' or 'Linf', got 'L1'"),
        ({"keep": "both"}, "keep must be one of bands, bounds, got 'both'"),
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"rel_stepsize": 0}, "rel_stepsize must be above 0, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        attack(options.pop("bands", [0]), **options)
