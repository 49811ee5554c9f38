"""The agreement report: its figures, its files, its tables."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from iaside_plugins import InputError, Protocol
from iaside_plugins.attributions.agreement import (
    AgreementReport,
    BandMethod,
    by_model,
    load_reports,
)
from iaside_plugins.attributions.text import agreement_text
from iaside_plugins.stats.correlation import profile_distance, rank_correlation

K, M = 40, 4


def method(name, per_image, *, complete=True, signed=True):
    """A method with these values and made-up costs."""
    rng = np.random.default_rng(0)
    sensitivity = np.where(np.arange(K) < 10, rng.random(K), np.nan)
    return BandMethod(
        name=name,
        title=name.title(),
        complete=complete,
        signed=signed,
        per_image=per_image,
        residual=rng.normal(size=K),
        infidelity=rng.random(K),
        sensitivity=sensitivity,
        rows=np.full(K, 16.0),
        gradient_rows=np.zeros(K),
        seconds=np.full(K, 0.25),
    )


@pytest.fixture(scope="module")
def report():
    """I-ASIDE, a method near it, its opposite, and one without signs."""
    rng = np.random.default_rng(1)
    truth = rng.normal([4, 1, -1, 2], 1.0, size=(K, M))
    methods = (
        method("iaside", truth),
        method("near", truth + rng.normal(0, 0.1, size=(K, M))),
        method("opposite", -truth, complete=False),
        method("unsigned", np.abs(truth), complete=False, signed=False),
    )
    info = {"model": {"name": "net"}, "settings": {}, "provenance": {}}
    ids = tuple(f"image {k}" for k in range(K))
    return AgreementReport(methods, Protocol(M), (32, 32), ids, info)


def test_pairs_compare_means_and_images(report):
    pairs = report.pairs().set_index(["first", "second"])
    assert len(pairs) == 6
    near = pairs.loc[("iaside", "near")]
    first, second = report.methods[0].per_image, report.methods[1].per_image
    expected = profile_distance(first.mean(axis=0), second.mean(axis=0))
    assert near["profile_distance"] == pytest.approx(float(expected))
    images = rank_correlation(first, second)
    assert near["image_rank_correlation"] == pytest.approx(images.mean())
    half = 1.959964 * images.std(ddof=1) / np.sqrt(K)
    assert near["image_rank_correlation_high"] == pytest.approx(images.mean() + half)
    assert near["rank_correlation"] == 1
    opposite = pairs.loc[("iaside", "opposite")]
    assert (opposite["rank_correlation"], opposite["sign_agreement"]) == (-1, 0)
    assert opposite["profile_distance"] == pytest.approx(1)
    assert pairs.loc[("near", "unsigned"), "rank_correlation"] > 0
    assert np.isnan(pairs.loc[("near", "unsigned"), "profile_distance"])


def test_every_figure_lies_in_its_interval(report):
    frame = report.to_frame()
    names = [name.removesuffix("_low") for name in frame.columns if name.endswith("_low")]
    assert {"rank_correlation", "infidelity", "sensitivity", "residual"} <= set(names)
    for name in names:
        known = frame[frame[name].notna()]
        assert len(known) > 0
        assert (known[f"{name}_low"] <= known[name]).all(), name
        assert (known[name] <= known[f"{name}_high"]).all(), name


def test_metrics_are_medians_of_what_was_measured(report):
    frame = report.to_frame().set_index("method")
    own = report.methods[0]
    assert frame.loc["iaside", "infidelity"] == np.median(own.infidelity)
    assert frame.loc["iaside", "sensitivity"] == np.nanmedian(own.sensitivity)
    assert frame.loc["iaside", "sensitivity_n"] == 10
    assert frame.loc["near", "residual"] == np.median(np.abs(report.methods[1].residual))
    assert np.isnan(frame.loc["opposite", "residual"]), "it promises no completeness"


def test_profiles_are_means_and_shares(report):
    profiles = report.profiles()
    own = profiles[profiles["method"] == "iaside"]
    mean = report.methods[0].per_image.mean(axis=0)
    np.testing.assert_allclose(own["value"], mean)
    np.testing.assert_allclose(own["share"], mean / np.abs(mean).sum())
    assert (own["share_low"] < own["share"]).all()
    assert (own["share"] < own["share_high"]).all()


def test_the_bootstrap_interval_of_a_rank_correlation_covers():
    """Two noisy methods of known mean profiles: coverage of the percentile interval."""
    rng = np.random.default_rng(5)
    first, second = np.array([3.0, 2, 1, 0]), np.array([3.0, 1, 2, 0])
    truth, hits = float(rank_correlation(first, second)), 0
    info = {"model": {}, "settings": {}, "provenance": {}}
    for _ in range(100):
        methods = tuple(
            method(name, rng.normal(mean, 2.0, size=(K, M)))
            for name, mean in (("a", first), ("b", second))
        )
        pairs = AgreementReport(methods, Protocol(M), (8, 8), ("",) * K, info).pairs()
        row = pairs.iloc[0]
        hits += row["rank_correlation_low"] <= truth <= row["rank_correlation_high"]
    # A step function of means: the percentile interval is wide and covers at least as often as
    # it says. 90 of 100 would come up by chance in 1 of 40 runs at 95 %.
    assert hits >= 90


def test_saved_reports_come_back_and_tables_are_computed_again(report, tmp_path):
    path = tmp_path / "report.json"
    report.save(path)
    data = json.loads(path.read_text())
    data["agreement"] = "nonsense"
    path.write_text(json.dumps(data))
    back = AgreementReport.load(path)
    assert back.ids == report.ids
    assert back.protocol == report.protocol
    assert back.to_frame().equals(report.to_frame())
    assert load_reports([path], Protocol(M))[0].n_images == K
    with pytest.raises(InputError, match="has 4 chebyshev bands, this comparison 8 chebyshev"):
        load_reports([path], Protocol())
    with pytest.raises(InputError, match="4 chebyshev bands, this comparison 4 euclidean"):
        load_reports([path], Protocol(M, band_norm="euclidean"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("methods"),
        lambda data: data.update(methods=[]),
        lambda data: data["methods"][0].update(per_image=[[1, 2]]),
        lambda data: data["methods"][0].update(seconds=[1]),
        lambda data: data.update(format=99),
        lambda data: data["protocol"].update(n_bands=3),
        lambda data: data.pop("model"),
        lambda data: data.update(model="net"),
    ],
)
def test_damaged_reports_are_refused(report, tmp_path, damage):
    path = tmp_path / "report.json"
    report.save(path)
    data = json.loads(path.read_text())
    damage(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"report\.json"):
        AgreementReport.load(path)


def test_what_is_no_report_is_refused(tmp_path):
    path = tmp_path / "other.json"
    for text in ("[1]", "{", "null"):
        path.write_text(text)
        with pytest.raises(InputError, match="not a saved agreement report"):
            AgreementReport.load(path)
    with pytest.raises(InputError, match="not a saved agreement report"):
        AgreementReport.load(tmp_path / "missing.json")


def test_tables_for_people_hold_the_figures(report):
    markdown = report.to_markdown()
    lines = markdown.splitlines()
    assert len(lines) == 2 + len(report.methods)
    assert {line.count("|") for line in lines} == {11}
    assert "| Near | +1.00 [" in markdown
    assert re.search(r"\| Iaside \| – \|", markdown)
    text = agreement_text(report)
    assert "attribution of each band, nats" in text
    assert "agreement with Iaside" in text
    assert "Opposite" in text
    assert max(map(len, text.splitlines())) < 130


def test_models_of_one_name_are_told_apart(report):
    assert list(by_model([report, report, report])) == ["net", "net #2", "net #3"]


def test_a_single_image_has_no_intervals(report):
    one = tuple(
        BandMethod(
            **{
                key: value[:1] if isinstance(value, np.ndarray) else value
                for key, value in vars(each).items()
            }
        )
        for each in report.methods
    )
    single = AgreementReport(one, report.protocol, (32, 32), report.ids[:1], report.info)
    frame = single.to_frame()
    assert frame["rank_correlation_low"].isna().all()
    json.dumps(single.to_dict(), allow_nan=False)
    assert "[" not in single.to_markdown()
