"""Scores against errors and accuracies, table by table, with clean accuracy as the rival.

`statistics` is deterministic: all resampling is seeded, and numbers are rounded to six decimals,
below which the order of a sum may differ from machine to machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.statistics import estimates
from iaside_plugins.leaderboard.statistics.comparison import (
    EXPLORATORY,
    compare,
    in_words,
    residual,
    sentence,
    status,
    verdict,
)
from iaside_plugins.leaderboard.statistics.equal_accuracy import equal_accuracy
from iaside_plugins.leaderboard.statistics.variables import (
    PREDICTORS,
    Variable,
    clean_accuracy,
    corruption_errors,
    family,
    outcomes,
    predictors,
    rank_intervals,
    reliability,
)
from iaside_plugins.leaderboard.table.frame import CORRUPTION_ERROR, Table, is_missing, tables
from iaside_plugins.leaderboard.table.rows import KEYS
from iaside_plugins.stats.correlation import Array
from iaside_plugins.stats.permutation import EXACT_UP_TO, holm
from iaside_plugins.storage.files import jsonable

Record = dict[str, Any]
Samples = dict[tuple[str, ...], estimates.Sample]  # by models
DECIMALS = 6
NUMBERS = re.compile(r"\[\n([-\d.e,\s]*)\]")  # no string of JSON holds a line break
PRIMARY = ("mce", CORRUPTION_ERROR)  # without them the first attack
SCHEMA_VERSION = 1
CAUTIONS = (
    "A correlation over the models of one table says what goes with what among them; it predicts "
    "no other model, and models were not drawn at random.",
    "Scores, clean accuracies and errors are measured on the same images, which correlates their "
    "errors of measurement; clean accuracy is itself measured with error, so what is given it "
    "still holds a little of it.",
)


def statistics(entries: Iterable[Entry]) -> Record:
    """Return all that the board says of scores against outcomes, as JSON values.

    Args:
        entries: Checked entries, any number, in any order.

    Returns:
        "method" and "tables", one record a table of `frame.tables` in its order; fields
        are listed in CONTRIBUTING.md. What is not defined is None, with its reason beside it.
    """
    return table_statistics(tables(entries))


def table_statistics(parts: Sequence[Table], families: Mapping[str, str] | None = None) -> Record:
    """Return the same as `statistics`, of tables that exist already.

    Args:
        parts: The tables.
        families: Family of a model by entry_id, where another than `variables.family` holds.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "method": {
            "confidence": 0.95,
            "seed": estimates.SEED,
            "n_resamples": estimates.N_RESAMPLES,
            "exact_permutations_up_to": EXACT_UP_TO,
            "n_permutations": estimates.N_PERMUTATIONS,
            "n_permutations_kendall": estimates.N_PERMUTATIONS_KENDALL,
            "exploratory_below": EXPLORATORY,
            "cautions": list(CAUTIONS),
        },
        "tables": [_rounded(jsonable(_table(table, families or {}))) for table in parts],
    }


def to_json(found: Record) -> str:
    """Return the text of stats.json: indented, with lists of numbers on one line."""
    text = json.dumps(found, indent=1, allow_nan=False)
    return NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def table_id(table: Table) -> str:
    """Return a table's name, fit for a link; it depends only on what its rows share."""
    keys = _keys(table)
    digest = hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:8]
    named = (keys["dataset"], keys["protocol_id"], keys["benchmark"], digest)
    return "--".join(str(part) for part in named if part)


def _keys(table: Table) -> Record:
    row = table.rows[0]
    return {key: None if is_missing(row[key]) else row[key] for key in KEYS}


def _table(table: Table, given: Mapping[str, str]) -> Record:
    families = {
        entry.entry_id: given.get(entry.entry_id)
        or family(entry.model.architecture, entry.model.training)
        for entry in table.entries
    }
    clean, scores, found = clean_accuracy(table), predictors(table), outcomes(table)
    samples: Samples = {}
    errors = corruption_errors(table)
    comparisons = [_comparison(x, y, clean, families, samples) for y in found for x in scores]
    for score in scores:
        _judge([one for one in comparisons if one["predictor"] == score.id])
    members: dict[str, list[str]] = {}
    for entry_id, name in sorted(families.items()):
        members.setdefault(name, []).append(entry_id)
    measured = [*scores, clean, *found]
    return {
        "id": table_id(table),
        "keys": _keys(table),
        "n_models": len(table.entries),
        "n_families": len(members),
        "status": status(len(table.entries), estimates.MIN_MODELS),
        "primary": _primary(found),
        "families": [{"family": name, "models": ids} for name, ids in sorted(members.items())],
        "models": [
            {
                "entry_id": entry.entry_id,
                "model": entry.model.name,
                "family": families[entry.entry_id],
            }
            for entry in table.entries
        ],
        "outcomes": [_outcome(column, clean) for column in found],
        "comparisons": comparisons,
        "equal_accuracy": [equal_accuracy(scores[0], y, clean, families) for y in _plain(found)],
        "per_corruption": [_per_corruption(x, clean, errors, families, samples) for x in scores],
        "ranks": [rank_intervals(column) for column in measured if column.estimated],
        "reliability": [reliability(column) for column in measured if column.estimated],
    }


def _plain(found: Sequence[Variable]) -> list[Variable]:
    """Return the outcomes that are no share of the clean accuracy, of three models or more."""
    return [
        y
        for y in found
        if not y.id.startswith("retained_") and len(y.measured) >= estimates.MIN_MODELS
    ]


def _correct(tests: Sequence[Record]) -> None:
    """Add to estimates that stand together the p after Holm's correction, and for how many."""
    corrected = holm([one["p"] for one in tests])
    for one, p in zip(tests, corrected, strict=True):
        one |= {"p_holm": p, "n_corrected": len(corrected) - corrected.count(None)}


def _judge(comparisons: Sequence[Record]) -> None:
    """Add corrected p, verdict and sentences to the comparisons of one score with all outcomes.

    They are shown together, so each p is corrected for all of them that were tested.
    """
    for tests in (
        [one["spearman"] for one in comparisons],
        [one["clean"]["spearman"] for one in comparisons],
        [one["partial_spearman"] for one in comparisons],
        [one["partial_pearson"] for one in comparisons],
    ):
        _correct(tests)
    corrected = holm([one["partial_p"] for one in comparisons])
    n_corrected = len(corrected) - corrected.count(None)
    for one, p in zip(comparisons, corrected, strict=True):
        one |= {"partial_p_holm": p, "n_comparisons": n_corrected}
        one["verdict"] = verdict(one)
        one["in_words"] = in_words(one)
        one["sentence"] = sentence(_rounded(jsonable(one)))  # of the numbers beside it


def _primary(found: Sequence[Variable]) -> str | None:
    """Return the comparison named in advance (`PRIMARY`), of the outcome with most models."""
    first = [column for name in PRIMARY for column in found if column.id == name] or found
    best = max(first, key=lambda column: len(column.measured), default=None)
    return None if best is None else f"{next(iter(PREDICTORS))}--{best.id}"


def _outcome(column: Variable, clean: Variable) -> Record:
    """Return an outcome's values, and the residuals of a line in clean accuracy."""
    ids = list(column.measured)
    rest = residual(
        [column.measured[key].scaled for key in ids], [clean.measured[key].scaled for key in ids]
    )
    return {
        "id": column.id,
        "label": column.label,
        "better": column.better,
        "scale": column.scale,
        "points": [
            {
                "entry_id": key,
                "value": column.measured[key].value,
                "clean_accuracy": clean.measured[key].value,
                "residual": None if rest is None else rest[k],
            }
            for k, key in enumerate(ids)
        ],
        "excluded": [{"entry_id": key, "reason": why} for key, why in column.missing.items()],
    }


def _columns(
    y: Variable, families: dict[str, str], samples: Samples
) -> tuple[estimates.Sample, Callable[..., Array]]:
    """Return the models that have an outcome, and a function that gives their columns.

    One sample serves all outcomes of the same models, with its resamples.
    """
    ids = list(y.measured)

    def of(column: Variable, name: str = "value") -> Array:
        return np.array([getattr(column.measured[key], name) for key in ids], dtype=np.float64)

    members = tuple(families[key] for key in ids)
    return samples.setdefault(tuple(ids), estimates.Sample(members)), of


def _comparison(
    x: Variable, y: Variable, clean: Variable, families: dict[str, str], samples: Samples
) -> Record:
    """Return all numbers of one score against one outcome."""
    sample, of = _columns(y, families, samples)
    return {
        "id": f"{x.id}--{y.id}",
        "predictor": x.id,
        "predictor_label": x.label,
        "outcome": y.id,
        "outcome_label": y.label,
        "status": status(sample.n, estimates.MIN_MODELS),
        **compare(
            (of(x), of(y), of(clean)),
            (of(x, "scaled"), of(y, "scaled"), of(clean, "scaled")),
            sample,
        ),
    }


def _per_corruption(
    x: Variable,
    clean: Variable,
    errors: Sequence[tuple[str, Variable]],
    families: dict[str, str],
    samples: Samples,
) -> Record:
    """Return rank correlations with the error by corruption, corrected for their number."""
    rows: list[Record] = []
    for group, y in errors:
        sample, of = _columns(y, families, samples)
        rows.append(
            {
                "corruption": y.id,
                "group": group,
                "n_models": sample.n,
                "spearman": estimates.correlation("spearman", of(x), of(y), sample),
                "clean": estimates.correlation("spearman", of(clean), of(y), sample),
                "partial_spearman": estimates.partial_spearman(of(x), of(y), of(clean), sample),
            }
        )
    for name in ("spearman", "clean", "partial_spearman"):
        _correct([row[name] for row in rows])
    return {"predictor": x.id, "predictor_label": x.label, "corruptions": rows}


def _rounded(value: Any) -> Any:
    """Return JSON values with floats of `DECIMALS` decimals; -0.0 as 0.0."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value
