"""The reference errors that corruption errors are divided by, checked before the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.imagenet.stream import StreamGroup
from iaside_plugins.adapters.robustbench_adapter.images import BenchmarkImages
from iaside_plugins.adapters.robustbench_adapter.tables import read_errors
from iaside_plugins.corruptions.error_rates import (
    SEVERITIES,
    load_reference,
    mean_corruption_error,
    reference_tables,
)
from iaside_plugins.entry import robustbench_json as model_info
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.corruption import CorruptionPlan, with_reference_entry
from iaside_plugins.storage.provenance import ids_digest

SAME_IMAGES = {  # AlexNet on RobustBench's 5000 images
    "corruptions": "alexnet_robustbench_5k",
    "corruptions_3d": "alexnet_robustbench_3dcc_5k",
}
ROW = "AlexNet"  # the reference model of every mCE
_ROUNDING = 1e-6


def corruption_plan(images: BenchmarkImages, reference: Any) -> CorruptionPlan:
    """Return the corruptions in the form of `evaluation.plan`, with their reference errors.

    Args:
        images: Clean and corrupted images.
        reference: None for the published AlexNet errors if the images are RobustBench's 5000, and
            for no division otherwise; the name of a published table; the entry (.json) of a
            reference model on the same images; or a table of RobustBench's form (.csv) with a row
            AlexNet. Such a row counts as measured on the same images if these are the distributed
            5000, or if AlexNet.json beside the table, as this package writes it, says so.

    Raises:
        InputError: The reference is anything else, is of other corruptions, images or data, or
            its errors cannot be shares of that many images.
    """
    threat = images.threat
    plan = CorruptionPlan(
        threat.corruptions,
        (),
        lambda name, severity: images.cell(name, severity, None),
        images.settings,
        together=StreamGroup if images.settings.get("source") == "generated" else None,
    )
    if reference is None:
        if not _is_whole(images):
            return plan
        reference = SAME_IMAGES[threat.model]
    if threat.dataset != "imagenet":
        raise InputError(
            f"reference_errors: an mCE is of imagenet, dataset is {threat.dataset!r}: there the "
            "mean error stands unnormalised; leave reference_errors out"
        )
    if not isinstance(reference, (str, Path)):
        raise InputError(
            "reference_errors: expected a published table's name, an entry (.json) or a table "
            f"(.csv), got {type(reference).__name__}: bare numbers do not say of which images they "
            "are; evaluate the reference model with entry_path=... and give its entry"
        )
    if str(reference) in reference_tables():
        return _published(plan, str(reference), images)
    file = Path(str(reference))
    if not file.is_file():
        known = ", ".join(reference_tables())
        raise InputError(
            f"reference_errors: {reference} is no file and no published table; those are {known}"
        )
    if file.suffix == ".csv":
        errors = read_errors(file, ROW)
        if not _is_whole(images):
            _check_sibling(file.with_name(f"{ROW}.json"), images)
        return _same_images(plan, errors, len(images.ids))
    return with_reference_entry(plan, file, images.ids)


def _published(plan: CorruptionPlan, name: str, images: BenchmarkImages) -> CorruptionPlan:
    """Return the plan with a published table: for an mCE on its own images, else for a ratio."""
    threat = images.threat
    table = load_reference(name)
    if set(table.mean_errors) != set(threat.corruptions):
        raise InputError(f"{name} is not a table of the corruptions of {threat.model}")
    if _is_whole(images) and SAME_IMAGES[threat.model] == name and table.errors is not None:
        return dataclasses.replace(plan, reference=table.errors, reference_name=name)
    return dataclasses.replace(plan, published=name)


def _is_whole(images: BenchmarkImages) -> bool:
    """Return whether these are the clean and corrupted images of RobustBench's figures."""
    return images.is_whole_list and images.settings["source"] == "distributed"


def _check_sibling(file: Path, images: BenchmarkImages) -> None:
    """Raise InputError unless the JSON file of the reference model names the same images."""
    run = model_info.read(file).get(model_info.group_name(images.threat.model)) or {}
    expected = {
        "image_ids_sha256": ids_digest(images.ids),
        "corrupted_images": images.settings,
    }
    other = [key for key, value in expected.items() if run.get(key) != value]
    if other:
        raise InputError(
            f"reference_errors: {file} does not say that the row {ROW} is of these images "
            f"({' and '.join(other)} differ or are missing); evaluate the reference model on them "
            f"with model_name={ROW!r} and to_disk=True, or give its entry"
        )


def _same_images(plan: CorruptionPlan, errors: Mapping[str, Any], n: int) -> CorruptionPlan:
    """Return the plan with errors of `ROW` on the same images, which must be counts over `n`."""
    missing = [corruption for corruption in plan.names if corruption not in errors]
    if missing:
        raise InputError(
            f"reference_errors: {ROW} has no errors for {', '.join(missing)}; an mCE needs them "
            "all, measured on the same images"
        )
    chosen = {corruption: errors[corruption] for corruption in plan.names}
    mean_corruption_error(chosen, chosen)  # five rates each, in [0, 1], of which some err
    for corruption, row in chosen.items():
        for severity, rate in zip(SEVERITIES, row, strict=True):
            if abs(rate * n - round(rate * n)) > _ROUNDING * n:
                raise InputError(
                    f"reference_errors: {rate} ({corruption}, severity {severity}) is no share of "
                    f"{n} images, so {ROW} was measured on others; measure it on these"
                )
    return dataclasses.replace(plan, reference=chosen, reference_name=ROW)
