"""Error decomposition: against the oracle, on planted models, by its axioms, in any batches."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from decomposition_nets import CHAINS, Loud, Planted, grey_pairs, perturbed_pairs

from iaside_plugins import (
    InputError,
    Protocol,
    SpectralImportance,
    error_decomposition,
)
from iaside_plugins.decomposition.comparison import combine, difference
from iaside_plugins.errors import InputTypeError
from iaside_plugins.inference import tuning
from iaside_plugins.spectral.band_maps import keep_bands
from iaside_plugins.spectral.partition import SpectralPartition


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (13, 7)])
@pytest.mark.parametrize("norm", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("range_handling", ["none", "clip"])
def test_both_games_equal_the_oracle(size, norm, range_handling):
    x, perturbed, y = perturbed_pairs(2, size, 2, torch.float64)
    net = oracles.TinyNet(scale=30).double()
    protocol = Protocol(3, norm, range_handling=range_handling, temperature=2.0)
    found = error_decomposition(net, (x, perturbed, y), protocol, precision="float64")
    masks = oracles.band_masks(3, *size, norm)
    for c, (_, z) in enumerate(perturbed.items()):
        for k in range(2):
            losses, wrong = [], []
            for s in range(8):
                mixed = oracles.coalition_image(
                    z[k].numpy(), x[k].numpy(), masks, oracles.members(s, 3)
                )
                mixed = oracles.in_range(mixed, range_handling)
                losses.append(-oracles.log_likelihood(net, mixed, int(y[k]), 2.0))
                logits = net(torch.from_numpy(mixed)[None])
                wrong.append(float(int(logits.argmax()) != int(y[k])))
            loss = oracles.shapley_by_orders(np.array(losses))
            error = oracles.shapley_by_orders(np.array(wrong))
            np.testing.assert_allclose(found.loss.bands[c, k], loss, rtol=0, atol=1e-9)
            np.testing.assert_allclose(found.error.bands[c, k], error, rtol=0, atol=1e-12)
            assert found.loss.clean[k] == pytest.approx(losses[0], abs=1e-9)
            assert found.loss.perturbed[c, k] == pytest.approx(losses[-1], abs=1e-9)
            assert found.wrong is not None
            np.testing.assert_array_equal(found.wrong[c, k], np.array(wrong) > 0)
            delta = (z[k] - x[k]).numpy()
            energy = [
                float(np.square(np.fft.ifft2(np.fft.fft2(delta) * m).real).sum()) for m in masks
            ]
            np.testing.assert_allclose(found.energy[c, k], energy, rtol=0, atol=1e-9)


ESTIMATORS = [Protocol(4), CHAINS, Protocol(4, estimator="regression", n_coalitions=16)]


@pytest.mark.parametrize("band", range(4))
@pytest.mark.parametrize("protocol", ESTIMATORS, ids=lambda protocol: protocol.estimator)
def test_a_model_that_breaks_on_one_band_has_all_its_errors_there(band, protocol):
    _, perturbed, _ = perturbed_pairs(5, (12, 12))
    clean = torch.full((5, 3, 12, 12), 0.5)
    pairs = (clean, perturbed, torch.zeros(5, dtype=torch.long))
    found = error_decomposition(Planted(band, 4, (12, 12)).eval(), pairs, protocol)
    assert not found.error.clean.any()
    assert found.error.perturbed.all()
    expected = np.broadcast_to(np.arange(4) == band, (3, 5, 4))
    np.testing.assert_allclose(found.error.bands, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("n_conditions", [1, 3])
@pytest.mark.parametrize("repair", [False, True])
def test_contributions_sum_to_what_the_perturbation_costs_for_every_image(
    batch_size, n_conditions, repair
):
    x, perturbed, y = perturbed_pairs(4, n_conditions=n_conditions)
    net = oracles.TinyNet(scale=30)
    found = error_decomposition(
        net, (x, perturbed, y), CHAINS, batch_size=batch_size, repair=repair
    )
    assert found.efficiency_residual < 1e-9
    for c, z in enumerate(perturbed.values()):
        wrong = (net(z).argmax(dim=1) != y).double().numpy()
        np.testing.assert_array_equal(found.error.perturbed[c], wrong)
    np.testing.assert_array_equal(found.error.clean, (net(x).argmax(dim=1) != y).numpy())
    passes = n_conditions * 4 * (2 * 4 - 1 + (2 * 4 - 2) * repair)
    assert found.n_forward == passes + 4  # the clean image once


def test_a_band_that_is_not_perturbed_contributes_nothing_and_equal_bands_the_same():
    x, perturbed, y = perturbed_pairs(3, (12, 12), 1)
    index = SpectralPartition(4, "chebyshev").index(12, 12)
    z = x + keep_bands(next(iter(perturbed.values())) - x, index, [1, 3])
    found = error_decomposition(oracles.TinyNet(scale=30), (x, z, y), Protocol(4))
    assert np.abs(found.loss.bands[:, :, [0, 2]]).max() < 1e-5  # rounding of the images
    assert not found.error.bands[:, :, [0, 2]].any()
    none = error_decomposition(oracles.TinyNet(), (x, x, y), Protocol(4))
    assert np.abs(none.loss.bands).max() < 1e-6
    assert none.conditions == (("perturbed", None),)


def test_chains_are_unbiased_and_their_nested_sets_are_those_of_the_table():
    pairs, net = grey_pairs(2), Loud().eval()
    exact = error_decomposition(net, pairs, Protocol(4))
    drawn = [
        error_decomposition(
            net, pairs, Protocol(4, estimator="permutation", seed=seed), repair=seed == 0
        )
        for seed in range(60)
    ]
    for game in ("loss", "error"):
        each = np.stack([getattr(one, game).bands for one in drawn])
        wanted = getattr(exact, game).bands
        se = each.std(axis=0, ddof=1) / np.sqrt(len(each))
        assert (np.abs(each.mean(axis=0) - wanted) <= 4 * se + 1e-6).all()
        assert each.std(axis=0).max() > 0  # drawn anew
        nested = getattr(drawn[0], game).nested
        np.testing.assert_allclose(nested, getattr(exact, game).nested, atol=1e-5)


def test_a_resumed_run_repeats_what_the_first_one_chose_for_all_its_parts(tmp_path, monkeypatch):
    """Nested sets and chains have folders of their own."""
    x, perturbed, y = perturbed_pairs(4)
    protocol = replace(CHAINS, forwards="fast")

    def run():
        found = error_decomposition(
            oracles.TinyNet(), (x, perturbed, y), protocol, repair=2, resume=tmp_path
        )
        return found.n_forward

    assert run() > 0
    for chunk in (tmp_path / "chains").glob("rows-*"):
        chunk.unlink()
    monkeypatch.setattr(tuning, "_try", None)  # what is tried anew would fail
    assert run() > 0


@pytest.mark.usefixtures("forked_workers")
def test_a_run_resumes_and_several_devices_give_the_same_numbers(tmp_path):
    x, perturbed, y = perturbed_pairs(5)
    net = oracles.TinyNet(scale=30)

    def run(n: int, **options):
        part = (x[:n], {k: z[:n] for k, z in perturbed.items()}, y[:n])
        return error_decomposition(net, part, CHAINS, repair=True, **options)

    plain = run(5)
    assert run(3, resume=tmp_path / "r").n_forward > 0
    rest = run(5, resume=tmp_path / "r")
    assert rest.n_forward == 2 * (3 * 13 + 1)
    assert run(5, resume=tmp_path / "r").n_forward == 0
    two = run(5, device=["cpu", "cpu"])
    first = error_decomposition(net, (x, perturbed, y), CHAINS, repair=2, device=["cpu", "cpu"])
    np.testing.assert_array_equal(first.loss.won(), plain.loss.won()[:, :2])
    for other in (rest, two):
        for game in ("error", "loss"):
            for part in ("clean", "perturbed", "bands", "nested"):
                np.testing.assert_array_equal(
                    getattr(getattr(other, game), part), getattr(getattr(plain, game), part)
                )
        np.testing.assert_array_equal(other.energy, plain.energy)
    with pytest.raises(InputError, match="another run"):
        error_decomposition(net, (x, perturbed, y), Protocol(4), resume=tmp_path / "r")


def test_a_run_stops_once_the_bands_of_the_mean_are_known():
    x, perturbed, y = perturbed_pairs(150, (8, 8), 1)
    found = error_decomposition(
        oracles.TinyNet(), (x, perturbed, y), CHAINS, target_error=0.9, batch_size=512
    )
    assert found.n_images == 100
    widths = np.diff(found.error.over().bands.interval, axis=1) / 2
    assert widths.max() <= 0.9


BAD = {
    "rescale": ({"protocol": Protocol(4, range_handling="rescale")}, "benchmark's"),
    "absence": ({"protocol": Protocol(4, absence="gaussian")}, "clean"),
    "target": ({"target_error": 0.0}, "above 0"),
    "max": ({"max_images": 0}, "max_images"),
}


@pytest.mark.parametrize("kind", BAD)
def test_choices_that_make_no_sense_are_refused(kind):
    options, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        error_decomposition(oracles.TinyNet(), perturbed_pairs(2), **options)


def test_pairs_that_do_not_fit_are_refused():
    x, perturbed, y = perturbed_pairs(3)
    net = oracles.TinyNet()
    one = next(iter(perturbed.values()))
    cases = [
        ((x, one[:2], y), "shape"),
        ((x, one[:, :, :8], y), "shape"),
        ((x, one + 1, y), r"\[0, 1\]"),
        ((x, {}, y), "at least one condition"),
        ([(x, {"a": one}, y), (x, {"b": one}, y)], "same conditions"),
        ((x, one, y[:2]), "labels"),
        ((x, one, y, ["a"]), "ids"),
        ([(x, one)], "expected"),
        (7, "expected"),
        ([], "no images"),
    ]
    for pairs, message in cases:
        with pytest.raises(InputError, match=message):
            error_decomposition(net, pairs, CHAINS)
    with pytest.raises(InputTypeError):
        error_decomposition(net, ((255 * x).byte(), one, y), CHAINS)


def test_choices_of_the_clean_game_change_no_decomposition(tmp_path):
    """A black image for no band, and beta: the absence here is the clean image."""
    net, pairs = oracles.TinyNet(scale=30), perturbed_pairs(5)
    plain = error_decomposition(net, pairs, CHAINS)
    other = replace(CHAINS, black_empty=True, beta=0.9)
    same = error_decomposition(net, pairs, other, resume=tmp_path)
    for game in ("error", "loss"):
        for name in ("clean", "perturbed", "bands"):
            one, two = (getattr(getattr(found, game), name) for found in (plain, same))
            np.testing.assert_array_equal(one, two)
    assert not difference(plain, same).error.over().bands.value.any()
    assert combine([plain, same]).n_images == 5
    with pytest.raises(InputError, match="no run of spectral_importance"):
        SpectralImportance.load(tmp_path / "chains")


def test_names_may_be_numbers_of_any_kind():
    x, perturbed, y = perturbed_pairs(3, n_conditions=1)
    one = next(iter(perturbed.values()))
    for ids in (torch.arange(3), np.arange(3), list(torch.arange(3)), [0, 1, 2]):
        found = error_decomposition(oracles.TinyNet(), [(x, one, y, ids)], CHAINS)
        assert found.ids == ("0", "1", "2")


def test_batches_and_names_change_nothing():
    x, perturbed, y = perturbed_pairs(5)
    net = oracles.TinyNet(scale=30)
    whole = error_decomposition(net, (x, perturbed, y), CHAINS)
    parts = [
        (x[a:b], {k: z[a:b] for k, z in perturbed.items()}, y[a:b], [f"i{k}" for k in range(a, b)])
        for a, b in itertools.pairwise((0, 2, 5))
    ]
    batches = error_decomposition(net, parts, CHAINS)
    np.testing.assert_array_equal(batches.loss.bands, whole.loss.bands)
    assert batches.ids == ("i0", "i1", "i2", "i3", "i4")
