"""What a decomposition says: rows that add up as shown, sentences with an interval behind them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from iaside_plugins import Protocol
from iaside_plugins.decomposition.comparison import difference
from iaside_plugins.decomposition.contributions import Condition, Contributions
from iaside_plugins.decomposition.plots import plot_decomposition, plot_difference
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.sentences import best_removal, conclusion, most_of
from iaside_plugins.decomposition.text import (
    decomposition_table,
    decomposition_text,
    versus_text,
)
from iaside_plugins.display.text import rounded_to_sum


def game(bands, nested=None, names=("gaussian_noise",), n_images=100, clean=0.1):
    """A game whose mean contributions are given: each image fails in one band or in none."""
    rng = np.random.default_rng(0)
    m = len(bands[0])
    error = np.zeros((len(bands), n_images, m))
    for c, shares in enumerate(bands):
        for i, share in enumerate(shares):
            start = int(sum(map(abs, shares[:i])) * n_images)
            error[c, start : start + round(abs(share) * n_images), i] = np.sign(share)
    order = rng.permutation(n_images)
    start = np.zeros(n_images)
    start[n_images - round(clean * n_images) :] = 1
    perturbed = start + error.sum(axis=2)
    conditions = tuple(Condition(name, 3.0) for name in names)
    if nested is not None:
        full = np.zeros((len(bands), n_images, 2 * m - 2))
        for k in range(m - 1):
            full[:, :, k] = start + error[:, :, : k + 1].sum(axis=2)
            full[:, :, m - 1 + k] = start + error[:, :, k + 1 :].sum(axis=2)
        nested = full[:, order]
    return Contributions(conditions, start[order], perturbed[:, order], error[:, order], nested)


def decomposition(error: Contributions) -> ErrorDecomposition:
    c, k, m = error.bands.shape
    return ErrorDecomposition(
        Protocol(m, estimator="permutation"),
        error,
        error,
        np.ones((c, k, m)),
        None,
        None,
        np.zeros(k, dtype=np.int64),
        tuple(map(str, range(k))),
        (32, 32),
        10,
        1,
        "float32",
    )


def test_an_accuracy_at_chance_is_said_first():
    text = decomposition_text(decomposition(game([[0.02, 0.0]], clean=0.9)))
    assert text.startswith("WARNING: accuracy 10.0% (10 of 100 images)")
    assert "WARNING" not in decomposition_text(decomposition(game([[0.02, 0.0]])))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_shown_adds_up_and_is_close_to_what_was_measured(seed):
    rng = np.random.default_rng(seed)
    start, parts = rng.random(), rng.normal(0, 0.1, rng.integers(2, 13))
    total = start + parts.sum()
    shown = rounded_to_sum(start, parts, total)
    assert round(shown[0] + sum(shown[1:-1]), 6) == round(shown[-1], 6)
    assert shown[0] == round(100 * start, 1)
    assert shown[-1] == round(100 * total, 1)
    assert np.abs(np.array(shown[1:-1]) - 100 * parts).max() < 0.2
    assert "-0.0" not in [f"{value:.1f}" for value in shown]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_row_of_the_table_adds_up_within_the_width(width):
    names = ("gaussian_noise", "elastic_transform", "fog")
    error = game([[0.01, 0.02, 0.03] + [0.05] * 9, [0.2] + [0.01] * 11, [0.0] * 12], names=names)
    lines = decomposition_table(error, width, "clean", "error")
    assert max(map(len, lines)) <= width
    rows = [line for line in lines[1:] if not line.startswith("-")]
    assert len(rows) == 4
    for row in rows:
        numbers = [float(x) for x in re.findall(r"-?\d+\.\d", row)]
        assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=1e-6)
    assert rows[-1].startswith("mean of 3")


def test_the_sentence_names_the_bands_that_hold_most_and_what_removing_them_repairs():
    error = game([[0.0, 0.02, 0.03, 0.4]], nested=True)
    (said,) = conclusion(decomposition(error))
    assert said.startswith("Under gaussian noise this model loses 45.0 [")
    assert "of them in band 3" in said
    assert "without the perturbation in band 3 it would lose 40.0 [" in said


def test_nothing_is_said_of_accuracy_where_labels_are_predictions():
    for bands, wanted in (
        ([0.0, 0.4], "Under gaussian noise this model changes 40.0 ["),
        ([0.0, 0.0], "Under gaussian noise this model is not shown to change its predictions"),
    ):
        found = replace(decomposition(game([bands], clean=0.0)), label_space="predicted")
        (said,) = conclusion(found)
        assert said.startswith(wanted)
        assert "accuracy" not in said


def test_a_clause_without_support_is_not_said():
    spread = game([[0.05] * 8], nested=True)
    (said,) = conclusion(decomposition(spread))
    assert "no few bands are shown to hold most" in said
    nothing = game([[0.01, 0.0, -0.01, 0.0]], nested=True)
    (said,) = conclusion(decomposition(nothing))
    assert "is not shown to lose accuracy" in said
    assert "band" not in said
    helped = game([[-0.3, 0.0, 0.0, 0.0]], clean=0.5, nested=True)
    (said,) = conclusion(decomposition(helped))
    assert "errs less than on clean images, by 30.0 [" in said
    few = game([[0.0, 0.0, 0.0, 0.25]], n_images=12)  # all in band 3, but three images only
    assert most_of(few, few.weights(None)) is None
    many = game([[0.0, 0.0, 0.0, 0.25]], n_images=100)
    assert most_of(many, many.weights(None))[0] == [3]
    assert best_removal(many, many.weights(None)) is None  # it was not measured


def test_groups_are_said_costliest_first_and_attacks_by_their_name():
    error = game(
        [[0.1, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5], [0.3, 0.0, 0.0, 0.0], [0.3, 0.0, 0.0, 0.0]],
        names=("gaussian_noise", "fog", "shot_noise", "pgd Linf"),
    )
    said = conclusion(decomposition(error))
    assert [one.split(" this model")[0] for one in said] == [
        "Under fog",
        "Under pgd Linf",
        "Under noise",
    ]


def test_a_difference_says_where_a_model_wins_and_where_it_pays():
    first = decomposition(game([[0.3, 0.0, 0.0, 0.0]]))
    second = decomposition(game([[0.0, 0.0, 0.0, 0.6]]))
    text = versus_text(difference(first, second), "adv", "std", 200)
    said = " ".join(text.split())
    assert "adv loses less than std, by 30.0 [20.9, 39.1] points: less in band 3" in said
    assert "more in band 0" in said
    turned = versus_text(difference(second, first), "std", "adv", 200)
    assert "adv loses less than std, by 30.0 [20.9, 39.1] points" in " ".join(turned.split())
    same = versus_text(difference(first, first), "a", "b", 200)
    assert "not shown to lose unequally" in same


def test_a_difference_of_changed_predictions_speaks_of_no_accuracy():
    first, second = (
        replace(decomposition(game([bands], clean=0.0)), label_space="predicted")
        for bands in ([0.3, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.6])
    )
    said = " ".join(versus_text(difference(first, second), "adv", "std", 200).split())
    assert "adv changes fewer of its predictions than std, by 30.0 [" in said
    assert "fewer in band 3 and more in band 0" in said
    same = versus_text(difference(first, first), "a", "b", 200)
    assert "not shown to change unequally many predictions" in same
    assert not any(word in said + same for word in ("lose", "better", "errs"))


def test_the_whole_text_and_the_pictures_are_made():
    error = game([[0.1, 0.2, 0.0, 0.0], [0.0, 0.0, 0.0, 0.3]], nested=True, names=("fog", "snow"))
    result = decomposition(error)
    text = decomposition_text(result, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "costliest conditions" in text
    assert "clean" in text
    for figure in (
        plot_decomposition(result, "net"),
        plot_difference(difference(result, result), "a", "b"),
    ):
        figure.draw_without_rendering()
        heat = figure.axes[0]
        (shown,) = heat.images
        low, high = shown.get_clim()
        assert low == -high  # white is zero
        assert len(heat.texts) == 8


READINGS = ("pillow nearest", "opencv bilinear")


def test_systematic_noise_is_a_group_with_a_mean_and_a_sentence_of_its_own():
    names = ("gaussian_noise", "fog", *READINGS, "pgd Linf")
    error = game([[0.3, 0], [0.1, 0], [0, 0.2], [0, 0.1], [0.5, 0]], names=names)
    rows = [line.split("  ")[0] for line in decomposition_table(error, 100, "clean", "error")]
    dashes = [k for k, row in enumerate(rows) if set(row) == {"-"}]
    assert [row for row in rows if set(row) != {"-"}] == [
        "points of error",
        "gaussian noise",
        "fog",
        "mean of 2",
        *READINGS,
        "mean of 2",
        "pgd Linf",
    ]
    assert [rows[k + 1] for k in dashes] == ["mean of 2", "mean of 2"]
    assert error.over(error.mean_conditions).added.value == pytest.approx(
        0.2
    )  # no reading, no attack
    assert error.over(error.systematic).added.value == pytest.approx(0.15)
    said = [one for one in conclusion(decomposition(error)) if "systematic" in one]
    assert len(said) == 1
    assert said[0].startswith(
        "Under systematic noise (the same files read otherwise) this model loses 15.0 ["
    )
    assert "of them in band 1" in said[0]


def test_one_reading_is_named_in_words():
    (said,) = conclusion(decomposition(game([[0, 0.2]], names=("opencv bilinear",))))
    assert said.startswith("Under OpenCV (bilinear resize) this model loses 20.0 [")


def test_readings_and_attacks_have_no_common_mean():
    error = game([[0.3, 0], [0, 0.1], [0.5, 0]], names=(*READINGS, "pgd Linf"))
    assert [one.name for one in error.mean_conditions] == list(READINGS)


def test_the_costliest_condition_may_help():
    error = game([[-0.1, 0], [-0.2, 0]], names=READINGS, clean=0.5)
    text = decomposition_text(decomposition(error), 200)
    assert "costliest conditions: pillow nearest -" in text.replace(" 3 ", " ")
    assert "+-" not in text


def test_what_a_perturbation_wins_is_said_with_its_bands():
    (said,) = conclusion(decomposition(game([[0, -0.2, 0]], names=("opencv nearest",), clean=0.4)))
    assert said.startswith(
        "Under OpenCV (nearest resize) this model errs less than on clean images, by 20.0 ["
    )
    assert said.endswith("of them in band 1.")
    assert "-" not in said
