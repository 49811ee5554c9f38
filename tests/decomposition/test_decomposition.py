"""Error decomposition: against the oracle, on planted models, by its axioms, in any batches."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import (
    InputError,
    Protocol,
    SpectralImportance,
    compare,
    error_decomposition,
    spectral_importance,
)
from iaside_plugins.corruptions import error_rates
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.decomposition.comparison import combine, difference
from iaside_plugins.decomposition.result import ATTRIBUTES, ErrorDecomposition, points_table
from iaside_plugins.decomposition.sentences import conclusion, versus_conclusion
from iaside_plugins.errors import InputTypeError
from iaside_plugins.inference import tuning
from iaside_plugins.spectral.band_maps import keep_bands
from iaside_plugins.spectral.partition import SpectralPartition

CHAINS = Protocol(4, estimator="permutation")


def _pairs(n: int, size=(12, 10), n_conditions: int = 3, dtype=torch.float32, seed: int = 0):
    """Images in the middle of [0, 1], and versions with noise of growing strength."""
    x, y = oracles.sample(n, size, dtype=dtype)
    x = 0.3 + 0.4 * x
    generator = torch.Generator().manual_seed(seed)
    perturbed = {
        ("noise", k + 1): (
            x + (k + 1) * 0.1 * (torch.rand(x.shape, generator=generator, dtype=dtype) - 0.5)
        ).clamp(0, 1)
        for k in range(n_conditions)
    }
    return x, perturbed, y


class Planted(nn.Module):
    """Says class 1 where an image differs from grey in one band, else class 0."""

    def __init__(self, band: int, n_bands: int, size: tuple[int, int]):
        super().__init__()
        self.register_buffer("index", SpectralPartition(n_bands, "chebyshev").index(*size))
        self.band = band

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        energy = keep_bands(images - 0.5, self.index, [self.band]).square().sum(dim=(1, 2, 3))
        return torch.stack([torch.full_like(energy, 1e-6), energy], dim=1) * 1e4


class Loud(nn.Module):
    """Says class 1 where an image differs from grey by more than half of the strongest noise."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        energy = (images - 0.5).square().mean(dim=(1, 2, 3))
        return torch.stack([torch.full_like(energy, 0.003), energy], dim=1) * 1e3


def _grey_pairs(n: int, n_conditions: int = 3):
    """Grey images and what noise makes of them; `Loud` errs on the stronger noise alone."""
    x, perturbed, _ = _pairs(n, (12, 12), n_conditions)
    grey = torch.full_like(x, 0.5)
    return grey, {k: 0.5 + z - x for k, z in perturbed.items()}, torch.zeros(n, dtype=torch.long)


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (13, 7)])
@pytest.mark.parametrize("norm", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("range_handling", ["none", "clip"])
def test_both_games_equal_the_oracle(size, norm, range_handling):
    x, perturbed, y = _pairs(2, size, 2, torch.float64)
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
    _, perturbed, _ = _pairs(5, (12, 12))
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
    x, perturbed, y = _pairs(4, n_conditions=n_conditions)
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
    x, perturbed, y = _pairs(3, (12, 12), 1)
    index = SpectralPartition(4, "chebyshev").index(12, 12)
    z = x + keep_bands(next(iter(perturbed.values())) - x, index, [1, 3])
    found = error_decomposition(oracles.TinyNet(scale=30), (x, z, y), Protocol(4))
    assert np.abs(found.loss.bands[:, :, [0, 2]]).max() < 1e-5  # rounding of the images
    assert not found.error.bands[:, :, [0, 2]].any()
    none = error_decomposition(oracles.TinyNet(), (x, x, y), Protocol(4))
    assert np.abs(none.loss.bands).max() < 1e-6
    assert none.conditions == (("perturbed", None),)


def test_chains_are_unbiased_and_their_nested_sets_are_those_of_the_table():
    pairs, net = _grey_pairs(2), Loud().eval()
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


def test_decompositions_of_different_images_are_joined_on_those_of_both():
    x, perturbed, y = _pairs(6)
    net, (first, second, _) = oracles.TinyNet(scale=30), perturbed
    few = error_decomposition(net, (x[:3], {first: perturbed[first][:3]}, y[:3]), Protocol(3))
    many = error_decomposition(net, (x, {second: perturbed[second]}, y), Protocol(3))
    both = combine([few, many])
    assert both.ids == few.ids
    alone = error_decomposition(net, (x[:3], {second: perturbed[second][:3]}, y[:3]), Protocol(3))
    np.testing.assert_allclose(
        np.diag(both.interactions([second])), both.error.over([second]).bands.value, atol=1e-12
    )
    with pytest.raises(InputError, match="on the same images"):  # a mean over others is left
        both.interactions([second], "loss")
    same = combine([few, alone])
    np.testing.assert_allclose(
        np.diag(same.interactions([second], "loss")), same.loss.over([second]).bands.value
    )


def test_what_taking_bands_out_repairs_is_read_from_the_table():
    pairs = _grey_pairs(6)
    found = error_decomposition(Loud().eval(), pairs, Protocol(4))
    assert found.wrong is not None
    high, low = found.error.repaired([("noise", 3)])
    for k, bands in enumerate(([1, 2, 3], [2, 3], [3])):
        left = 15 - sum(1 << i for i in bands)
        won = found.wrong[2, :, 15].mean() - found.wrong[2, :, left].mean()
        assert high.value[k] == pytest.approx(won)
        assert found.repaired_without(bands, [("noise", 3)]).value == pytest.approx(won)
    assert low.value[0] == pytest.approx(
        found.wrong[2, :, 15].mean() - found.wrong[2, :, 14].mean()
    )
    table = found.wrong.mean(axis=(0, 1))
    assert 0 < table.mean() < 1
    np.testing.assert_allclose(found.interactions(), oracles.interactions(table), atol=1e-12)
    left = found.repair([("noise", 3)])
    np.testing.assert_allclose(left["without_high"], found.wrong[2, :, 15].mean() - high.value)
    assert left["without_costliest"][-1] == pytest.approx(found.clean_error)
    chains = error_decomposition(Loud().eval(), pairs, CHAINS)
    with pytest.raises(InputError, match="exact"):
        chains.interactions(game="loss")
    with pytest.raises(InputError, match="exact"):
        chains.interactions()
    with pytest.raises(InputError, match="repair=True"):
        chains.error.repaired()


def test_repairs_of_the_first_images_are_those_of_all_of_them(tmp_path):
    pairs, net = _grey_pairs(5), Loud().eval()
    some = error_decomposition(net, pairs, CHAINS, repair=2, resume=tmp_path / "r")
    whole = error_decomposition(net, pairs, CHAINS, repair=True)
    assert some.n_forward == 3 * (2 * 13 + 3 * 7) + 1  # all clean images are one grey
    np.testing.assert_array_equal(some.error.bands, whole.error.bands)
    np.testing.assert_allclose(some.loss.bands, whole.loss.bands, atol=1e-5)
    assert some.error.won().shape == (3, 2, 6)
    np.testing.assert_array_equal(some.error.won(), whole.error.won()[:, :2])
    np.testing.assert_array_equal(
        some.error.repaired()[0].value, whole.error.at([0, 1]).repaired()[0].value
    )
    again = error_decomposition(net, pairs, CHAINS, repair=2, resume=tmp_path / "r")
    assert again.n_forward == 0
    assert again.to_dict()["error"] == some.to_dict()["error"]
    assert error_decomposition(net, pairs, CHAINS, repair=9).error.won().shape[1] == 5
    with pytest.raises(InputError, match="repair must be"):
        error_decomposition(net, pairs, CHAINS, repair=-1)


def test_what_is_left_is_of_the_images_on_which_it_was_measured():
    pairs, net = _grey_pairs(5), Loud().eval()
    few = error_decomposition(net, pairs, CHAINS, repair=2).repair()
    x, perturbed, y = pairs
    two = (x[:2], {key: images[:2] for key, images in perturbed.items()}, y[:2])
    exact = error_decomposition(net, two, Protocol(4)).repair()
    for name in ("without_high", "without_low"):
        np.testing.assert_allclose(few[name], exact[name], atol=1e-12)
    assert np.isnan(few["without_costliest"]).all()
    assert few["without_costliest"].shape == (4,)
    with pytest.raises(InputError, match="repair=True"):
        error_decomposition(net, pairs, CHAINS).repair()


def test_the_mean_is_over_all_perturbations_that_are_no_attacks_and_says_so():
    x, perturbed, y = _grey_pairs(6)
    first, second, third = perturbed.values()
    net = Loud().eval()
    every = {"fog": first, "my sensor": third, ("pgd Linf", 8 / 255): second}
    mapped = {name: (x, images, y) for name, images in every.items()}
    found = combine(error_decomposition(net, mapped, Protocol(4)))
    assert found.error.mean_conditions == (("fog", None), ("my sensor", None))
    parts = [found.error.over([name]).perturbed.value for name in ("fog", "my sensor")]
    assert len(set(map(float, parts))) == 2
    assert found.perturbed_error == pytest.approx(np.mean(parts))
    assert "3 conditions, mean of 2" in repr(found)
    assert found.to_dict()["mean_conditions"] == [["fog", None], ["my sensor", None]]
    np.testing.assert_allclose(np.diag(found.interactions()), found.contributions, atol=1e-12)
    both = found.per_energy(["fog", "my sensor"]).value
    np.testing.assert_array_equal(found.per_energy().value, both)
    dims = {("dim", 0.1): first, ("dim", 1): second}
    for own in ({("pgd Linf", 0.5): third}, dims, {("blur", 0.5): first, ("pgd", 0.1): third}):
        alone = error_decomposition(net, (x, own, y), Protocol(4))
        assert alone.error.mean_conditions == alone.conditions


def test_one_condition_may_be_given_alone_however_it_is_written():
    found = error_decomposition(Loud().eval(), _grey_pairs(4), Protocol(4))
    one = found.conditions[1]
    wanted = found.repair([one])["without_high"]
    with pytest.raises(InputError, match="expected a condition"):
        found.repair(5)
    for written in (one, tuple(one), [one.name, one.level], iter([one])):
        np.testing.assert_array_equal(found.repair(written)["without_high"], wanted)
    assert found.repair("noise")["without_low"].tolist() == found.repair()["without_low"].tolist()


def test_combine_takes_mappings_and_iterators_and_only_decompositions():
    x, perturbed, y = _grey_pairs(4)
    parts = [
        error_decomposition(Loud().eval(), (x, {key: z}, y), CHAINS) for key, z in perturbed.items()
    ]
    listed = combine(parts)
    for given in (dict(enumerate(parts)), iter(parts)):
        np.testing.assert_array_equal(combine(given).error.bands, listed.error.bands)
    with pytest.raises(InputTypeError, match="error_decomposition"):
        combine([listed.to_dict()])


def test_the_attributes_of_the_mean_have_their_names_in_the_dictionary():
    found = error_decomposition(Loud().eval(), _grey_pairs(4), CHAINS)
    data = json.loads(json.dumps(found.to_dict()))
    for name in ATTRIBUTES:
        np.testing.assert_allclose(data[name], getattr(found, name))


def test_means_sums_and_ratios_to_a_reference_stay_exact():
    x, perturbed, y = _grey_pairs(6, n_conditions=5)
    both = {(name, s): z for name in ("fog", "snow") for (_, s), z in perturbed.items()}
    found = error_decomposition(Loud().eval(), (x, both, y), CHAINS).error
    mean = found.over()
    assert mean.perturbed.value == pytest.approx(mean.clean.value + mean.bands.value.sum())
    assert mean.perturbed.value == pytest.approx(found.perturbed.mean())
    parts = [found.over([name]).bands.value for name in ("fog", "snow")]
    np.testing.assert_allclose(mean.bands.value, np.mean(parts, axis=0), atol=1e-12)
    with pytest.raises(InputError, match="not measured"):
        found.over(["rain"])


def test_ratios_to_a_reference_are_those_of_error_rates():
    x, perturbed, y = _grey_pairs(6, n_conditions=5)
    every = {(name, s): z for name in CORRUPTIONS for (_, s), z in perturbed.items()}
    found = error_decomposition(Loud().eval(), (x, every, y), CHAINS).error
    reference = {name: [0.1, 0.2, 0.3, 0.4, 0.5] for name in CORRUPTIONS}
    ces, mce = found.corruption_errors(reference)
    measured = found.perturbed.mean(axis=1).reshape(len(CORRUPTIONS), 5)
    rates = dict(zip(CORRUPTIONS, measured, strict=True))
    expected = error_rates.corruption_errors(rates, reference)
    for name, split in ces.items():
        assert split.perturbed.value == pytest.approx(expected[name])
        assert split.clean.value + split.bands.value.sum() == pytest.approx(expected[name])
    total = error_rates.mean_corruption_error(rates, reference)
    assert mce.perturbed.value == pytest.approx(total)
    assert mce.clean.value + mce.bands.value.sum() == pytest.approx(total)
    means = dict.fromkeys(CORRUPTIONS, 0.3)
    assert found.corruption_errors(means)[1].perturbed.value == pytest.approx(total)
    table = "alexnet_hendrycks_50k"
    own = error_rates.mean_corruption_error(rates, table)
    assert found.corruption_errors(table)[1].perturbed.value == pytest.approx(own)


def test_a_mean_is_over_the_corruptions_at_every_door():
    x, perturbed, y = _grey_pairs(6)
    weak, _, strong = perturbed.values()
    named = {("fog", 1): weak, ("pgd Linf", 0.1): strong}
    first, second = (
        error_decomposition(net.eval(), (x, named, y), CHAINS)
        for net in (Loud(), Planted(3, 4, (12, 12)))
    )
    found = difference(first, second)
    for one in (first, found):
        mean = one.to_dict()["error"]["mean"]["perturbed"]["value"]
        assert mean == one.error.over(["fog"]).perturbed.value != one.error.over().perturbed.value
        assert f"{100 * mean:.1f} %" in repr(one) or f"{100 * mean:+.1f} points" in repr(one)
        shown = points_table(one.error, "end")  # the table in a notebook
        assert shown["end"].iloc[-1] == pytest.approx(100 * mean)


def test_what_is_no_ratio_to_a_reference():
    x, perturbed, y = _grey_pairs(4, n_conditions=5)
    fog = {("fog", s): z for (_, s), z in perturbed.items()}
    found = error_decomposition(Loud().eval(), (x, fog, y), CHAINS).error
    ces, mce = found.corruption_errors({"fog": 0.3, "snow": 0.2})
    assert list(ces) == ["fog"]
    assert mce is None  # a mean over some corruptions is another quantity
    for reference, message in (
        ({"snow": 0.25}, "no errors for fog"),
        ({"fog": [50, 60, 70, 80, 90]}, "percents"),
        ({"fog": [0.5, 0.6]}, "expected 5 error rates"),
        ({"fog": 0.0}, "sum to 0"),
        ("some_table", "no reference table"),
    ):
        with pytest.raises(InputError, match=message):
            found.corruption_errors(reference)
    one = error_decomposition(oracles.TinyNet(), (x, perturbed["noise", 1], y), CHAINS)
    with pytest.raises(InputError, match="severities 1 to 5"):
        one.error.corruption_errors({"perturbed": 0.3})


def test_intervals_of_errors_end_at_0_and_1(tmp_path):
    x, perturbed, y = _grey_pairs(6)
    found = error_decomposition(Loud().eval(), (x, perturbed, y), CHAINS)
    found.save(tmp_path / "a.npz")
    again = ErrorDecomposition.load(tmp_path / "a.npz")
    for one in (found, again, combine([found, again])):
        for split in (
            one.error.over(),
            one.error.over([("noise", 1)]),
            one.error.at([0, 1]).over(),
        ):
            for rate in (split.clean, split.perturbed):
                assert 0 <= rate.interval[0] <= rate.value <= rate.interval[1] <= 1
                assert rate.interval[0] < rate.interval[1]
    assert found.error.over([("noise", 1)]).clean.interval[0] == 0  # no image is wrong
    gap = difference(found, again).error.over().perturbed
    assert gap.interval[0] < 0 < gap.interval[1]  # a difference has no such ends


def test_the_mean_over_conditions_has_names_of_its_own():
    pairs, net = _pairs(9, n_conditions=2), oracles.TinyNet(scale=30)
    found = error_decomposition(net, pairs, Protocol(4))
    split, loss = found.error.over(), found.loss.over()
    assert found.perturbed_error - found.clean_error == pytest.approx(found.contributions.sum())
    assert found.clean_error == split.clean.value
    for name, part in (("clean_error", split.clean), ("perturbed_error", split.perturbed)):
        np.testing.assert_array_equal(getattr(found, f"{name}_interval"), part.interval)
    for name, part in (("contributions", split.bands), ("loss_contributions", loss.bands)):
        np.testing.assert_array_equal(getattr(found, name), part.value)
        np.testing.assert_array_equal(getattr(found, f"{name}_se"), part.se)
        np.testing.assert_array_equal(getattr(found, f"{name}_interval"), part.interval)
    np.testing.assert_allclose(found.per_image.mean(axis=0), found.contributions, atol=1e-15)
    np.testing.assert_allclose(found.loss_per_image.mean(axis=0), found.loss_contributions)
    assert found.values.shape == (9, 16)
    assert found.values[:, 0].mean() == pytest.approx(found.clean_error)
    assert found.values[:, -1].mean() == pytest.approx(found.perturbed_error)
    left = found.repair()
    worst = found.costliest()
    kept = 15 - sum(1 << i for i in worst[:2])
    assert left["without_costliest"][1] == pytest.approx(found.values[:, kept].mean())
    assert left["without_costliest"][-1] == pytest.approx(found.clean_error)
    assert left["without_high"][0] == pytest.approx(found.values[:, 1].mean())
    assert left["without_low"][0] == pytest.approx(found.values[:, 14].mean())
    chains = error_decomposition(net, pairs, CHAINS)
    assert chains.values is None
    with pytest.raises(InputError, match="exact"):
        chains.repair()


def test_other_labels_are_no_difference_of_models():
    x, perturbed, y = _pairs(6)
    net, ids = oracles.TinyNet(), list("abcdef")
    one, other = (
        error_decomposition(net, [(x, perturbed, z, ids)], CHAINS) for z in (y, (y + 1) % 3)
    )
    with pytest.raises(InputError, match="got others for 6 of 6 images"):
        compare(one, other)


def test_a_mapping_of_conditions_gives_a_mapping_of_results(tmp_path):
    x, perturbed, y = _pairs(6, n_conditions=2)
    net = oracles.TinyNet(scale=30)
    both = error_decomposition(net, (x, perturbed, y), CHAINS)
    given = {key: (x, images, y) for key, images in perturbed.items()}
    found = error_decomposition(net, given, CHAINS, resume=tmp_path)
    assert list(found) == list(perturbed)
    whole = combine(list(found.values()))
    assert whole.conditions == both.conditions
    np.testing.assert_allclose(whole.error.perturbed, both.error.perturbed)
    again = error_decomposition(net, given, CHAINS, resume=tmp_path)
    assert [one.n_forward for one in again.values()] == [0, 0]
    for wrong in ({}, {"fog": {"snow": (x, x, y)}}):
        with pytest.raises(InputError, match="expected a mapping from conditions to pairs"):
            error_decomposition(net, wrong, CHAINS)
    with pytest.raises(InputError, match="expected a condition"):
        error_decomposition(net, {"fog": (x, x, y), 3: (x, x, y)}, CHAINS)


def test_only_decompositions_of_one_model_are_combined():
    x, perturbed, y = _pairs(6, n_conditions=2)
    (one, first), (other, second) = perturbed.items()
    nets = [oracles.TinyNet(scale=30, seed=s) for s in (0, 1)]
    ids = list("abcdef")

    def split(net, condition, images, labels=y):
        return error_decomposition(net, [(x, {condition: images}, labels, ids)], CHAINS)

    known = split(nets[0], one, first)
    assert combine([known, split(nets[0], other, second)]).efficiency_residual < 1e-9
    with pytest.raises(InputError, match="decompositions of one model"):
        combine([known, split(nets[1], other, second)])
    with pytest.raises(InputError, match="got others for 6 of 6 images"):
        combine([known, split(nets[0], other, second, (y + 1) % 3)])
    with pytest.raises(InputError, match="got none"):
        combine([])


def test_the_order_of_the_images_of_a_difference_may_differ():
    x, perturbed, y = _pairs(6)
    nets = [oracles.TinyNet(scale=30, seed=s) for s in (0, 1)]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    exact = Protocol(4)
    first, second = (error_decomposition(net, (x, perturbed, y), exact) for net in nets)
    turned = x[order], {k: z[order] for k, z in perturbed.items()}, y[order]
    again = error_decomposition(nets[1], turned, exact)
    np.testing.assert_allclose(
        compare(first, again).loss.bands, compare(first, second).loss.bands, atol=1e-6
    )


def test_a_difference_of_two_models_is_paired(tmp_path):
    x, perturbed, y = _pairs(8, n_conditions=2)
    first, second = (
        error_decomposition(oracles.TinyNet(scale=30, seed=s), (x, perturbed, y), CHAINS)
        for s in (0, 1)
    )
    found = difference(first, second).error
    for name in ("clean", "bands", "perturbed"):
        one, two, both = (getattr(g.over(), name).value for g in (first.error, second.error, found))
        np.testing.assert_allclose(both, one - two, atol=1e-12)
    same = difference(first, first).error.over()
    assert not same.bands.value.any()
    np.testing.assert_array_equal(compare(first, second).error.bands, found.bands)
    for wrong in ((spectral_importance(oracles.TinyNet(), (x, y), Protocol(4)), first), (1, 2)):
        with pytest.raises(InputTypeError, match=r"are compared by compare\(first, second\)"):
            difference(*wrong)
        with pytest.raises(InputTypeError):
            compare(*wrong[::-1])
    half = x[:4], {k: z[:4] for k, z in perturbed.items()}, y[:4]
    less = error_decomposition(oracles.TinyNet(), half, CHAINS)
    with pytest.raises(InputError, match="same images"):
        difference(first, less)
    exact = error_decomposition(oracles.TinyNet(), (x, perturbed, y), Protocol(4))
    with pytest.raises(InputError, match="protocols"):
        difference(first, exact)
    file = tmp_path / "d.npz"
    first.save(file)
    again = ErrorDecomposition.load(file)
    assert again.to_dict() == first.to_dict()
    json.dumps(first.to_dict(), allow_nan=False)
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="not a saved"):
        ErrorDecomposition.load(tmp_path / "x.npz")


def test_a_resumed_run_repeats_what_the_first_one_chose_for_all_its_parts(tmp_path, monkeypatch):
    """Nested sets and chains have folders of their own."""
    x, perturbed, y = _pairs(4)
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
    x, perturbed, y = _pairs(5)
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
    x, perturbed, y = _pairs(150, (8, 8), 1)
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
        error_decomposition(oracles.TinyNet(), _pairs(2), **options)


def test_pairs_that_do_not_fit_are_refused():
    x, perturbed, y = _pairs(3)
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
    net, pairs = oracles.TinyNet(scale=30), _pairs(5)
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


def test_images_of_one_name_are_told_apart_by_their_order():
    net, (x, perturbed, y) = oracles.TinyNet(scale=30), _pairs(4)
    ids = ["a", "b", "a", "b"]
    first, second, _ = perturbed
    parts = [
        error_decomposition(net, [(x[own], {c: perturbed[c][own]}, y[own], some)], CHAINS)
        for c, own, some in ((first, slice(4), ids), (second, slice(3), ids[:3]))
    ]
    both = combine(parts)
    assert both.ids == ("a", "b", "a")
    some = x[:3], {c: perturbed[c][:3] for c in (first, second)}, y[:3]
    whole = error_decomposition(net, some, CHAINS)
    np.testing.assert_array_equal(both.loss.perturbed, whole.loss.perturbed)


def test_a_repair_that_no_shared_image_has_is_left_out():
    net, (x, perturbed, y) = oracles.TinyNet(scale=30), _pairs(4)
    first, second, _ = perturbed
    one = error_decomposition(net, (x, {first: perturbed[first]}, y), CHAINS, repair=1)
    turned = x[[1, 0]], {second: perturbed[second][[1, 0]]}, y[[1, 0]]
    both = combine([one, error_decomposition(net, turned, CHAINS, repair=1)])
    assert both.error.nested is None
    assert "repaired_without_high" not in both.to_dict()["error"]["mean"]


def test_of_one_image_no_interval_is_told():
    net, pairs = oracles.TinyNet(scale=30), _pairs(1)
    one = error_decomposition(net, pairs, CHAINS)
    two = error_decomposition(oracles.TinyNet(seed=1), pairs, CHAINS)
    told = [*conclusion(one), *versus_conclusion(difference(one, two), "a", "b"), repr(one)]
    told += [repr(difference(one, two))]
    importances = [spectral_importance(n, pairs[::2], Protocol(4)) for n in (net, net)]
    assert "nan" not in " ".join([*told, repr(compare(*importances))])


def test_names_may_be_numbers_of_any_kind():
    x, perturbed, y = _pairs(3, n_conditions=1)
    one = next(iter(perturbed.values()))
    for ids in (torch.arange(3), np.arange(3), list(torch.arange(3)), [0, 1, 2]):
        found = error_decomposition(oracles.TinyNet(), [(x, one, y, ids)], CHAINS)
        assert found.ids == ("0", "1", "2")


def test_conditions_are_names_with_numbers_or_without(tmp_path):
    x, perturbed, y = _pairs(2)
    one = next(iter(perturbed.values()))
    keys = ("fog", np.int64(3)), ("blur", np.float32(0.5)), "rain"
    found = error_decomposition(oracles.TinyNet(), (x, dict.fromkeys(keys, one), y), CHAINS)
    found.save(tmp_path / "d.npz")
    known = ErrorDecomposition.load(tmp_path / "d.npz").conditions
    assert known == (("fog", 3), ("blur", 0.5), ("rain", None))
    assert found.error.over(known[0]).added.value == found.error.over("fog").added.value
    with pytest.raises(InputError, match="at least one condition"):
        found.error.over([])
    for key in (1, ("fog", "3"), ("pgd", "Linf", 0.03), (3, "fog")):
        with pytest.raises(InputError, match="expected a condition: a name, or a pair"):
            error_decomposition(oracles.TinyNet(), (x, {key: one}, y), CHAINS)


def test_a_band_that_only_rounding_touches_has_nothing_per_energy():
    x, _ = oracles.sample(6, (16, 16))
    noise = 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    x, net = 0.25 + 0.5 * x, oracles.TinyNet(scale=30)
    perturbed = x + SpectralPartition(4).split(noise)[:, 2]
    found = error_decomposition(net, (x, perturbed, net(x).argmax(dim=1)), Protocol(4))
    assert np.isnan(found.per_energy().value).tolist() == [True, True, False, True]


def test_batches_and_names_change_nothing():
    x, perturbed, y = _pairs(5)
    net = oracles.TinyNet(scale=30)
    whole = error_decomposition(net, (x, perturbed, y), CHAINS)
    parts = [
        (x[a:b], {k: z[a:b] for k, z in perturbed.items()}, y[a:b], [f"i{k}" for k in range(a, b)])
        for a, b in itertools.pairwise((0, 2, 5))
    ]
    batches = error_decomposition(net, parts, CHAINS)
    np.testing.assert_array_equal(batches.loss.bands, whole.loss.bands)
    assert batches.ids == ("i0", "i1", "i2", "i3", "i4")


def test_shares_of_bands_sum_their_contributions():
    found = error_decomposition(oracles.TinyNet(), _pairs(6), CHAINS).error
    split, one = found.over(), found.conditions[0]
    np.testing.assert_allclose(found.in_bands(np.ones(4)).value, split.added.value, atol=1e-12)
    single = found.in_bands([0, 0, 1, 0], [one])
    np.testing.assert_allclose(single.value, found.over([one]).bands.value[2], atol=1e-12)
    apart = found.in_bands([-1, -1, 1, 1])
    np.testing.assert_allclose(apart.value, split.bands.value @ [-1, -1, 1, 1], atol=1e-12)
    assert apart.interval[0] <= apart.value <= apart.interval[1]
