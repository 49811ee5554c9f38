"""SpectralImportance: every attribute against its definition, dictionaries and frames."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import oracles
import pytest

from iaside_plugins import InputError, Protocol, SpectralImportance, spectral_importance
from iaside_plugins.storage.files import jsonable

# The attribute names that the design promises; also the keys of to_dict() and of --json.
PROMISED = [
    "n_images",
    "n_classes",
    "shapley_values",
    "shapley_se",
    "per_image",
    "values",
    "distribution",
    "distribution_interval",
    "score",
    "score_interval",
    "signed_score",
    "signed_score_interval",
    "efficiency_residual",
    "n_forward",
    "protocol",
]


@pytest.fixture(scope="module")
def result():
    """Twelve images through a tiny network, four bands."""
    return spectral_importance(oracles.TinyNet(), oracles.sample(12, (12, 10)), Protocol(4))


@pytest.fixture(scope="module")
def sampled():
    """The same by the permutation estimator, without a value table."""
    protocol = Protocol(4, estimator="permutation")
    return spectral_importance(oracles.TinyNet(), oracles.sample(12, (12, 10)), protocol)


@pytest.fixture(scope="module")
def single():
    """One image: nothing has an interval."""
    return spectral_importance(oracles.TinyNet(), oracles.sample(1, (12, 10)), Protocol(4))


def _planted(psi: np.ndarray, beta: float = 0.75) -> SpectralImportance:
    """A result with given Shapley values of each image."""
    k, m = psi.shape
    ends = np.stack([0 * psi[:, 0], psi.sum(axis=1)], axis=1)
    names, ones = tuple(str(i) for i in range(k)), np.ones(k, np.int64)
    return SpectralImportance(
        Protocol(m, beta=beta), psi, ends, None, ones, names, ones > 0, 2, 0, (32, 32), "float32"
    )


def test_shapes_and_the_promised_names(result):
    for name in PROMISED:
        assert hasattr(result, name), name
    assert (result.n_images, result.n_classes, result.n_forward) == (12, 3, 12 * 15 + 1)
    assert result.per_image.shape == (12, 4)
    assert result.values.shape == (12, 16)
    assert result.value_table.shape == (16,)
    assert result.shapley_values.shape == result.shapley_se.shape == result.distribution.shape
    assert result.distribution_interval.shape == (4, 2)
    assert result.score_interval.shape == result.signed_score_interval.shape == (2,)
    assert result.image_size == (12, 10)
    for kind in (result.score, result.signed_score, result.efficiency_residual):
        assert type(kind) is float


def test_numbers_follow_from_the_value_table(result):
    psi = np.array([oracles.shapley_by_orders(row) for row in result.values])
    np.testing.assert_allclose(result.per_image, psi, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.shapley_values, psi.mean(0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.shapley_se, psi.std(0, ddof=1) / np.sqrt(12), rtol=1e-9)
    p = oracles.distribution(psi.mean(0).tolist())
    np.testing.assert_allclose(result.distribution, p, rtol=0, atol=1e-9)
    assert result.signed_score == pytest.approx(oracles.signed_score(p), abs=1e-9)
    assert result.score == pytest.approx(abs(oracles.signed_score(p)), abs=1e-9)
    np.testing.assert_allclose(result.value_table, result.values.mean(0), rtol=1e-14)
    np.testing.assert_array_equal(result.ends, result.values[:, [0, -1]])
    wanted = oracles.interactions(result.value_table)
    np.testing.assert_allclose(result.interactions(), wanted, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(result.interactions(order=1), result.shapley_values)


def test_efficiency_holds_for_every_image(result, sampled):
    for one in (result, sampled):
        gain = one.ends[:, 1] - one.ends[:, 0]
        np.testing.assert_allclose(one.per_image.sum(axis=1), gain, rtol=0, atol=1e-12)
        assert abs(one.efficiency_residual) < 1e-12


def test_the_residual_is_what_is_missing():
    psi = np.array([[1.0, 2.0], [3.0, 4.0]])
    wrong = replace(_planted(psi), ends=np.array([[0.0, 3.0], [0.0, 6.0]]))
    assert wrong.efficiency_residual == pytest.approx(0.5)


def test_intervals_lie_in_range_and_hold_the_estimate(result):
    low, high = result.distribution_interval.T
    assert ((low >= 0) & (low <= result.distribution + 1e-15)).all()
    assert ((high <= 1) & (high >= result.distribution - 1e-15)).all()
    assert result.score_interval[0] <= result.score <= result.score_interval[1]
    ends = result.signed_score_interval
    assert ends[0] <= result.signed_score <= ends[1]


def test_intervals_are_cut_to_what_can_be():
    """Three images that disagree: the normal intervals reach far beyond shares and scores."""
    one = _planted(np.array([[9.0, 0, 0, 1], [0, 3.0, 1, 0], [0, 1, 2.0, 0]]))
    low, high = one.distribution_interval.T
    assert low.min() == 0
    assert high.max() == 1
    ends = oracles.signed_score([0, 0, 0, 1]), oracles.signed_score([1, 0, 0, 0])
    assert one.signed_score_interval[0] >= ends[0]
    assert one.signed_score_interval[1] == pytest.approx(ends[1])
    assert one.score_interval[0] == 0


def test_beta_enters_the_scores_only():
    psi = np.random.default_rng(0).normal(size=(9, 4)) + np.arange(4)
    one, other = _planted(psi), _planted(psi, beta=0.5)
    np.testing.assert_array_equal(one.distribution, other.distribution)
    expected = oracles.signed_score(one.distribution.tolist(), 0.5)
    assert other.signed_score == pytest.approx(expected, abs=1e-12)


def test_ties_with_the_least_band_are_told():
    rng = np.random.default_rng(1)
    noise = 0.1 * rng.standard_normal((100, 4))  # standard errors of differences: 0.014
    assert _planted(noise + np.array([3, 2, 1, 0])).tied_bands == [3]
    tied = _planted(noise + np.array([3, 0, 1, 0])).tied_bands
    assert sorted(tied) == [1, 3]
    shared = 5 * rng.standard_normal((100, 1))  # common to all bands: it cancels in differences
    assert _planted(noise + shared + np.array([3, 2, 1, 0])).tied_bands == [3]


def test_one_image_has_no_intervals(single):
    assert np.isnan(single.shapley_se).all()
    assert np.isnan(single.distribution_interval).all()
    assert np.isnan(single.signed_score_interval).all()
    assert len(single.tied_bands) == 1
    data = single.to_dict()
    assert data["signed_score_interval"] == [None, None]
    assert data["shapley_se"] == [None] * 4


@pytest.mark.parametrize("name", ["result", "sampled", "single"])
def test_to_dict_is_json_with_the_promised_names(name, request):
    one = request.getfixturevalue(name)
    data = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert set(PROMISED) <= set(data)
    assert Protocol.from_dict(data["protocol"]) == one.protocol
    assert data["n_images"] == one.n_images
    assert data["signed_score"] == one.signed_score
    np.testing.assert_array_equal(data["shapley_values"], one.shapley_values)
    np.testing.assert_array_equal(data["per_image"], one.per_image)
    assert (data["values"] is None) == (one.values is None)
    assert data["ids"] == list(one.ids)


def test_jsonable_mends_what_json_lacks():
    arrays = {"a": np.float32(0.5), "b": np.bool_(True), "c": np.array([[1, 2]])}
    found = jsonable({**arrays, "d": (np.nan, np.inf, 1), "e": {"f": np.int64(3)}, "g": None})
    mended = {"a": 0.5, "b": True, "c": [[1, 2]], "d": [None, None, 1], "e": {"f": 3}, "g": None}
    assert found == mended
    assert type(found["b"]) is bool


def test_frames(result):
    frame = result.to_frame()
    assert frame["band"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(frame["low"], [0, 1.25, 2.5, 3.75])  # shorter side 10: Nyquist 5
    np.testing.assert_allclose(frame["high"], [1.25, 2.5, 3.75, 5])
    np.testing.assert_array_equal(frame["shapley_value"], result.shapley_values)
    np.testing.assert_array_equal(frame["se"], result.shapley_se)
    np.testing.assert_array_equal(frame["share"], result.distribution)
    np.testing.assert_array_equal(frame["share_high"], result.distribution_interval[:, 1])


def test_by_class_splits_the_images(result):
    frame = result.by_class()
    assert frame["label"].tolist() == sorted(set(result.labels.tolist()))
    assert frame["n_images"].sum() == 12
    for _, row in frame.iterrows():
        chosen = result.labels == row["label"]
        assert row["n_images"] == chosen.sum()
        assert row["accuracy"] == pytest.approx(result.correct[chosen].mean())
        expected = result.per_image[chosen].mean(axis=0)
        np.testing.assert_allclose(row[[f"band_{i}" for i in range(4)]].to_numpy(float), expected)


def test_interactions_need_the_table_and_a_known_order(result, sampled):
    with pytest.raises(InputError, match=r"value table.*estimator='exact'"):
        sampled.interactions()
    np.testing.assert_array_equal(sampled.interactions(order=1), sampled.shapley_values)
    with pytest.raises(InputError, match="order must be 1 or 2, got 3"):
        result.interactions(order=3)


def test_repr_says_the_essential(result):
    text = repr(result)
    assert "12 images, 4 bands" in text
    assert f"{result.signed_score:+.3f}" in text
    assert result.protocol.protocol_id in text
