"""compare(): paired differences of two models on the same images."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, Protocol, compare, spectral_importance
from iaside_plugins.stats.intervals import Z95


@pytest.fixture(scope="module")
def pair():
    """Two networks on the same twelve images."""
    data = oracles.sample(12)
    nets = (oracles.TinyNet(), oracles.TinyNet(seed=1))
    return [spectral_importance(net, data, Protocol(4)) for net in nets]


def test_differences_are_first_minus_second(pair):
    first, second = pair
    found = compare(first, second)
    assert found.n_images == 12
    assert found.protocol == first.protocol
    gap = first.per_image - second.per_image
    np.testing.assert_allclose(found.shapley_difference, gap.mean(0), rtol=0, atol=1e-12)
    half = Z95 * gap.std(axis=0, ddof=1) / np.sqrt(12)  # of the differences: paired
    ends = np.stack([gap.mean(0) - half, gap.mean(0) + half], axis=1)
    np.testing.assert_allclose(found.shapley_difference_interval, ends, rtol=0, atol=1e-12)
    shares = first.distribution - second.distribution
    np.testing.assert_allclose(found.distribution_difference, shares, rtol=0, atol=1e-12)
    assert found.score_difference == pytest.approx(first.score - second.score, abs=1e-12)
    signed = first.signed_score - second.signed_score
    assert found.signed_score_difference == pytest.approx(signed, abs=1e-12)


def test_intervals_of_scores_leave_the_same_image_out_of_both(pair):
    first, second = pair
    found = compare(first, second)
    left_out = []
    for k in range(12):
        scores = []
        for one in pair:
            psi = np.delete(one.per_image, k, axis=0).mean(axis=0)
            scores.append(oracles.signed_score(oracles.distribution(psi.tolist())))
        left_out.append(scores[0] - scores[1])
    se = np.sqrt(11 / 12 * np.sum((left_out - np.mean(left_out)) ** 2))
    low, high = found.signed_score_difference_interval
    assert (high - low) / 2 == pytest.approx(Z95 * se, rel=1e-8)
    assert (high + low) / 2 == pytest.approx(found.signed_score_difference, abs=1e-12)


def test_the_other_way_round_changes_the_sign(pair):
    there, back = compare(*pair), compare(*pair[::-1])
    assert there.signed_score_difference == pytest.approx(-back.signed_score_difference)
    np.testing.assert_allclose(
        there.signed_score_difference_interval, -back.signed_score_difference_interval[::-1]
    )


def test_a_model_does_not_differ_from_itself(pair):
    found = compare(pair[0], pair[0])
    assert found.score_difference == 0
    np.testing.assert_array_equal(found.signed_score_difference_interval, 0)
    np.testing.assert_array_equal(found.distribution_difference_interval, 0)


def test_frames_and_dictionaries(pair):
    found = compare(*pair)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["protocol"]["protocol_id"] == pair[0].protocol.protocol_id
    assert data["n_images"] == 12
    assert len(data["shapley_difference_interval"]) == 4
    frame = found.to_frame()
    np.testing.assert_array_equal(frame["share_difference"], found.distribution_difference)
    np.testing.assert_array_equal(frame["shapley_low"], found.shapley_difference_interval[:, 0])


def test_the_protocols_beta_is_used(pair):
    other = [replace(one, protocol=Protocol(4, beta=0.4)) for one in pair]
    signed = [oracles.signed_score(one.distribution.tolist(), 0.4) for one in pair]
    found = compare(*other)
    assert found.signed_score_difference == pytest.approx(signed[0] - signed[1], abs=1e-12)
    assert found.score_difference == pytest.approx(abs(signed[0]) - abs(signed[1]), abs=1e-12)


def test_other_images_are_refused(pair):
    images, labels = oracles.sample(12)
    net, protocol = oracles.TinyNet(), Protocol(4)
    for data in ((images[:6], labels[:6]), (images.flip(3), labels)):
        other = spectral_importance(net, data, protocol)
        with pytest.raises(InputError, match=rf"got 12 and {len(data[0])} with \d+ in common"):
            compare(pair[0], other)


def test_named_images_of_other_sizes_are_the_same_images():
    names = [f"photograph-{k}" for k in range(5)]
    results = []
    for size in ((12, 12), (16, 16)):
        images, labels = oracles.sample(5, size)
        labels[:] = 0
        results.append(
            spectral_importance(oracles.TinyNet(), [(images, labels, names)], Protocol(4))
        )
    assert compare(*results).n_images == 5
    assert results[0].ids == tuple(names)


def test_the_order_of_the_images_may_differ():
    images, labels = oracles.sample(6, (10, 9))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    net = oracles.TinyNet()
    first = spectral_importance(net, (images, labels), Protocol(3))
    second = spectral_importance(net, (images[order], labels[order]), Protocol(3))
    assert np.abs(compare(first, second).shapley_difference).max() < 1e-6
    assert np.abs(compare(first, second).shapley_difference_interval).max() < 1e-6


def test_other_labels_are_refused_unless_both_are_predictions():
    images, labels = oracles.sample(6, (10, 9))
    net, ids = oracles.TinyNet(), list("abcdef")
    one, other = (
        spectral_importance(net, [(images, z, ids)], Protocol(3))
        for z in (labels, (labels + 1) % 3)
    )
    with pytest.raises(InputError, match="got others for 6 of 6 images"):
        compare(one, other)
    compare(*(replace(x, label_space="predicted") for x in (one, other)))


def test_other_protocols_are_refused(pair):
    other = replace(pair[1], protocol=Protocol(4, temperature=2.0))
    with pytest.raises(InputError, match=f"{other.protocol.protocol_id}$"):
        compare(pair[0], other)
    unused = replace(pair[1], protocol=Protocol(4, seed=3))  # the same numbers
    assert compare(pair[0], unused).n_images == 12
