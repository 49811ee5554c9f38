"""RobustBench's JSON of one model: its fields as it writes them, and ours beside them.

Percents are text, rounded to two decimals as RobustBench rounds them. What is ours is under keys
that start with ``iaside_``, which RobustBench keeps when it updates the file. A number that stands
in the file already is replaced only if it is what this package wrote there before: figures that
others published, and everything written by hand, stay.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iaside_plugins.errors import InputError
from iaside_plugins.report import epsilon
from iaside_plugins.store import write_json

FIELDS = (
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue",
    "architecture", "eps", "clean_acc", "reported", "corruptions_acc", "corruptions_acc_3d",
    "corruptions_mce", "corruptions_mce_3d", "autoattack_acc", "footnote",
)  # fmt: skip
_ACCURACY = {"Linf": "autoattack_acc", "L2": "autoattack_acc", "corruptions": "corruptions_acc",
             "corruptions_3d": "corruptions_acc_3d"}  # fmt: skip
_MCE = {"corruptions": "corruptions_mce", "corruptions_3d": "corruptions_mce_3d"}
_log = logging.getLogger(__name__)


def percent(share: float) -> str:
    """A share as RobustBench writes it: in percent, at most two decimals, as text."""
    return str(round(share * 100, 2))


def measured(
    threat_model: str,
    dataset: str,
    *,
    clean: float,
    robust: float,
    eps: float | None,
    mce: float | None,
) -> dict[str, Any]:
    """RobustBench's fields that a run measures; shares in [0, 1].

    Args:
        threat_model: One of RobustBench's.
        dataset: One of RobustBench's.
        clean: Clean accuracy.
        robust: Robust accuracy.
        eps: Budget; None for corruptions.
        mce: mCE with the reference model on the same images; None without one, whereupon the
            field is left out: another number must not stand there.
    """
    found: dict[str, Any] = {
        "dataset": dataset,
        "eps": None if eps is None else epsilon(eps),
        "clean_acc": percent(clean),
        _ACCURACY[threat_model]: percent(robust),
    }
    if mce is not None:
        found[_MCE[threat_model]] = percent(mce)
    return found


def own_fields(threat_model: str, entry: Mapping[str, Any] | None, clean: float, robust: float,
               n_images: int) -> dict[str, Any]:  # fmt: skip
    """Our fields: raw numbers, with n, intervals and provenance where there is an entry."""
    run: dict[str, Any] = {"clean_accuracy": clean, "robust_accuracy": robust, "n_images": n_images}
    if entry is None:
        return {f"iaside_{threat_model}": run}
    corruption, adversarial = entry["corruption"], entry["adversarial"]
    run |= {
        "clean_accuracy_interval": entry["clean_accuracy"]["interval"],
        "image_ids_sha256": entry["data"]["image_ids_sha256"],
        "seed": entry["data"]["seed"],
        "weights_sha256": entry["model"]["weights_sha256"],
        "benchmark": {k: v for k, v in entry["benchmark"].items() if k != "profiles"},
        "provenance": entry["provenance"],
    }
    if adversarial is not None:
        run["attacks"] = adversarial["attacks"]
    if corruption is not None:
        run["unnormalised_mean_error"] = corruption["unnormalised_mean_error"]
        for key in ("mce", "error_over_published"):
            claim = corruption[key]
            run[key] = claim and {k: claim[k] for k in ("value", "reference")}
    names = ("n_images", "shapley_values", "shapley_se", "distribution", "distribution_interval",
             "score", "score_interval", "signed_score", "signed_score_interval", "band_edges",
             "image_size")  # fmt: skip
    run["profiles"] = [
        {"condition": profile["condition"], **{name: profile[name] for name in names}}
        for profile in entry["benchmark"]["profiles"]
    ]
    return {
        "iaside_protocol": entry["protocol"],
        "iaside_spectral": {name: entry["spectral"][name] for name in names},
        f"iaside_{threat_model}": run,
    }


def read(file: Path) -> dict[str, Any]:
    """What a file holds; nothing if there is none.

    Raises:
        InputError: It is not a JSON object.
    """
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not JSON, so nothing can be added to it: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} holds no JSON object, so nothing can be added to it")
    return found


def merged(
    existing: Mapping[str, Any], run: Mapping[str, Any], own: Mapping[str, Any], threat_model: str
) -> dict[str, Any]:
    """An existing file's fields with those of a run.

    Args:
        existing: What the file holds; empty for a new one.
        run: Of `measured`.
        own: Of `own_fields`.
        threat_model: Of the run.
    """
    fields = {**dict.fromkeys(FIELDS), **existing} if not existing else dict(existing)
    key = f"iaside_{threat_model}"
    written = (existing.get(key) or {}).get("written", {})
    kept = {}
    for name, value in run.items():
        before = fields.get(name)
        mine = name in written and before == written[name]
        if before is None or before == value or mine:
            fields[name] = value
        elif value is not None:
            kept[name] = before
    if kept:
        _log.warning(
            "%s already there and not from this package, so kept; this run's are under %s",
            ", ".join(f"{name} {value!r}" for name, value in kept.items()), key,
        )  # fmt: skip
    return {**fields, **own, key: {**own[key], "written": dict(run)}}


def update(file: Path, run: Mapping[str, Any], own: Mapping[str, Any], threat_model: str) -> None:
    """Merge a run into a file, which is written whole or not at all.

    Raises:
        InputError: The file is not a JSON object, or cannot be written.
    """
    write_json(file, merged(read(file), run, own, threat_model))
