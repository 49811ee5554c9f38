"""spectral_importance on models whose answer is known, both estimators, and stopping early."""

from __future__ import annotations

import io

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import Protocol, SpectralPartition, spectral_importance
from iaside_plugins.errors import InputTypeError
from iaside_plugins.importance.stopping import CHECK_EVERY, MIN_IMAGES


# ---- models with a known answer ---------------------------------------------------------------
class OneBand(nn.Module):
    """Logits from fixed patterns of one band: reads that band and is blind to every other."""

    def __init__(self, band: int, n_bands: int, size: tuple[int, int]):
        super().__init__()
        partition = SpectralPartition(n_bands)
        noise = torch.from_numpy(np.random.default_rng(band).normal(size=(4, 3, *size)))
        patterns = partition.split(noise)[:, band].flatten(1)
        self.register_buffer("patterns", patterns / patterns.norm(dim=1, keepdim=True))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tanh(images.flatten(1) @ self.patterns.T)


class Blind(oracles.TinyNet):
    """A curved network that is shown everything but one band."""

    def __init__(self, band: int, n_bands: int):
        super().__init__()
        self.band, self.partition = band, SpectralPartition(n_bands)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images - self.partition.split(images)[:, self.band])


class Additive(nn.Module):
    """Log-likelihood of class 0 is -6 + sum over bands of w_i * energy_i / energy: additive."""

    def __init__(self, weights: list[float], energy: torch.Tensor):
        super().__init__()
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.total = energy
        self.partition = SpectralPartition(len(weights))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        share = self.partition.energy(images) / self.total
        first = share @ self.weights - 6
        return torch.stack([first, torch.log1p(-first.exp())], dim=1)


@pytest.mark.parametrize("band", range(4))
@pytest.mark.parametrize("size", [(12, 12), (11, 9)])
@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-6), ("float64", 1e-14)])
def test_a_planted_band_gets_everything_and_the_others_nothing(band, size, precision, rounding):
    images, labels = oracles.sample(3, size, n_classes=4)
    net = OneBand(band, 4, size)
    net = net.float() if precision == "float32" else net
    found = spectral_importance(net, (images, labels), Protocol(4), precision=precision)
    others = np.delete(found.per_image, band, axis=1)
    assert abs(others).max() < rounding  # a few roundings of pixels and logits of about 1
    gain = found.ends[:, 1] - found.ends[:, 0]
    assert abs(gain).max() > 0.02, "the planted band must matter"
    np.testing.assert_allclose(found.per_image[:, band], gain, rtol=0, atol=3 * rounding)


@pytest.mark.parametrize("band", [0, 2])
@pytest.mark.parametrize("absence", ["zero", "gaussian", "replacement"])
def test_a_band_that_the_model_cannot_see_gets_nothing(band, absence):
    images, labels = oracles.sample(3, (10, 13), dtype=torch.float64)
    net = Blind(band, 4).double()
    protocol = Protocol(4, absence=absence)
    found = spectral_importance(net, (images, labels), protocol, precision="float64")
    assert abs(found.per_image[:, band]).max() < 1e-12
    assert abs(np.delete(found.per_image, band, axis=1)).min(axis=0).max() > 1e-3


@pytest.mark.parametrize("estimator", ["exact", "permutation"])
def test_an_additive_model_has_the_closed_form(estimator):
    images = oracles.sample(1, (16, 12), dtype=torch.float64)[0]
    weights = [1.0, -0.5, 2.0, 0.25, 3.0]
    partition = SpectralPartition(5)
    energy = partition.energy(images)
    net = Additive(weights, energy.sum())
    data = (images, torch.zeros(1, dtype=torch.long))
    found = spectral_importance(net, data, Protocol(5, estimator=estimator), precision="float64")
    closed = np.array(weights) * (energy / energy.sum())[0].numpy()
    np.testing.assert_allclose(found.shapley_values, closed, rtol=0, atol=1e-12)
    assert found.ends[0, 0] == pytest.approx(-6, abs=1e-12)


def test_a_model_that_ignores_its_input_scores_nothing():
    """All Shapley values are 0/0 in the distribution: equal shares, not shares of rounding."""
    data = oracles.sample(4, (16, 16))
    logits = torch.tensor([[0.3, 0.1, 0.7]])
    found = spectral_importance(lambda x: logits.expand(len(x), -1), data, Protocol(6))
    assert found.shapley_values.tolist() == [0.0] * 6
    np.testing.assert_allclose(found.distribution, 1 / 6)
    assert found.score == pytest.approx(0, abs=1e-15)


# ---- the permutation estimator ------------------------------------------------------------------
def test_permutations_of_two_bands_are_exact():
    data, net = oracles.sample(3, dtype=torch.float64), oracles.TinyNet().double()
    exact = spectral_importance(net, data, Protocol(2), precision="float64")
    sampled = Protocol(2, estimator="permutation")
    found = spectral_importance(net, data, sampled, precision="float64")
    np.testing.assert_allclose(found.per_image, exact.per_image, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.ends, exact.ends, rtol=0, atol=1e-12)
    assert found.values is None


def test_permutations_are_efficient_for_every_image_and_unbiased():
    data, net = oracles.sample(2, dtype=torch.float64), oracles.TinyNet(scale=3).double()
    exact = spectral_importance(net, data, Protocol(4), precision="float64")
    estimates = []
    for seed in range(150):
        protocol = Protocol(4, estimator="permutation", seed=seed)
        found = spectral_importance(net, data, protocol, precision="float64")
        gain = found.ends[:, 1] - found.ends[:, 0]
        np.testing.assert_allclose(found.per_image.sum(axis=1), gain, rtol=0, atol=1e-12)
        estimates.append(found.per_image)
    se = np.std(estimates, axis=0, ddof=1) / np.sqrt(len(estimates))
    error = np.mean(estimates, axis=0) - exact.per_image
    assert (se > 0).all()
    assert (abs(error) < 4 * se).all()


def test_permutations_treat_bands_alike():
    """Symmetry: two bands with which a model does the same get the same, over the draws."""
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    partition = SpectralPartition(4)
    energy = partition.energy(images)[0]

    class Alike(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            there = partition.energy(x) / energy  # 1 for a band in the coalition, 0 for one outside
            both = there[:, 1] * there[:, 2] + there[:, 1] + there[:, 2]
            first = both * (1 + there[:, 0]) * (1 + 0.5 * there[:, 3])
            return torch.stack([first, 0 * first], dim=1)

    found = []
    for seed in range(200):
        protocol = Protocol(4, estimator="permutation", seed=seed)
        data = (images, torch.zeros(1, dtype=torch.long))
        found.append(
            spectral_importance(Alike().eval(), data, protocol, precision="float64").per_image[0]
        )
    gap = np.array(found)[:, 1] - np.array(found)[:, 2]
    assert gap.std() > 0, "one draw alone must tell them apart"
    assert abs(gap.mean()) < 4 * gap.std(ddof=1) / np.sqrt(200)


def test_permutations_evaluate_each_coalition_of_an_image_once():
    image = oracles.sample(1, (24, 24))
    recorder = oracles.Recorder()
    found = spectral_importance(
        recorder, image, Protocol(5, estimator="permutation", n_permutations=9)
    )
    seen = {one.tobytes() for one in recorder.images()}
    assert len(seen) == found.n_forward <= 2**5


def test_permutations_cost_what_their_chains_visit():
    data, recorder = oracles.sample(3, (24, 24)), oracles.Recorder()
    protocol = Protocol(12, estimator="permutation", n_permutations=2)
    found = spectral_importance(recorder, data, protocol)
    # per image 4 chains of 11 coalitions between empty and grand, some of them shared
    assert 3 * (2 * 11) + 1 < found.n_forward <= 3 * (4 * 11 + 1) + 1
    assert len(recorder.images()) == found.n_forward


# ---- how many images ----------------------------------------------------------------------------
class Steps:
    """An endless, counted source of batches of one image."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self):
        while True:
            self.taken += 1
            images, labels = oracles.sample(1, (8, 8), seed=self.taken)
            yield images, labels


@pytest.mark.parametrize("batch_size", [4, 64])
def test_max_images_stops_without_asking_for_more(batch_size):
    source = Steps()
    found = spectral_importance(
        oracles.TinyNet(), source, Protocol(2), max_images=5, batch_size=batch_size
    )
    assert found.n_images == 5
    assert source.taken == 5
    first = spectral_importance(oracles.TinyNet(), Steps(), Protocol(2), max_images=3)
    np.testing.assert_allclose(found.values[:3], first.values, rtol=0, atol=1e-5)


def test_max_images_beyond_the_data_takes_all():
    data = oracles.sample(3)
    assert spectral_importance(oracles.TinyNet(), data, Protocol(2), max_images=9).n_images == 3


@pytest.mark.parametrize("batch_size", [1, 4, 28, 512])
def test_target_error_stops_at_the_same_image_whatever_the_batch(batch_size):
    found = spectral_importance(
        oracles.TinyNet(), Steps(), Protocol(2), target_error=10.0, batch_size=batch_size
    )
    assert found.n_images == MIN_IMAGES


def test_target_error_goes_on_until_it_is_met():
    def run(target):
        return spectral_importance(
            oracles.TinyNet(), Steps(), Protocol(4), target_error=target, max_images=400
        )

    wide = run(10.0)
    half = float(np.diff(wide.signed_score_interval)[0]) / 2
    found = run(0.75 * half)
    assert found.n_images > MIN_IMAGES
    assert found.n_images % CHECK_EVERY == 0
    assert np.diff(found.signed_score_interval)[0] / 2 <= 0.75 * half


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_progress_bar_counts_passes(capsys, monkeypatch):
    data = oracles.sample(2)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    spectral_importance(oracles.TinyNet(), data, Protocol(2))
    assert terminal.getvalue() == ""
    spectral_importance(oracles.TinyNet(), data, Protocol(2), show_progress=True)
    assert "6/6 passes" in terminal.getvalue()
    spectral_importance(
        oracles.TinyNet(), Steps(), Protocol(2), target_error=10.0, show_progress=True
    )
    # of an endless source, as many as are expected; 16 images share a forward pass
    assert f"{32 * 3}/{MIN_IMAGES * 3}" in terminal.getvalue()
    assert f"{112 * 3}/{112 * 3}" in terminal.getvalue()
    assert capsys.readouterr() == ("", "")


def test_images_and_labels_are_one_argument():
    images, labels = oracles.sample(2, (12, 12))
    for given in (labels, "exact"):
        with pytest.raises(InputTypeError, match=r"expected a Protocol.*\(images, labels\)"):
            spectral_importance(oracles.TinyNet(), images, given)
