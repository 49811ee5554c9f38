"""The JSON Schema (2020-12) of stats.json: what other tools may rely on.

Fields may be added to stats.json and none is renamed, so unknown ones are allowed.
"""

from __future__ import annotations

import json
from typing import Any

from iaside_plugins.entry.parse import DIALECT
from iaside_plugins.leaderboard.statistics.comparison import (
    NOT_SHOWN,
    NOT_TESTABLE,
    SHOWN,
    TOO_SMALL,
)
from iaside_plugins.leaderboard.table.frame import COUNTS
from iaside_plugins.leaderboard.table.rows import KEYS

Schema = dict[str, Any]


def stats_schema() -> str:
    """Return the schema as text."""
    return json.dumps(SCHEMA, indent=1) + "\n"


def _record(what: str, **fields: Schema) -> Schema:
    """Return the schema of an object that has all of the fields, and maybe more."""
    return {
        "description": what,
        "type": "object",
        "properties": fields,
        "required": list(fields),
    }


def _some(item: Schema, what: str = "") -> Schema:
    about = {"description": what} if what else {}
    return {**about, "type": "array", "items": item}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _one_of(*values: str | None) -> Schema:
    return {"enum": list(values)}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
SIGNED: Schema = {"type": "number", "minimum": -1, "maximum": 1}  # a correlation
ENDS: Schema = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
WHY = {**_or_null(TEXT), "description": "why something beside it is null"}
STATUS = _one_of(TOO_SMALL, "exploratory", "sufficient")
BETTER = _one_of("higher", "lower", None)

_ESTIMATE: dict[str, Schema] = {
    "value": _or_null(NUMBER),
    "interval": {**_or_null(ENDS), "description": "95 %, over models"},
    "family_interval": {**_or_null(ENDS), "description": "95 %, over families"},
    "p": {**_or_null(SHARE), "description": "two-sided, by permutation"},
    "reason": WHY,
}
_HOLM: dict[str, Schema] = {
    "p_holm": {**_or_null(SHARE), "description": "p after Holm's correction"},
    "n_corrected": {**COUNT, "description": "for how many estimates it is corrected"},
}
ESTIMATE = _record("An estimate over the models of a table.", **_ESTIMATE)
CORRECTED = _record("An estimate that stands beside others.", **_ESTIMATE, **_HOLM)
_THREE = {"spearman": ESTIMATE, "kendall": ESTIMATE, "pearson": ESTIMATE}

POINT = _record(
    "The outcome of one entry.",
    entry_id=TEXT,
    value=NUMBER,
    clean_accuracy=SHARE,
    residual={**_or_null(NUMBER), "description": "after a line in clean accuracy"},
)
OUTCOME = _record(
    "What scores are compared with.",
    id=TEXT,
    label=TEXT,
    better=BETTER,
    scale=_one_of("logit", "log", "raw"),
    points=_some(POINT),
    excluded=_some(_record("An entry without it, and why.", entry_id=TEXT, reason=TEXT)),
)
COMPARISON = _record(
    "One score against one outcome, and clean accuracy against the same.",
    id=TEXT,
    predictor=TEXT,
    predictor_label=TEXT,
    outcome=TEXT,
    outcome_label=TEXT,
    status=STATUS,
    n_models=COUNT,
    n_families=COUNT,
    clean_accuracy_range=ENDS,
    **{**_THREE, "spearman": CORRECTED},
    clean=_record("The rival.", **{**_THREE, "spearman": CORRECTED}),
    score_and_clean=_record("The score against the rival.", **_THREE),
    partial_spearman=CORRECTED,
    partial_pearson=CORRECTED,
    partial_p={**_or_null(SHARE), "description": "the greater p of the two partials"},
    partial_p_holm={**_or_null(SHARE), "description": "the same after Holm's correction"},
    n_comparisons={**COUNT, "description": "for how many it is corrected"},
    added=_record(
        "What the score adds to clean accuracy.",
        spearman={
            **ESTIMATE,
            "description": "|Spearman of the score| - |Spearman of clean accuracy|",
        },
        r2=_record(
            "R2 of families that the fit has not seen.",
            clean=_or_null(NUMBER),
            clean_and_score=_or_null(NUMBER),
            gain=_or_null(NUMBER),
            reason=WHY,
        ),
    ),
    left_out=_some(
        _record(
            "The same without one family.",
            family=TEXT,
            n_models=COUNT,
            spearman=_or_null(SIGNED),
            partial_spearman=_or_null(NUMBER),
        )
    ),
    verdict=_one_of(SHOWN, NOT_SHOWN, NOT_TESTABLE),
    in_words=TEXT,
    sentence=TEXT,
)
PER_CORRUPTION = _record(
    "One score against the error under each corruption.",
    predictor=TEXT,
    predictor_label=TEXT,
    corruptions=_some(
        _record(
            "One corruption, its severities together.",
            corruption=TEXT,
            group=TEXT,
            n_models=COUNT,
            spearman=CORRECTED,
            clean=CORRECTED,
            partial_spearman=CORRECTED,
        )
    ),
)
RANKS = _record(
    "The ranks that the intervals of one column leave open.",
    column=TEXT,
    label=TEXT,
    first=_one_of("lowest", "highest"),
    better=BETTER,
    models=_some(
        _record(
            "One entry.",
            entry_id=TEXT,
            value=NUMBER,
            rank=COUNT,
            low=COUNT,
            high=COUNT,
            tied={"type": "boolean"},
        )
    ),
)
RELIABILITY = _record(
    "1 - (mean squared standard error over images) / (variance over models).",
    column=TEXT,
    label=TEXT,
    n_models=COUNT,
    value={**_or_null(NUMBER), "maximum": 1},
    standard_error=_or_null(NUMBER),
    standard_deviation=_or_null(NUMBER),
    reason=WHY,
)
EQUAL_ACCURACY = _record(
    "A score against an outcome among models of nearly equal clean accuracy.",
    predictor=TEXT,
    outcome=TEXT,
    outcome_label=TEXT,
    better=BETTER,
    low={**_or_null(SHARE), "description": "least clean accuracy of these models"},
    high={**_or_null(SHARE), "description": "greatest clean accuracy"},
    models=_some(TEXT, "entry_ids, by outcome from the greatest"),
    n_pairs=COUNT,
    n_agree={**COUNT, "description": "pairs in which the greater score has the greater outcome"},
    kendall=ESTIMATE,
    in_words=TEXT,
)
TABLE = _record(
    "Entries whose numbers may be compared.",
    id=TEXT,
    keys=_record(
        "What its entries share.",
        **{key: _or_null(COUNT if key in COUNTS else TEXT) for key in KEYS},
    ),
    n_models=COUNT,
    n_families=COUNT,
    status=STATUS,
    primary={**_or_null(TEXT), "description": "id of the comparison to read first"},
    families=_some(
        _record("Models that are no independent draws.", family=TEXT, models=_some(TEXT))
    ),
    models=_some(_record("One entry.", entry_id=TEXT, model=TEXT, family=TEXT)),
    outcomes=_some(OUTCOME),
    comparisons=_some(COMPARISON),
    per_corruption=_some(PER_CORRUPTION),
    ranks=_some(RANKS),
    reliability=_some(RELIABILITY),
)
TABLE["properties"] |= {"equal_accuracy": _some(EQUAL_ACCURACY)}  # files may be older than it
SCHEMA: Schema = {
    "$schema": DIALECT,
    "title": "Statistics of a leaderboard",
    **_record(
        "Scores against outcomes, table by table, with clean accuracy as the rival.",
        schema_version={"const": 1},
        method=_record(
            "What holds for all tables.",
            confidence=SHARE,
            seed=COUNT,
            n_resamples=COUNT,
            exact_permutations_up_to=COUNT,
            n_permutations=COUNT,
            n_permutations_kendall=COUNT,
            exploratory_below=COUNT,
            cautions=_some(TEXT),
        ),
        tables=_some(TABLE),
    ),
}
