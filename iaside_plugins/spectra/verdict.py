"""What a spectrum report says in a few sentences, by rules: each clause has an interval behind it.

`python -m iaside_plugins.leaderboard.studies.spectra` uses the same rule of a power law.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iaside_plugins.display.text import row_number
from iaside_plugins.importance.evidence import Evidence

LAW = 0.95  # lower end of R² from which a falling SNR is called a power law


def follows(row: Mapping[str, Any]) -> bool:
    """Return whether SNR falls like a power law: slope's interval below 0, R² at least `LAW`."""
    return bool(
        row["slope_high"] is not None
        and row["slope_high"] < 0
        and row["r_squared_low"] is not None
        and row["r_squared_low"] >= LAW
    )


def rises(row: Mapping[str, Any]) -> bool:
    """Return whether high frequencies keep more signal than low ones: slope's interval above 0."""
    return bool(row["slope_low"] is not None and row["slope_low"] > 0)


def verdict(data: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the sentences: power laws, the model's evidence, its worst corruption, forecast.

    Args:
        data: `to_dict` of a report.
        rows: Its conditions that count, by the name that is shown.
    """
    falling = [name for name, row in rows.items() if follows(row)]
    rising = [name for name, row in rows.items() if rises(row)]
    sentences = []
    if rows:
        what = "perturbation" if len(rows) == 1 else "perturbations"
        text = (
            "signal over perturbation falls with frequency like a power law under "
            f"{len(falling)} of {len(rows)} {what}"
        )
        sentences.append(text + (f", and rises under {', '.join(rising)}" if rising else ""))
    if (found := data["importance"]) is not None:
        own = Evidence.of(found["shapley_values"], found["shapley_se"])
        sentences.append(f"the model has {own.sentence}")
        corrupted = [name for name, row in rows.items() if row["kind"] == "corruption"]
        if corrupted:
            worst = max(corrupted, key=lambda name: rows[name]["error"])
            error = row_number(rows[worst], "error", ".0%")
            sentences.append(f"it errs most under {worst}, {error}")
    if "corruptions" in data["forecast"]:
        clean = next(
            row
            for row in data["forecast"]["corruptions"]["predictors"]
            if row["predictor"] == "clean_error"
        )
        closer = clean["advantage_low"] is not None and clean["advantage_low"] > 0
        sentences.append(
            "the error forecast from clean images and spectra alone is "
            f"{'' if closer else 'not shown to be '}closer to the measured one than the clean "
            f"error ({row_number(clean, 'advantage', '+.3f')})"
        )
    return ". ".join(s[0].upper() + s[1:] for s in sentences) + "."
