"""CE and mCE against every published value at hand, by hand, and in their refusals."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iaside_plugins.corruptions.error_rates import (
    corruption_errors,
    load_reference,
    mean_corruption_error,
    reference_tables,
    unnormalised_mean_error,
)
from iaside_plugins.errors import InputError, InputTypeError

TABLES = {"": "alexnet_robustbench_5k", "_3d": "alexnet_robustbench_3dcc_5k"}

# RobustBench's Standard_R50: mean error over severities, in the order of RobustBench's table.
R50 = {
    "": {
        "shot_noise": 0.70904,
        "motion_blur": 0.61868,
        "snow": 0.67848,
        "pixelate": 0.55140,
        "gaussian_noise": 0.68536,
        "defocus_blur": 0.61096,
        "brightness": 0.32156,
        "fog": 0.54500,
        "zoom_blur": 0.63684,
        "frost": 0.62684,
        "glass_blur": 0.73232,
        "impulse_noise": 0.74012,
        "contrast": 0.60896,
        "jpeg_compression": 0.46156,
        "elastic_transform": 0.55044,
    },
    "_3d": {
        "near_focus": 0.40640,
        "far_focus": 0.45024,
        "bit_error": 0.53156,
        "color_quant": 0.43640,
        "flash": 0.62120,
        "fog_3d": 0.57224,
        "h265_abr": 0.38304,
        "h265_crf": 0.32344,
        "iso_noise": 0.73280,
        "low_light": 0.55596,
        "xy_motion_blur": 0.67800,
        "z_motion_blur": 0.65460,
    },
}


def constant(means: dict[str, float]) -> dict[str, list[float]]:
    """Errors equal at all severities, with these means."""
    return {corruption: [mean] * 5 for corruption, mean in means.items()}


def toy(**errors: list[float]) -> dict[str, list[float]]:
    return errors


@pytest.fixture(scope="session")
def facts(kit: Path) -> Path:
    folder = kit.parent / "facts"
    if not folder.is_dir():
        pytest.skip(f"the published facts are not at {folder}")
    return folder


def published(facts: Path) -> dict[str, dict[str, str]]:
    with (facts / "robustbench_published.csv").open() as file:
        return {r["model_id"]: r for r in csv.DictReader(file) if r["corruptions_mce"]}


def per_severity(facts: Path, part: str) -> dict[str, dict[str, dict[int, float]]]:
    """Model -> corruption -> severity -> error, of RobustBench's unaggregated results."""
    with (facts / f"robustbench_unaggregated_results{part}.csv").open() as file:
        names, severities, *rows = csv.reader(file)
    models: dict[str, dict[str, dict[int, float]]] = {}
    for model, *accuracies in rows:
        errors = models.setdefault(model, {})
        for name, severity, accuracy in zip(names[1:], severities[1:], accuracies, strict=True):
            errors.setdefault(name, {})[int(severity)] = 1 - float(accuracy)
    return models


@pytest.mark.parametrize(("part", "percent"), [("", 76.377423), ("_3d", 73.161985)])
def test_resnet50_of_robustbench_embedded(part: str, percent: float) -> None:
    # the published recomputation is printed to 6 decimals of a percent
    mce = mean_corruption_error(constant(R50[part]), TABLES[part])
    assert 100 * mce == pytest.approx(percent, abs=5.1e-7)


@pytest.mark.parametrize("part", ["", "_3d"])
def test_every_published_robustbench_value(facts: Path, part: str) -> None:
    rows = published(facts)
    models = per_severity(facts, part)
    assert len(models) == len(rows) == 12
    for name, errors in models.items():
        row = rows[name]
        for reference in (TABLES[part], models["AlexNet"]):
            mce = 100 * mean_corruption_error(errors, reference)
            assert round(mce, 2) == float(row[f"corruptions_mce{part}"])
            assert mce == pytest.approx(float(row[f"mce{part}_recomputed"]), abs=5.1e-7)
            if name != "AlexNet":  # the mean of ratios is another convention
                assert round(mce, 2) != round(float(row[f"mce{part}_mean_of_ratios"]), 2)
        accuracy = float(row[f"corruptions_acc{part}"])
        # published to two decimals of a percent, through a binary rounding of halves
        assert 100 * (1 - unnormalised_mean_error(errors)) == pytest.approx(accuracy, abs=0.00501)


@pytest.mark.parametrize("part", ["", "_3d"])
def test_shipped_table_is_the_published_alexnet_row(facts: Path, part: str) -> None:
    table = load_reference(TABLES[part])
    published_row = per_severity(facts, part)["AlexNet"]
    assert table.errors is not None
    assert set(table.errors) == set(published_row)
    for corruption, rates in table.errors.items():
        row = published_row[corruption]
        assert rates == pytest.approx([row[s] for s in range(1, 6)], abs=1e-12)


def test_denominators_of_5k_and_50k_images_agree(facts: Path) -> None:
    for errors in per_severity(facts, "").values():
        of_5k = mean_corruption_error(errors, "alexnet_robustbench_5k")
        of_50k = mean_corruption_error(errors, "alexnet_hendrycks_50k")
        assert of_5k == pytest.approx(of_50k, abs=4e-4)  # 0.03 points, measured on the 12 models


def test_every_value_of_imagenet_testbed(facts: Path) -> None:
    with (facts / "imagenet_testbed_published.csv").open() as file:
        rows = {r["model"]: r for r in csv.DictReader(file)}
    prefix = "mean_error_"

    def errors(row: dict[str, str]) -> dict[str, list[float]]:
        means = {k[len(prefix) :]: float(v) for k, v in row.items() if k.startswith(prefix)}
        return constant(means)

    assert len(rows) == 200
    for row in rows.values():
        mce = mean_corruption_error(errors(row), errors(rows["alexnet"]))
        # The mean errors are printed to 5 decimals, the mce comes from unrounded ones: rounding may
        # move it by 1.3e-5 at the very worst, and moves the worst of the 200 by 2.8e-6.
        assert mce == pytest.approx(float(row["mce"]), abs=5e-6)


def test_ratio_of_sums_by_hand() -> None:
    ours = toy(a=[0.1, 0.2, 0.3, 0.4, 0.5], b=[0.2] * 5)
    theirs = toy(a=[0.5, 0.5, 0.6, 0.6, 0.8], b=[0.8] * 5)
    assert corruption_errors(ours, theirs) == pytest.approx({"a": 0.5, "b": 0.25}, rel=1e-15)
    assert mean_corruption_error(ours, theirs) == pytest.approx(0.375, rel=1e-15)
    assert unnormalised_mean_error(ours) == pytest.approx(0.25, rel=1e-15)


@given(
    st.dictionaries(
        st.text("xyz", min_size=1),  # names of no known benchmark, which need not be complete
        st.lists(st.floats(0.01, 1), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_properties(errors: dict[str, list[float]]) -> None:
    assert mean_corruption_error(errors, errors) == 1
    half = {c: [r / 2 for r in rates] for c, rates in errors.items()}
    assert mean_corruption_error(half, errors) == pytest.approx(0.5, rel=1e-14)
    backwards = {c: rates[::-1] for c, rates in reversed(errors.items())}
    assert unnormalised_mean_error(backwards) == unnormalised_mean_error(errors)


@pytest.mark.parametrize(
    "rates",
    [
        {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 5: 0.5},
        {"5": 0.5, "4": 0.4, "3": 0.3, "2": 0.2, "1": 0.1},
        (0.1, 0.2, 0.3, 0.4, 0.5),
        np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
        torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64),
        iter([0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
    ids=["int keys", "text keys", "tuple", "numpy", "torch", "iterator"],
)
def test_forms_of_input(rates: object) -> None:
    reference = {"sleet": [0.6] * 5}
    mce = mean_corruption_error({"sleet": rates}, reference)  # type: ignore[dict-item]
    assert mce == pytest.approx(0.5, rel=1e-15)


def test_tables_say_where_they_come_from() -> None:
    assert set(reference_tables()) == {*TABLES.values(), "alexnet_hendrycks_50k"}
    for name in reference_tables():
        table = load_reference(name)
        assert (table.name, table.model) == (name, "AlexNet")
        assert all([table.dataset, table.source, table.licence, table.note])
        assert table.n_images == (50_000 if "50k" in name else 5_000)
        assert len(table.mean_errors) == (12 if "3dcc" in name else 15)
        assert (table.errors is None) == ("50k" in name)
        with pytest.raises(TypeError):  # a published number cannot be overwritten
            table.mean_errors["fog"] = 0.5  # type: ignore[index]
        own_means = constant(dict(table.mean_errors))
        assert mean_corruption_error(own_means, table) == pytest.approx(1, rel=1e-15)
    with pytest.raises(InputError, match="alexnet_hendrycks_50k, alexnet_robustbench_3dcc_5k"):
        load_reference("alexnet")


def test_mce_needs_the_whole_benchmark() -> None:
    full = constant(R50[""])
    few = {c: rates for c, rates in full.items() if c != "frost"}
    for reference in ("alexnet_robustbench_5k", "alexnet_hendrycks_50k", full):
        with pytest.raises(InputError, match=r"not an mCE: lacks frost .*unnormalised_mean_error"):
            mean_corruption_error(few, reference)
    # a reference that lacks frost as well does not make it an mCE
    with pytest.raises(InputError, match=r"not an mCE: lacks frost \(the reference, of 15"):
        mean_corruption_error(few, few)
    extra = full | {"speckle_noise": [0.5] * 5}
    for reference in (full, extra):
        with pytest.raises(InputError, match=r"not an mCE: speckle_noise .* 15 corruptions"):
            mean_corruption_error(extra, reference)
    with pytest.raises(InputError, match="not an mCE: lacks bit_error, color_quant"):
        mean_corruption_error(full, TABLES["_3d"])
    assert unnormalised_mean_error(few) == pytest.approx(math.fsum(r[0] for r in few.values()) / 14)
    assert set(corruption_errors(few, "alexnet_robustbench_5k")) == set(few)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([10.0, 20.0, 30.0, 40.0, 50.0], r"fog, severity 1: .* got 10\.0; percents must be divid"),
        ([0.1, 0.2, math.nan, 0.4, 0.5], r"fog, severity 3: .* got nan$"),
        ([0.1, 0.2, 0.3, -0.4, 0.5], r"fog, severity 4: .* got -0\.4$"),
        ([0.1, 0.2, 0.3, 0.4], r"fog: expected 5 error rates.* got \(0\.1, 0\.2, 0\.3, 0\.4\)"),
        ({1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 6: 0.5}, "fog: expected severities 1 to 5, .*4, 6"),
    ],
    ids=["percent", "nan", "negative", "four", "severity 6"],
)
def test_bad_rates(rates: list[float], message: str) -> None:
    good = [0.1] * 5
    for call in (
        lambda: unnormalised_mean_error({"fog": rates}),
        lambda: corruption_errors({"fog": rates}, {"fog": good}),
        lambda: mean_corruption_error({"x": good}, {"fog": rates}),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_other_bad_input() -> None:
    with pytest.raises(InputError, match="reference model's errors on a sum to 0"):
        mean_corruption_error(toy(a=[0.1] * 5), toy(a=[0.0] * 5))
    with pytest.raises(InputError, match="no errors for b; it has a"):
        corruption_errors(toy(b=[0.1] * 5), toy(a=[0.1] * 5))
    with pytest.raises(InputError, match="empty mapping"):
        unnormalised_mean_error({})
    with pytest.raises(InputTypeError, match=r"mapping of corruption .* got list"):
        unnormalised_mean_error([0.1] * 5)  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match=r"fog: expected five error rates .* got 0\.3"):
        unnormalised_mean_error({"fog": 0.3})  # type: ignore[dict-item]
