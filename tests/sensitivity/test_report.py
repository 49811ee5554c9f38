"""The report of a sensitivity study, from value tables whose answers are known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import oracles
import pytest
from scipy import stats
from sensitivity_studies import RETAINED, N, make_report, result

from iaside_plugins.errors import InputError
from iaside_plugins.sensitivity.report import (
    SensitivityReport,
    StudiedModel,
    associations,
    effects,
    movements,
    to_dict,
)
from iaside_plugins.sensitivity.statistics import partial_rank_correlation
from iaside_plugins.sensitivity.text import association_text, convention, sensitivity_text


@pytest.fixture(scope="module")
def report():
    return make_report()


def test_scores_are_those_of_the_definition(report):
    for k, variant in enumerate(report.variants):
        for j, model in enumerate(report.models):
            psi = oracles.shapley_by_subsets(model.results[k].values.mean(axis=0))
            expected = oracles.signed_score(oracles.distribution(psi), variant.protocol.beta)
            assert report.signed_scores[k, j] == pytest.approx(expected)
            assert report.scores[k, j] == pytest.approx(abs(expected))


def test_association_is_the_mean_partial_correlation_with_retained_shares(report):
    clean = [model.outcomes["clean accuracy"] for model in report.models]
    for k in range(len(report.variants)):
        each = [
            partial_rank_correlation(
                report.signed_scores[k], [m.outcomes[name] for m in report.models], clean
            )
            for name in RETAINED
        ]
        assert report.association[k] == pytest.approx(np.nanmean(each))
    low, high = report.association_interval.T
    assert ((low >= -1) & (low < high) & (high <= 1)).all()


def test_effects_are_means_over_pairs_of_variants_that_differ_on_one_axis(report):
    names = [variant.name for variant in report.variants]
    assert names == [
        "m3 chebyshev zero none T=1 beta=0.75",
        "m3 chebyshev zero none T=1 beta=0.5",
        "m3 chebyshev zero clip T=1 beta=0.75",
        "m3 chebyshev zero clip T=1 beta=0.5",
    ]
    a, found = report.association, {one["axis"]: one for one in effects(report)}
    assert set(found) == {"range_handling", "beta"}
    clip = found["range_handling"]
    assert clip["n_pairs"] == 2
    assert clip["association"] == pytest.approx(((a[2] - a[0]) + (a[3] - a[1])) / 2)
    assert clip["association_at_base"] == pytest.approx(a[2] - a[0])
    assert found["beta"]["association"] == pytest.approx(((a[1] - a[0]) + (a[3] - a[2])) / 2)
    left = []
    for k in range(N):
        b = report.association_of(np.delete(np.arange(N), k)[None])[:, 0]
        left.append(((b[2] - b[0]) + (b[3] - b[1])) / 2)
    assert clip["association_left_out"] == pytest.approx([min(left), max(left)])
    agreement = [report.spearman[0, 2], report.spearman[1, 3]]
    assert clip["ranking"] == pytest.approx(np.mean(agreement))
    assert all(one["n_pairs"] == 0 for one in effects(report, n_bands=4))


def test_movements_are_from_the_base(report):
    found = movements(report)
    assert found[0]["profile_distance"] == found[0]["signed_score_change"] == 0
    assert found[0]["spearman_with_base"] == found[0]["kendall_with_base"] == 1
    base, clip = ([m.results[k] for m in report.models] for k in (0, 2))
    expected = np.mean(
        [np.abs(a.distribution - b.distribution).sum() / 2 for a, b in zip(base, clip, strict=True)]
    )
    assert found[2]["profile_distance"] == pytest.approx(expected)
    ranks = stats.spearmanr(report.signed_scores[0], report.signed_scores[2]).statistic
    assert found[2]["spearman_with_base"] == pytest.approx(ranks)
    assert found[2]["negative"] == (report.signed_scores[2] < 0).sum()


def test_beta_changes_no_profile(report):
    found = movements(report)
    assert found[1]["profile_distance"] == 0
    assert found[1]["profile_rank_correlation"] == pytest.approx(1)
    assert found[1]["signed_score_change"] != 0


def test_associations_hold_every_outcome_and_score(report):
    found = associations(report)
    assert len(found) == 4 * len(RETAINED) * 2
    one = next(
        f
        for f in found
        if f["variant"] == report.variants[2].name
        and f["outcome"] == RETAINED[1]
        and f["score"] == "score"
    )
    y = [model.outcomes[RETAINED[1]] for model in report.models]
    assert one["spearman"] == pytest.approx(stats.spearmanr(report.scores[2], y).statistic)


def test_the_report_is_json_and_text_and_says_exploratory(report):
    data = json.loads(json.dumps(to_dict(report), allow_nan=False))
    assert len(data["variants"]) == len(data["movements"]) == 4
    assert len(data["spearman"]) == len(data["kendall"]) == 4
    text = sensitivity_text(data)
    for part in ("6 models, 10 images, 4 variants", "exploratory", "range handling", "clip"):
        assert part in text


def test_without_entries_there_is_no_association_but_everything_else():
    report = make_report(entries=False)
    data = to_dict(report)
    assert report.clean.tolist() == [0.5] * N  # of the studied images
    assert data["associations"] == []
    assert all(one["association"] is None for one in data["variants"])
    assert data["effects"][0]["ranking"] is not None
    assert "association: partial" not in sensitivity_text(data)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_models_give_blanks_not_numbers(n):
    data = to_dict(make_report(n))
    assert all(one["association"] is None for one in data["variants"])
    assert "–" in sensitivity_text(data)
    json.dumps(data, allow_nan=False)


def test_models_must_be_named_apart_and_studied_on_the_same_images(report):
    first, second, *_ = report.models
    same = StudiedModel(first.name, second.results)
    with pytest.raises(InputError, match="two models of one name"):
        SensitivityReport(report.design, (first, same))
    with pytest.raises(InputError, match="lacks some of the 4 variants"):
        SensitivityReport(report.design, (StudiedModel("short", first.results[:2]),))
    other = tuple(result(one.values[:5], one.protocol) for one in second.results)
    with pytest.raises(InputError, match="other images"):
        SensitivityReport(report.design, (first, StudiedModel("other", other)))
    with pytest.raises(InputError, match="at least one model"):
        SensitivityReport(report.design, ())


def test_an_end_among_resamples_set_to_zero_is_called_that(report):
    assert ((report.set_to_zero >= 0) & (report.set_to_zero < 1)).all()
    variant = {"association": 0.8, "association_interval": [0.0, 0.97]}
    assert association_text(variant) == "+0.80 [0 by convention, +0.97]"
    assert association_text(variant | {"association_interval": [-0.1, 0.9]}) == (
        "+0.80 [-0.10, +0.90]"
    )
    assert association_text({"association": None, "association_interval": [None, None]}) == "–"
    assert "in 12% of the resamples" in convention(variant | {"association_set_to_zero": 0.12})
    ranked_alike = dataclasses.replace(
        report,
        models=tuple(
            dataclasses.replace(
                model,
                outcomes={**model.outcomes, "clean accuracy": float(score)},
            )
            for model, score in zip(report.models, report.signed_scores[0] + 1, strict=True)
        ),
    )
    assert ranked_alike.set_to_zero[0] == 1
