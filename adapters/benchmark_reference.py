"""What corruption errors are divided by: named, and checked before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.benchmark_images import BenchmarkImages
from iaside_plugins.adapters.plans import with_reference_entry
from iaside_plugins.adapters.unaggregated import read_errors
from iaside_plugins.corruption_error import (
    SEVERITIES,
    load_reference,
    mean_corruption_error,
    reference_tables,
)
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation import Corruptions

SAME_IMAGES = {  # AlexNet on RobustBench's 5000 images
    "corruptions": "alexnet_robustbench_5k",
    "corruptions_3d": "alexnet_robustbench_3dcc_5k",
}
_ROUNDING = 1e-6


def corruption_plan(images: BenchmarkImages, reference: Any) -> Corruptions:
    """Corruptions in the form of `iaside_plugins.evaluation`, with what they are divided by.

    Args:
        images: Clean and corrupted images.
        reference: None for the published AlexNet errors where the images are those 5000, and no
            division otherwise; the name of a published table; the entry (.json) of a reference
            model on the same images; RobustBench's table (.csv) with an AlexNet row measured on
            the same images; or a mapping, corruption -> errors at severities 1 to 5 there.

    Raises:
        InputError: Anything else, other corruptions, a table of ImageNet for other data, or
            errors that cannot be those of so many images.
    """
    threat = images.threat
    plan = Corruptions(
        threat.corruptions, (), lambda name, severity: images.cell(name, severity, None),
        images.settings,
    )  # fmt: skip
    if reference is None:
        if not images.is_whole_list or images.settings["source"] != "distributed":
            return plan
        reference = SAME_IMAGES[threat.model]
    if isinstance(reference, Mapping):
        return _same_images(plan, reference, "errors given by the caller", len(images.ids))
    if str(reference) in reference_tables():
        return _published(plan, str(reference), images)
    file = Path(str(reference))
    if not file.is_file():
        known = ", ".join(reference_tables())
        raise InputError(
            f"reference_errors: {reference} is no file and no published table; those are {known}"
        )
    if file.suffix == ".csv":
        return _same_images(plan, read_errors(file, "AlexNet"), "AlexNet", len(images.ids))
    return with_reference_entry(plan, file, images.ids)


def _published(plan: Corruptions, name: str, images: BenchmarkImages) -> Corruptions:
    """A published table: the denominator of an mCE only for its own images."""
    threat = images.threat
    if threat.dataset != "imagenet":
        raise InputError(
            f"{name} holds errors on ImageNet, dataset is {threat.dataset!r}: there the mean error "
            "stands unnormalised, without reference_errors"
        )
    table = load_reference(name)
    if set(table.mean_errors) != set(threat.corruptions):
        raise InputError(f"{name} is not a table of the corruptions of {threat.model}")
    own = images.is_whole_list and images.settings["source"] == "distributed"
    if own and SAME_IMAGES[threat.model] == name and table.errors is not None:
        return dataclasses.replace(plan, reference=table.errors, reference_name=name)
    return dataclasses.replace(plan, published=name)


def _same_images(plan: Corruptions, errors: Mapping[str, Any], name: str, n: int) -> Corruptions:
    """Errors that are said to be of the same images; they must be counts of `n` of them."""
    missing = [corruption for corruption in plan.names if corruption not in errors]
    if missing:
        raise InputError(
            f"reference_errors: {name} has no errors for {', '.join(missing)}; an mCE needs them "
            "all, measured on the same images"
        )
    chosen = {corruption: errors[corruption] for corruption in plan.names}
    mean_corruption_error(chosen, chosen)  # five rates each, in [0, 1], of which some err
    rates = {c: _five(row) for c, row in chosen.items()}
    for corruption, row in rates.items():
        for severity, rate in zip(SEVERITIES, row, strict=True):
            if abs(rate * n - round(rate * n)) > _ROUNDING * n:
                raise InputError(
                    f"reference_errors: {rate} ({corruption}, severity {severity}) is no share of "
                    f"{n} images, so {name} was measured on others; measure it on these"
                )
    return dataclasses.replace(plan, reference=rates, reference_name=name)


def _five(row: Any) -> list[float]:
    if isinstance(row, Mapping):
        keyed = {str(severity): rate for severity, rate in row.items()}
        return [float(keyed[str(severity)]) for severity in SEVERITIES]
    return [float(rate) for rate in row]
