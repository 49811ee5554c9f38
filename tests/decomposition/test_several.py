"""Several decompositions: joined, compared, and of a mapping of conditions."""

from __future__ import annotations

import json

import numpy as np
import oracles
import pytest
import torch
from decomposition_nets import CHAINS, Loud, grey_pairs, perturbed_pairs

from iaside_plugins import (
    InputError,
    Protocol,
    compare,
    error_decomposition,
    spectral_importance,
)
from iaside_plugins.decomposition.comparison import combine, difference
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.errors import InputTypeError


def test_decompositions_of_different_images_are_joined_on_those_of_both():
    x, perturbed, y = perturbed_pairs(6)
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


def test_combine_takes_mappings_and_iterators_and_only_decompositions():
    x, perturbed, y = grey_pairs(4)
    parts = [
        error_decomposition(Loud().eval(), (x, {key: z}, y), CHAINS) for key, z in perturbed.items()
    ]
    listed = combine(parts)
    for given in (dict(enumerate(parts)), iter(parts)):
        np.testing.assert_array_equal(combine(given).error.bands, listed.error.bands)
    with pytest.raises(InputTypeError, match="error_decomposition"):
        combine([listed.to_dict()])


@pytest.mark.parametrize("level", [1, 0.1])
def test_a_difference_under_other_perturbations_is_said_once(level, caplog):
    """But for attacks, which a model meets with images of its own."""
    x, perturbed, y = perturbed_pairs(6)
    nets, blurred = (oracles.TinyNet(seed=k) for k in range(2)), (x + x.roll(1, dims=3)) / 2
    versions = {"noise": perturbed["noise", 3], "blur": blurred}
    noise, again, blur = (
        error_decomposition(net, (x, {("it", level): versions[name]}, y), CHAINS)
        for net, name in zip([*nets, oracles.TinyNet()], ("noise", "noise", "blur"), strict=True)
    )
    compare(noise, again)
    assert "perturbed otherwise" not in caplog.text
    for _ in range(2):
        compare(noise, blur)
    assert caplog.text.count("6 of 6 images are perturbed otherwise") == isinstance(level, int)


def test_other_labels_are_no_difference_of_models():
    x, perturbed, y = perturbed_pairs(6)
    net, ids = oracles.TinyNet(), list("abcdef")
    one, other = (
        error_decomposition(net, [(x, perturbed, z, ids)], CHAINS) for z in (y, (y + 1) % 3)
    )
    with pytest.raises(InputError, match="got others for 6 of 6 images"):
        compare(one, other)


def test_a_mapping_of_conditions_gives_a_mapping_of_results(tmp_path):
    x, perturbed, y = perturbed_pairs(6, n_conditions=2)
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
    x, perturbed, y = perturbed_pairs(6, n_conditions=2)
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
    x, perturbed, y = perturbed_pairs(6)
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
    x, perturbed, y = perturbed_pairs(8, n_conditions=2)
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


def test_images_of_one_name_are_told_apart_by_their_order():
    net, (x, perturbed, y) = oracles.TinyNet(scale=30), perturbed_pairs(4)
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
    net, (x, perturbed, y) = oracles.TinyNet(scale=30), perturbed_pairs(4)
    first, second, _ = perturbed
    one = error_decomposition(net, (x, {first: perturbed[first]}, y), CHAINS, repair=1)
    turned = x[[1, 0]], {second: perturbed[second][[1, 0]]}, y[[1, 0]]
    both = combine([one, error_decomposition(net, turned, CHAINS, repair=1)])
    assert both.error.nested is None
    assert "repaired_without_high" not in both.to_dict()["error"]["mean"]
