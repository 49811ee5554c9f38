"""RobustBench's JSON of one model: its fields as it writes them, and ours beside them.

Percents are text, rounded to two decimals as RobustBench rounds them. What is ours is under keys
that start with ``iaside_``, one group a threat model with all that describes its run; RobustBench
keeps them when it updates the file. A number in the file is replaced only if this package wrote
it: published figures, and everything written by hand, stay.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.budgets import format_budget, parse_budget
from iaside_plugins.errors import InputError
from iaside_plugins.storage.files import read_json, write_json

if TYPE_CHECKING:
    from iaside_plugins.entry.schema import Entry

FIELDS = (
    "link",
    "name",
    "authors",
    "additional_data",
    "number_forward_passes",
    "dataset",
    "venue",
    "architecture",
    "eps",
    "clean_acc",
    "reported",
    "corruptions_acc",
    "corruptions_acc_3d",
    "corruptions_mce",
    "corruptions_mce_3d",
    "autoattack_acc",
    "footnote",
)
_ACCURACY = {
    "Linf": "autoattack_acc",
    "L2": "autoattack_acc",
    "corruptions": "corruptions_acc",
    "corruptions_3d": "corruptions_acc_3d",
}
_MCE = {"corruptions": "corruptions_mce", "corruptions_3d": "corruptions_mce_3d"}
_SPECTRAL = (
    "n_images",
    "shapley_values",
    "shapley_se",
    "distribution",
    "distribution_interval",
    "score",
    "score_interval",
    "signed_score",
    "signed_score_interval",
    "band_edges",
    "image_size",
)  # of the entry's spectral groups
_log = logging.getLogger(__name__)


def percent(share: float) -> str:
    """Return a share as RobustBench writes it: in percent, at most two decimals, as text."""
    return str(round(share * 100, 2))


def measured(
    threat_model: str,
    dataset: str,
    *,
    clean: float,
    robust: float,
    eps: float | None,
    mce: float | None,
    standard: bool = True,
) -> dict[str, Any]:
    """Return RobustBench's fields that a run measures; shares in [0, 1].

    Args:
        threat_model: One of RobustBench's.
        dataset: One of RobustBench's.
        clean: Clean accuracy.
        robust: Robust accuracy.
        eps: Budget; None for corruptions.
        mce: mCE with the reference model on the same images; None without one,
            and the field is then left out.
        standard: Whether the attacks were those of AutoAttack's version "standard": under other
            attacks there is no ``autoattack_acc``, and no budget of it.
    """
    found: dict[str, Any] = {"dataset": dataset, "clean_acc": percent(clean)}
    if not standard:
        return found
    found |= {
        "eps": None if eps is None else format_budget(eps),
        _ACCURACY[threat_model]: percent(robust),
    }
    if mce is not None:
        found[_MCE[threat_model]] = percent(mce)
    return found


def group_name(threat_model: str, standard: bool = True) -> str:
    """Return the key of our group of a run; runs with custom attacks have their own."""
    return f"iaside_{threat_model}" + ("" if standard else "_custom")


def own_fields(name: str, run: Mapping[str, Any], entry: Entry | None) -> dict[str, Any]:
    """Return our group: raw numbers, with intervals, the spectral importance and provenance.

    Args:
        name: Of `group_name`.
        run: What identifies and sums up the run, with or without an entry: accuracies, n,
            digests of weights and images, seed, attacks.
        entry: Made inside RobustBench; None without one.
    """
    if entry is None or entry.benchmark is None:
        return {name: dict(run)}
    raw = entry.model_dump(mode="json")
    group = {
        **run,
        "clean_accuracy_interval": raw["clean_accuracy"]["interval"],
        "benchmark": {k: v for k, v in raw["benchmark"].items() if k != "profiles"},
        "provenance": raw["provenance"],
        "protocol": raw["protocol"],
        "spectral": {key: raw["spectral"][key] for key in _SPECTRAL},
    }
    if entry.adversarial is not None:
        group["attacks"] = raw["adversarial"]["attacks"]
    if entry.corruption is not None:
        group["unnormalised_mean_error"] = raw["corruption"]["unnormalised_mean_error"]
        for key in ("mce", "error_over_published"):
            claim = getattr(entry.corruption, key)
            group[key] = claim and {"value": claim.value, "reference": claim.reference}
    if entry.decomposition is not None:
        group["error_by_band"] = raw["decomposition"]
    group["profiles"] = [
        {key: profile[key] for key in ("condition", *_SPECTRAL)}
        for profile in raw["benchmark"]["profiles"]
    ]
    return {name: group}


def read(file: Path) -> dict[str, Any]:
    """Return the JSON object of a file; empty if there is no file.

    Raises:
        InputError: It is not a JSON object.
    """
    if not file.is_file():
        return {}
    try:
        found = read_json(file)
    except InputError as error:
        raise InputError(f"{file} is not JSON, so nothing can be added to it: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no JSON object, so nothing can be added to it")
    return found


def merged(
    existing: Mapping[str, Any], run: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of an existing file, updated with those of a run.

    A budget and its accuracy, and a mean accuracy and its mCE, are one: both are replaced, or
    neither. Our groups of other weights go, with the numbers that they had put there.

    Args:
        existing: What the file holds; empty for a new one.
        run: Of `measured`.
        own: Of `own_fields`, one group.
    """
    fields = dict(existing) or dict.fromkeys(FIELDS)
    ((key, group),) = own.items()
    written = _written(fields)
    stale = [
        name for name in fields if name.startswith("iaside_") and not _same(fields[name], group)
    ]
    for name in stale:
        for field, value in _written({name: fields.pop(name)}).items():
            if fields.get(field) in value:
                fields[field] = None
    foreign_values: dict[str, Any] = {}
    for unit in _units(run):
        before = {name: fields.get(name) for name in unit}
        foreign = {
            name: value
            for name, value in before.items()
            if value is not None and value not in written.get(name, ())
        }
        if all(_equal(value, run.get(name)) for name, value in foreign.items()):
            fields |= {n: run[n] for n in unit if n in run and n not in foreign}
            fields |= {n: None for n in unit if n in fields and n not in run and n not in foreign}
        else:
            foreign_values |= {n: v for n, v in before.items() if v is not None and v != run.get(n)}
    if foreign_values:
        _log.warning(
            "%s already there and not from this package, so kept; this run's are under %s",
            ", ".join(f"{name} {value!r}" for name, value in foreign_values.items()),
            key,
        )
    return {**fields, key: {**group, "written": dict(run)}}


def _written(fields: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what our groups say they wrote into each of RobustBench's fields."""
    found: dict[str, list[Any]] = {}
    for name, group in fields.items():
        if name.startswith("iaside_") and isinstance(group, Mapping):
            for field, value in dict(group.get("written") or {}).items():
                found.setdefault(field, []).append(value)
    return found


def _same(group: Any, other: Mapping[str, Any]) -> bool:
    """Return whether a group of ours is of the same weights."""
    return isinstance(group, Mapping) and group.get("weights_sha256") == other["weights_sha256"]


def _units(run: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the groups of fields that are replaced together."""
    units: list[tuple[str, ...]] = [("dataset",), ("clean_acc",)]
    if "autoattack_acc" in run:
        return [*units, ("eps", "autoattack_acc")]
    for threat_model, mce in _MCE.items():
        if _ACCURACY[threat_model] in run:
            units.append((_ACCURACY[threat_model], mce))
    return units


def _equal(before: Any, value: Any) -> bool:
    """Return whether two fields say the same: RobustBench also writes budgets as 0.0313725..."""
    if before == value:
        return True
    try:
        old, new = (parse_budget(str(text)) for text in (before, value))
    except InputError:
        return False
    return bool(np.isclose(old, new, rtol=1e-6, atol=0))


def update(file: Path, run: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Merge a run into a file, which is written whole or not at all.

    Raises:
        InputError: The file is not a JSON object, or cannot be written.
    """
    write_json(file, merged(read(file), run, own))


@cache
def robustbench_ids() -> tuple[str, ...]:
    """Return `<wnid>/<file>` of RobustBench's ImageNet images in order; empty if not installed.

    Read from the installed package, which is not imported for it.
    """
    spec = importlib.util.find_spec("robustbench")
    if spec is None or spec.origin is None:
        return ()
    file = Path(spec.origin).parent / "helper_files" / "imagenet_test_image_ids.txt"
    return tuple(file.read_text(encoding="utf-8").split()) if file.is_file() else ()
