"""When a run stops: rules at fixed numbers of images, targets, and honest intervals afterwards."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.importance.stopping import (
    CHECK_EVERY,
    MIN_IMAGES,
    TARGETS,
    WIDE_ERRORS,
    StopCheck,
    Stopping,
    check_points,
    sequence_width,
)
from iaside_plugins.importance.ties import difference, estimate
from iaside_plugins.shapley.score import importance_distribution, score, signed_score

MEANS = np.array([2.0, 1.5, 1.0, 0.5, 0.0, 0.3, 0.6, 0.9])


def _rows(n: int, seed: int = 0, means: np.ndarray = MEANS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return means + rng.standard_t(5, size=(n, 1)) + rng.standard_normal((n, len(means)))


# ---- the rule -------------------------------------------------------------------------------
def test_checks_come_at_multiples_whatever_the_batches():
    assert list(check_points(0, 24)) == []
    assert list(check_points(0, 75)) == [25, 50, 75]
    assert list(check_points(25, 60)) == [50]
    for step in (1, 7, 64, 300):
        seen = [
            n for start in range(0, 300, step) for n in check_points(start, min(300, start + step))
        ]
        assert seen == list(range(CHECK_EVERY, 301, CHECK_EVERY))


def test_a_look_is_done_when_narrow_enough_but_not_too_early():
    assert StopCheck(MIN_IMAGES, 1.0).done
    assert not StopCheck(MIN_IMAGES, 1.01).done
    assert not StopCheck(MIN_IMAGES - CHECK_EVERY, 0.5).done


@pytest.mark.parametrize(
    ("n", "ratio", "expected"), [(100, 2.0, 400), (25, 1.0, 100), (200, 1.1, 250), (150, 0.5, 150)]
)
def test_images_to_come_are_foretold_by_the_square_root_law(n, ratio, expected):
    assert StopCheck(n, ratio).expected() == expected


@pytest.mark.parametrize(
    ("target", "statistic"), [("signed_score", signed_score), ("score", score)]
)
def test_the_ratio_is_the_half_width_over_the_target(target, statistic):
    rows, other = _rows(120), _rows(120, 1, MEANS[::-1])
    half = float(np.diff(estimate(rows, statistic, WIDE_ERRORS).interval)[0]) / 2
    assert Stopping(0.02, target).check(rows) == StopCheck(120, pytest.approx(half / 0.02))
    half = float(np.diff(difference(rows, other, statistic, WIDE_ERRORS).interval)[0]) / 2
    assert Stopping(0.02, target).check(rows, other) == StopCheck(120, pytest.approx(half / 0.02))


def test_ties_that_may_be_count_as_ties():
    """Narrow for 1.96 standard errors, wide for 3: the run goes on."""
    near = MEANS.copy()
    near[5] = 0.2
    rows = _rows(400, 3, near)
    strict = float(np.diff(estimate(rows, signed_score).interval)[0]) / 2
    wide = float(np.diff(estimate(rows, signed_score, WIDE_ERRORS).interval)[0]) / 2
    assert strict < wide
    assert not Stopping((strict + wide) / 2).check(rows).done


def test_beta_enters_the_width():
    rows = _rows(200)
    assert Stopping(0.02, beta=0.5).check(rows).ratio != Stopping(0.02).check(rows).ratio


# ---- signs ----------------------------------------------------------------------------------
def test_a_sign_is_known_when_its_width_reaches_neither_0_nor_the_target():
    rng = np.random.default_rng(0)
    rows = np.array([1.0, -1.0, 0.02]) + rng.standard_normal((1000, 3))
    half = rows.std(axis=0, ddof=1) * sequence_width(1000, 0.05 / 3)
    mean = abs(rows.mean(axis=0))
    for error in (0.05, half[2] * 0.999, half[2] * 1.001, 0.5):
        ratio = Stopping(error, "sign").check(rows).ratio
        assert ratio == pytest.approx(max(half / np.maximum(mean, error)))
        assert (ratio <= 1) == (error >= half[2])


def test_signs_of_two_models_are_those_of_the_paired_differences():
    first, second = _rows(200), _rows(200, 1)
    stopping = Stopping(0.1, "sign")
    assert stopping.check(first, second) == stopping.check(first - second)


def test_the_confidence_sequence_holds_at_all_checks_at_once():
    """2000 sequences, each looked at 100 times; plain intervals would fail a third of them."""
    rng, alpha, at = np.random.default_rng(0), 0.05, np.arange(100, 2501, 25)
    sums = np.cumsum(rng.standard_normal((2000, 2500)), axis=1)[:, at - 1]
    width = np.array([sequence_width(int(n), alpha) for n in at])
    missed = (abs(sums / at) > width).any(axis=1).mean()
    assert missed <= alpha
    plain = (abs(sums / at) > 1.96 / np.sqrt(at)).any(axis=1).mean()
    assert plain > 0.2


def test_the_confidence_sequence_is_the_published_formula():
    n, alpha = 700, 0.01
    log = math.log(alpha)
    rho = math.sqrt((-2 * log + math.log(-2 * log + 1)) / 400)
    inside = (n * rho**2 + 1) / (n**2 * rho**2) * 2 * math.log(math.sqrt(n * rho**2 + 1) / alpha)
    assert sequence_width(n, alpha) == pytest.approx(math.sqrt(inside))


# ---- honest afterwards ----------------------------------------------------------------------
@pytest.mark.parametrize("tied", [False, True])
def test_intervals_cover_after_stopping(tied):
    """Of 300 runs a 95 % interval covers 95 +- 1.3 (standard error) %; three is the margin."""
    rng = np.random.default_rng(5)
    means = MEANS.copy()
    if tied:
        means[5] = means[4]
    truth = float(signed_score(importance_distribution(means)))
    stopping, covered, taken = Stopping(0.04), 0, []
    for _ in range(300):
        shared = rng.standard_t(5, size=(1500, 1))
        rows = means + shared + rng.standard_normal((1500, 8))
        n = next((n for n in check_points(0, 1500) if stopping.check(rows[:n]).done), 1500)
        low, high = estimate(rows[:n], signed_score).interval
        covered += bool(low <= truth <= high)
        taken.append(n)
    assert np.ptp(taken) > 0, "the runs must stop by themselves"
    assert max(taken) < 1500
    assert 0.95 - 3 * 0.0126 <= covered / 300 <= 0.99


# ---- in a run -------------------------------------------------------------------------------
class Steps:
    """An endless source of batches of one image."""

    def __iter__(self):
        seed = 0
        while True:
            seed += 1
            yield oracles.sample(1, (8, 8), seed=seed)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_stops_a_run_where_its_look_says(target):
    net = oracles.TinyNet()
    whole = spectral_importance(net, Steps(), Protocol(4), max_images=300)
    ratio = Stopping(1.0, target).check(whole.per_image[:150]).ratio
    if target == "sign":  # bands whose interval excludes 0 need no error
        half = whole.per_image[:150].std(axis=0, ddof=1) * sequence_width(150, 0.05 / 4)
        ratio = float(half.max())
    stopping = Stopping(ratio, target)
    expected = next(n for n in check_points(0, 300) if stopping.check(whole.per_image[:n]).done)
    for batch_size in (8, 512):
        found = spectral_importance(
            net,
            Steps(),
            Protocol(4),
            target_error=ratio * (1 + 1e-6),
            target=target,
            max_images=300,
            batch_size=batch_size,
        )
        assert found.n_images == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_error": 0.0}, "target_error must be above 0, got 0.0"),
        ({"target_error": float("nan")}, "target_error must be above 0, got nan"),
        (
            {"target_error": 0.1, "target": "width"},
            "target must be one of signed_score, score, sign; got 'width'",
        ),
        ({"target": "width"}, "target must be one of"),
        ({"target": "score"}, "target='score' needs target_error"),
    ],
)
def test_bad_targets_are_refused_before_any_work(options, message):
    recorder = oracles.Recorder()
    with pytest.raises(InputError, match=message):
        spectral_importance(recorder, oracles.sample(2), Protocol(2), **options)
    assert not recorder.seen
