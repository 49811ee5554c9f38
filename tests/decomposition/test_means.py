"""What a decomposition says: means, ratios to a reference, repairs, and their intervals."""

from __future__ import annotations

import json

import numpy as np
import oracles
import pytest
import torch
from decomposition_nets import CHAINS, Loud, Planted, grey_pairs, perturbed_pairs

from iaside_plugins import (
    InputError,
    Protocol,
    compare,
    error_decomposition,
    spectral_importance,
)
from iaside_plugins.corruptions import error_rates
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.decomposition.comparison import combine, difference
from iaside_plugins.decomposition.result import ATTRIBUTES, ErrorDecomposition, points_table
from iaside_plugins.decomposition.sentences import conclusion, versus_conclusion
from iaside_plugins.spectral.partition import SpectralPartition


def test_what_taking_bands_out_repairs_is_read_from_the_table():
    pairs = grey_pairs(6)
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
    pairs, net = grey_pairs(5), Loud().eval()
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
    pairs, net = grey_pairs(5), Loud().eval()
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
    x, perturbed, y = grey_pairs(6)
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
    found = error_decomposition(Loud().eval(), grey_pairs(4), Protocol(4))
    one = found.conditions[1]
    wanted = found.repair([one])["without_high"]
    with pytest.raises(InputError, match="expected a condition"):
        found.repair(5)
    for written in (one, tuple(one), [one.name, one.level], iter([one])):
        np.testing.assert_array_equal(found.repair(written)["without_high"], wanted)
    assert found.repair("noise")["without_low"].tolist() == found.repair()["without_low"].tolist()


def test_the_attributes_of_the_mean_have_their_names_in_the_dictionary():
    found = error_decomposition(Loud().eval(), grey_pairs(4), CHAINS)
    data = json.loads(json.dumps(found.to_dict()))
    for name in ATTRIBUTES:
        np.testing.assert_allclose(data[name], getattr(found, name))


def test_means_sums_and_ratios_to_a_reference_stay_exact():
    x, perturbed, y = grey_pairs(6, n_conditions=5)
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
    x, perturbed, y = grey_pairs(6, n_conditions=5)
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
    x, perturbed, y = grey_pairs(6)
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
    x, perturbed, y = grey_pairs(4, n_conditions=5)
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
    x, perturbed, y = grey_pairs(6)
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
    pairs, net = perturbed_pairs(9, n_conditions=2), oracles.TinyNet(scale=30)
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


def test_of_one_image_no_interval_is_told():
    net, pairs = oracles.TinyNet(scale=30), perturbed_pairs(1)
    one = error_decomposition(net, pairs, CHAINS)
    two = error_decomposition(oracles.TinyNet(seed=1), pairs, CHAINS)
    told = [*conclusion(one), *versus_conclusion(difference(one, two), "a", "b"), repr(one)]
    told += [repr(difference(one, two))]
    importances = [spectral_importance(n, pairs[::2], Protocol(4)) for n in (net, net)]
    assert "nan" not in " ".join([*told, repr(compare(*importances))])


def test_conditions_are_names_with_numbers_or_without(tmp_path):
    x, perturbed, y = perturbed_pairs(2)
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


def test_shares_of_bands_sum_their_contributions():
    found = error_decomposition(oracles.TinyNet(), perturbed_pairs(6), CHAINS).error
    split, one = found.over(), found.conditions[0]
    np.testing.assert_allclose(found.in_bands(np.ones(4)).value, split.added.value, atol=1e-12)
    single = found.in_bands([0, 0, 1, 0], [one])
    np.testing.assert_allclose(single.value, found.over([one]).bands.value[2], atol=1e-12)
    apart = found.in_bands([-1, -1, 1, 1])
    np.testing.assert_allclose(apart.value, split.bands.value @ [-1, -1, 1, 1], atol=1e-12)
    assert apart.interval[0] <= apart.value <= apart.interval[1]
