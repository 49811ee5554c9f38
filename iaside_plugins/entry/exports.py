"""Exports of one entry: RobustBench's JSON, a model card's evaluation, BibTeX.

Numbers are the entry's own; strings are quoted for the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from iaside_plugins.budgets import format_budget
from iaside_plugins.entry.schema import Entry
from iaside_plugins.entry.yaml import to_yaml
from iaside_plugins.errors import InputError

Record = dict[str, Any]
_BIB = {letter: rf"\{letter}" for letter in "%$#&_"} | {
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    '"': r"\textquotedbl{}",
}


def export(entry: Entry, to: str) -> str:
    """Return an entry as the text of a file.

    Args:
        entry: A checked one.
        to: One of `FORMATS`.

    Raises:
        InputError: There is no such format, or the entry cannot be exported to it.
    """
    if to not in FORMATS:
        raise InputError(
            f"expected a format among {', '.join(FORMATS)}, or hf, a folder (iaside leaderboard "
            f"export ENTRY --to hf --out DIR --benchmark OWNER/NAME); got {to!r}"
        )
    return FORMATS[to](entry)


def robustbench(entry: Entry) -> str:
    """Return RobustBench's JSON of the model, in the form of its ``model_info`` files.

    Raises:
        InputError: The entry was not made through RobustBench's interface: its attacks and
            preprocessing are not RobustBench's, so none of its numbers may have those names.
    """
    from iaside_plugins.entry import robustbench_json as model_info

    benchmark = entry.benchmark
    if benchmark is None:
        raise InputError(
            f"{entry.entry_id} was not made inside RobustBench, so it has none of its numbers; "
            "evaluate the model with python -m iaside_plugins.adapters.robustbench_adapter"
        )
    run = _run(entry)
    attacks = () if entry.adversarial is None else entry.adversarial.attacks
    standard = all(attack.name == "autoattack_standard" for attack in attacks)
    mce = None if entry.corruption is None else entry.corruption.mce
    measured = model_info.measured(
        benchmark.threat_model,
        entry.data.name,
        clean=run["clean_accuracy"],
        robust=run["robust_accuracy"],
        eps=attacks[0].epsilon if attacks else None,
        mce=None if mce is None else mce.value,
        standard=standard,
    )
    own = model_info.own_fields(model_info.group_name(benchmark.threat_model, standard), run, entry)
    return json.dumps(model_info.merged({}, measured, own), indent=1, allow_nan=False) + "\n"


def _run(entry: Entry) -> Record:
    """Return what identifies and sums up the run, by the names of RobustBench's adapter."""
    facts: Record = {
        "clean_accuracy": entry.clean_accuracy.value,
        "n_images": entry.data.n_images,
        "image_ids_sha256": entry.data.image_ids_sha256,
        "weights_sha256": entry.model.weights_sha256,
        "seed": entry.data.seed,
    }
    if entry.adversarial is not None and entry.benchmark is not None:
        steps = entry.benchmark.after_attack
        first = entry.adversarial.attacks[0]
        facts |= {
            "robust_accuracy": first.accuracy.value,
            "batch_size": entry.adversarial.batch_size,
            "attack_order": [s.attack for s in steps if s.epsilon == first.epsilon][1:],
            "eps": [attack.epsilon for attack in entry.adversarial.attacks],
        }
    if entry.corruption is not None:
        names = ("source", "size", "constants", "jpeg", "seed")
        facts |= {
            "robust_accuracy": 1 - entry.corruption.unnormalised_mean_error.value,
            "corrupted_images": {name: getattr(entry.corruption, name) for name in names},
        }
    return facts


def model_card(entry: Entry) -> str:
    """Return the ``model-index`` of a Hugging Face model card, as YAML front matter.

    Proportions lie in [0, 1] as everywhere in an entry; each metric has n and its interval.
    """
    groups = [
        ("clean images", _clean(entry)),
        ("corrupted images", _corrupted(entry)),
        ("files read otherwise", _read_otherwise(entry)),
        ("attacked images", _attacked(entry)),
    ]
    results = [
        {
            "task": {"type": "image-classification", "name": "Image classification"},
            "dataset": {
                "type": entry.data.name,
                "name": f"{entry.data.name}, {what}",
                "args": {
                    "n_images": entry.data.n_images,
                    "image_ids_sha256": entry.data.image_ids_sha256,
                    "note": entry.data.note,
                },
            },
            "metrics": metrics,
        }
        for what, metrics in groups
        if metrics
    ]
    return to_yaml({"model-index": [{"name": entry.model.name, "results": results}]})


def _metric(type_: str, name: str, part: Any, **args: Any) -> Record:
    facts = {"interval": list(part.interval), "n": part.n} if hasattr(part, "interval") else {}
    return {"type": type_, "name": name, "value": part.value, "args": {**facts, **args}}


def _clean(entry: Entry) -> list[Record]:
    spectral, about = entry.spectral, {"protocol_id": entry.protocol.protocol_id}
    return [
        _metric("accuracy", "Accuracy", entry.clean_accuracy),
        *(
            {
                "type": name,
                "name": label,
                "value": getattr(spectral, name),
                "args": {
                    "interval": list(getattr(spectral, f"{name}_interval")),
                    "n": spectral.n_images,
                    **about,
                },
            }
            for name, label in (
                ("signed_score", "Signed spectral robustness score"),
                ("score", "Spectral robustness score"),
            )
        ),
    ]


def _corrupted(entry: Entry) -> list[Record]:
    corruption = entry.corruption
    if corruption is None:
        return []
    mean, about = corruption.unnormalised_mean_error, {"source": corruption.source}
    name = f"Mean corruption error (unnormalised, {mean.n_corruptions} corruptions)"
    metrics = [_metric("mean_corruption_error_unnormalised", name, mean, **about)]
    if corruption.mce is not None:
        reference = corruption.mce.reference
        metrics.append(_metric("mce", "mCE", corruption.mce, reference=reference, **about))
    return metrics


def _read_otherwise(entry: Entry) -> list[Record]:
    group = entry.systematic
    if group is None:
        return []
    worst = next(one for one in group.conditions if one.condition == group.worst)
    names = [one.condition for one in group.conditions]
    return [
        _metric(
            "mean_systematic_error",
            f"Mean error under systematic noise ({len(names)} readings of the same files)",
            group.mean_error,
            own=group.own,
            readings=names,
        ),
        _metric(
            "worst_systematic_error",
            "Error under the worst reading of the same files",
            worst.error,
            own=group.own,
            reading=group.worst,
        ),
    ]


def _attacked(entry: Entry) -> list[Record]:
    if entry.adversarial is None:
        return []
    return [
        _metric(
            "robust_accuracy",
            f"Robust accuracy, {case.norm} {format_budget(case.epsilon)}",
            case.accuracy,
            attacks=list(case.attacks),
            norm=case.norm,
            epsilon=case.epsilon,
        )
        for case in entry.adversarial.worst_case
    ]


def bibtex(entry: Entry) -> str:
    """Return a BibTeX record of the entry; the method's own is in CITATION.cff."""
    key = re.sub(r"[^A-Za-z0-9-]", "-", entry.entry_id)
    provenance = entry.provenance
    fields = {
        "title": f"{entry.model.name} on {entry.data.name}: spectral importance and robustness",
        "author": entry.submission.submitter,
        "year": provenance.date[:4],
        "note": f"Leaderboard entry {entry.entry_id} of iaside-plugins "
        f"{provenance.iaside_plugins}, {entry.submission.status}, "
        f"weights {entry.model.weights_sha256[:12]}",
    }
    lines = [f"  {name} = {{{{{_bib(text)}}}}}," for name, text in fields.items() if text]
    return "\n".join([f"@misc{{{key},", *lines, "}"]) + "\n"


def _bib(text: str) -> str:
    """Return text for a braced field, on one line.

    No brace is left: BibTeX counts those that LaTeX takes for escaped. Letters stay UTF-8.
    """
    return "".join(_BIB.get(letter, letter) for letter in " ".join(text.split()))


FORMATS: dict[str, Callable[[Entry], str]] = {
    "robustbench": robustbench,
    "model-card": model_card,
    "bibtex": bibtex,
}
