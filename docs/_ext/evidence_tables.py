"""Tables and answers of the pages on what holds, from the committed evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from committed import points, study

from iaside_plugins.display.text import number
from iaside_plugins.leaderboard.statistics.comparison import EXPLORATORY
from iaside_plugins.leaderboard.studies.adversarial import SAME
from iaside_plugins.leaderboard.studies.criteria import BESIDE, LABELS, VIEWS
from iaside_plugins.leaderboard.studies.equal_accuracy import is_equal
from iaside_plugins.leaderboard.studies.evidence import verdicts
from iaside_plugins.leaderboard.studies.views import KINDS, kind

FEW = 8  # names, above which their number is told


def frames() -> dict[str, pd.DataFrame]:
    """Return every table, by the name of its CSV file."""
    return {
        "outcomes": outcomes_table(),
        "adversarial-short": adversarial_short(),
        "adversarial-bands": pd.DataFrame(adversarial_rows()),
        "equal-accuracy": equal_accuracy(),
        "views-short": views_short(),
        "views-bands": pd.DataFrame(views_rows()),
    }


def facts() -> dict[str, str]:
    """Return the answers of the pages, which follow from the committed numbers."""
    rows, evidence = study("criteria/outcomes"), study("criteria/evidence")
    return {
        "evidence_answer": " ".join(
            f"{question} {answer}." for question, answer in verdicts(rows).items()
        ),
        "evidence_missing": _missing(evidence["missing"], len(evidence["families"])),
        "evidence_minutes": ", ".join(
            f"{part} {seconds / 60:.0f}" for part, seconds in evidence["seconds"].items()
        ),
        "views_answer": " ".join(
            f"With {row['what'].rpartition(' and ')[2]}: {_value(row['value'], row['interval'])}, "
            f"{row['verdict']}."
            for row in rows
            if row["criterion"] == "b"
        ),
        "equal_answer": _equal_answer(rows),
        "equal_counter": _counter_examples(),
        "adversarial_answer": _adversarial_answer(),
    }


def _missing(missing: dict[str, list[str]], n_networks: int) -> str:
    """Return which networks lack which parts of the evidence; of many, how many."""
    if not missing:
        return "No network is missing."
    parts: dict[tuple[str, ...], list[str]] = {}
    for part, names in missing.items():
        parts.setdefault(tuple(names), []).append(part)
    lines = [
        f"- {', '.join(names) if len(names) < FEW else f'{len(names)} of {n_networks}'}: "
        f"{'; '.join(lacking)}"
        for names, lacking in parts.items()
    ]
    return "\n".join(lines)


def _equal_answer(rows: list[dict[str, Any]]) -> str:
    """Return what is shown among networks of equal accuracy, of accuracy under PGD."""
    found = [
        row
        for row in rows
        if row["criterion"] == "a" and row["among"] == "of equal accuracy" and "PGD" in row["what"]
    ]
    parts = [
        f"{row['what'].partition(' and ')[0]} {_value(row['value'], row['interval'])}, "
        f"{row['verdict']}"
        for row in found
    ]
    n, families = found[0]["n_networks"], found[0]["n_families"]
    return (
        "Partial rank correlation with the accuracy that is left, given clean accuracy, signs as "
        f"expected: {'; '.join(parts)} ({n} networks in {families} families)."
    )


def _counter_examples() -> str:
    """Return the networks of equal accuracy that are robust, and yet lean low less than most."""
    nets = study("criteria/evidence")["nets"]
    some = {n: one for n, one in nets.items() if is_equal(one) and one["robust"] is not None}
    score, robust = (
        np.median([one[key] for one in some.values()]) for key in ("signed_score", "robust")
    )
    names = [
        f"{n} ({100 * one['robust']:.0f} %, score {one['signed_score']:+.2f})"
        for n, one in some.items()
        if one["robust"] > robust and one["signed_score"] < score
    ]
    what = "with more accuracy left than their median and a signed score below theirs"
    return f"Counter-examples, {what}: {', '.join(names)}." if names else f"There is none {what}."


def _adversarial_answer() -> str:
    """Return how many pairs differ where, of those of the same layers and of the others."""
    pairs = study("adversarial/adversarial")["pairs"]
    same = [pair for pair in pairs if pair["alike"] == SAME]
    others = [pair for pair in pairs if pair["alike"] != SAME]
    parts = [_counted(some, what) for some, what in ((same, SAME), (others, "others")) if some]
    return " ".join(parts) + " Counted is where the interval leaves 0 out."


def _counted(pairs: list[dict[str, Any]], what: str) -> str:
    attacked, noise, weather = (
        [pair["conditions"][name][half] for pair in pairs]
        for name, half in (("PGD 2/255", "upper"), ("noise", "upper"), ("weather", "lower"))
    )
    clean = [pair["clean"] for pair in pairs]
    return (
        f"Of {len(pairs)} pairs ({what}), PGD at 2/255 costs less in the upper half of the bands "
        f"in {sum(map(_below, attacked))}, noise costs less there in {sum(map(_below, noise))}; "
        f"weather costs more in the lower half in {sum(map(_above, weather))}, and the clean error "
        f"is greater in {sum(map(_above, clean))}."
    )


def _below(estimate: list[float]) -> bool:
    return estimate[2] < 0


def _above(estimate: list[float]) -> bool:
    return estimate[1] > 0


def outcomes_table() -> pd.DataFrame:
    """Return what became of every criterion; errors and their differences in points."""
    of_errors = "absolute error"
    return pd.DataFrame(
        [
            {
                "": row["criterion"],
                "what": row["what"],
                "networks (families)": f"{row['among']}, {row['n_networks']} ({row['n_families']})",
                "value": _value(row["value"], row["interval"], in_points=of_errors in row["what"]),
                "p (Holm)": number(row["p"], spec=".2g"),
                "beside": _beside(row["beside"] or {}),
                "verdict": _verdict(row),
            }
            for row in study("criteria/outcomes")
        ]
    )


def _value(value: float | None, ends: list[float] | None, *, in_points: bool = False) -> str:
    """Return a number with its interval; of shares, in points."""
    found = [value, *(ends or (None, None))]
    if in_points:
        scaled = [None if one is None else 100 * one for one in found]
        return number(*scaled, spec="+.1f", unit=" points")
    return number(*found)


WORDS = {  # other numbers of a rule: their words, and whether they are shares of images
    "least_without_a_family": ("least without a family", False),
    "mean_absolute_difference": ("mean absolute difference", True),
    "rival_less_own": ("rival's error less this", True),
    "own_less_rival": ("less the rival's", False),
    "mean_cost_on_clean_images": ("cost on clean images", True),
}
COUNTS = {"n_groups": "groups", "undefined": "networks without an order"}


def _beside(found: dict[str, Any]) -> str:
    """Return the other numbers of a rule in words."""
    parts = [f"{name} {found[key]}" for key, name in COUNTS.items() if key in found]
    for key, (name, in_points) in WORDS.items():
        if found.get(key) is not None:
            ends = found.get("interval") if key in ("rival_less_own", "own_less_rival") else None
            parts.append(f"{name} {_value(found[key], ends, in_points=in_points)}")
    return "; ".join(parts)


def adversarial_short() -> pd.DataFrame:
    """Return what each pair of networks differs by, in points, in the halves of the bands."""
    rows = []
    for pair in study("adversarial/adversarial")["pairs"]:
        row = {
            "first - second": f"{pair['first']} - {pair['second']} ({pair['alike']})",
            "clean": points(pair["clean"]),
        }
        for name, one in pair["conditions"].items():
            low, high = (100 * one[half][0] for half in ("lower", "upper"))
            row[f"{name}: all (low + high)"] = f"{points(one['added'])} ({low:+.1f} {high:+.1f})"
        rows.append(row)
    return pd.DataFrame(rows)


def adversarial_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every pair, condition and band: differences as shares of images."""
    for pair in study("adversarial/adversarial")["pairs"]:
        for name, one in pair["conditions"].items():
            for band, value in enumerate(one["bands"]):
                yield {
                    "first": pair["first"],
                    "second": pair["second"],
                    "n_images": pair["n_images"],
                    "condition": name,
                    "band": band,
                    "difference": value,
                }


def equal_accuracy() -> pd.DataFrame:
    """Return the networks of equal accuracy, the most robust first."""
    evidence = study("criteria/evidence")
    names = [name for name, one in evidence["nets"].items() if is_equal(one)]
    rows = []
    for name in sorted(names, key=lambda name: -evidence["nets"][name]["robust"]):
        one = evidence["nets"][name]
        rows.append(
            {
                "network": name,
                "training": one["training"],
                "clean accuracy, %": number(100 * one["clean"], spec=".1f"),
                **{
                    f"{LABELS[key]}, %": number(one[key] and 100 * one[key], spec=".1f")
                    for key in ("robust", "autoattack", "noise_error")
                },
                "signed score": number(one["signed_score"]),
                "nats in the upper half": number(one["upper_nats"]),
            }
        )
    return pd.DataFrame(rows)


def views_short() -> pd.DataFrame:
    """Return, by kind of training, how well each view ranks the bands; and over all families."""
    evidence = study("criteria/evidence")
    rows = []
    for view in VIEWS:
        row = {"view": view}
        for training in KINDS:
            values = [
                one[view]
                for name, one in evidence["views"].items()
                if one[view] is not None
                and name in evidence["nets"]
                and kind(evidence["nets"][name]) == training
            ]
            mean = float(np.mean(values)) if values else None
            row[f"{training} ({len(values)})"] = number(mean)
        found = next(
            one
            for one in study("criteria/outcomes")
            if one["criterion"] == "b" and one["what"].endswith(view)
        )
        families = f"mean over {found['n_families']} families"
        row[families] = _value(found["value"], found["interval"])
        rows.append(row)
    return pd.DataFrame(rows)


def views_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every network, view and band."""
    for name, one in study("criteria/evidence")["views"].items():
        for view, values in one["bands"].items():
            for band, value in enumerate(values):
                yield {"network": name, "view": view, "band": band, "value": value}


def _verdict(row: dict[str, Any]) -> str:
    few = row["verdict"] != BESIDE and row["n_networks"] < EXPLORATORY
    return f"{row['verdict']}, exploratory" if few else row["verdict"]
