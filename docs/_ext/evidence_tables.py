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
from iaside_plugins.leaderboard.studies.criteria import BESIDE, VIEWS
from iaside_plugins.leaderboard.studies.equal_accuracy import is_equal
from iaside_plugins.leaderboard.studies.page import short_name
from iaside_plugins.leaderboard.studies.verdicts import estimate_text, value_text, verdicts
from iaside_plugins.leaderboard.studies.views import KINDS, kind

HALVES = ("lower", "upper")
LESS = [("PGD 2/255", "upper"), ("noise", "upper")]  # where robust networks may lose less ...
MORE = [("weather", "lower")]  # ... and where more
FEW = 8  # names, above which their number is given


def frames() -> dict[str, pd.DataFrame]:
    """Return every table, by the name of its CSV file."""
    return {
        "outcomes": outcomes_table(),
        "adversarial-short": adversarial_short(),
        "adversarial": pd.DataFrame(adversarial_rows()),
        "equal-accuracy": equal_accuracy(),
        "views-short": views_short(),
        "views-bands": pd.DataFrame(views_rows()),
    }


def facts() -> dict[str, str]:
    """Return the answers of the pages, which follow from the committed numbers."""
    rows, evidence = study("criteria/outcomes"), study("criteria/evidence")
    return {
        "evidence_answer": "\n".join(
            f"- **{one.question}** (A yes: {one.asked}.) {one.outcome}" for one in verdicts(rows)
        ),
        "evidence_missing": _missing(evidence["missing"]),
        "evidence_rerun": _rerun(study("criteria/rerun")),
        "evidence_minutes": _minutes(evidence["seconds"]),
        "views_answer": " ".join(
            f"With {row['what'].rpartition(' and ')[2]}: {value_text(row)}, {row['verdict']}."
            for row in rows
            if row["criterion"] == "b"
        ),
        "equal_answer": _equal_answer(rows),
        "equal_counter": _counter_examples(),
        "adversarial_answer": _adversarial_answer(),
    }


def _minutes(seconds: dict[str, int]) -> str:
    """Return how many minutes the files of each part took together, of those that noted it."""
    parts: dict[str, list[int]] = {}
    for file, one in seconds.items():
        parts.setdefault(file.partition("/")[0], []).append(one)
    said = {part: f"{sum(each) / 60:.0f} ({len(each)})" for part, each in parts.items()}
    return ", ".join(f"{part} {text}" for part, text in said.items())


def _missing(missing: dict[str, list[str]]) -> str:
    """Return which networks lack which parts of the evidence; of many, how many."""
    if not missing:
        return "No network is missing."
    parts: dict[tuple[str, ...], list[str]] = {}
    for part, names in missing.items():
        parts.setdefault(tuple(names), []).append(part)
    lines = [
        f"- {', '.join(names) if len(names) < FEW else f'{len(names)} networks'}: "
        f"{'; '.join(lacking)}"
        for names, lacking in parts.items()
    ]
    return "\n".join(lines)


def _rerun(rows: list[dict[str, Any]]) -> str:
    """Return which entries were made again, when, and the greatest difference of a number."""
    names = ", ".join(short_name(row["name"]) for row in rows)
    days = sorted({date.partition("T")[0] for row in rows for date in row["dates"]})
    most = max(max(row["differences"].values()) for row in rows)
    made = f"{names}, made on {' and '.join(days)}"
    return f"{made}: the greatest difference of any number is {most:.2g}"


def _equal_answer(rows: list[dict[str, Any]]) -> str:
    """Return what is shown among networks of equal accuracy, of accuracy under PGD."""
    found = [
        row
        for row in rows
        if row["criterion"] == "a" and row["among"] == "of equal accuracy" and "PGD" in row["what"]
    ]
    parts = [
        f"{row['what'].partition(' and ')[0]} {value_text(row)} ({row['verdict']})" for row in found
    ]
    n, families = found[0]["n_networks"], found[0]["n_families"]
    return (
        f"Of {n} networks in {families} families, partial rank correlation with the accuracy left "
        f"under PGD, given clean accuracy (above 0: as expected): {'; '.join(parts)}."
    )


def _counter_examples() -> str:
    """Return the networks of equal accuracy that are robust, and yet lean low less than most."""
    nets = study("criteria/evidence")["nets"]
    some = {n: one for n, one in nets.items() if is_equal(one) and one["robust"] is not None}
    score, robust = (
        np.median([one[key] for one in some.values()]) for key in ("signed_score", "robust")
    )
    names = [
        f"{short_name(n)} ({100 * one['robust']:.0f} %{' †' if one['too_high'] else ''}, score "
        f"{one['signed_score']:+.2f})"
        for n, one in some.items()
        if one["robust"] > robust and one["signed_score"] < score
    ]
    what = "with more accuracy left than the median and a signed score below the median"
    return f"Counter-examples, {what}: {', '.join(names)}." if names else f"There is none {what}."


def _adversarial_answer() -> str:
    """Return in how many pairs the robust network does better or worse, beyond the interval."""
    pairs = study("adversarial/adversarial")["pairs"]
    same, others = (
        [pair for pair in pairs if (pair["alike"] == SAME) == wanted] for wanted in (True, False)
    )
    attack, noise, weather, clean = _counts(same)
    answer = (
        f"Of {len(same)} pairs of the same layers, the network trained for robustness loses less "
        f"to PGD at 2/255 in the upper half of the bands in {attack}, and less to noise there in "
        f"{noise}; it loses more to weather in the lower half in {weather}, and errs more on clean "
        f"images in {clean}."
    )
    if others:
        counts = ", ".join(map(str, _counts(others)))
        answer += f" Of {len(others)} other pairs these counts are {counts}."
    return f"{answer} Counted are pairs whose interval excludes 0."


def _counts(pairs: list[dict[str, Any]]) -> list[int]:
    """Return in how many pairs the first loses less to PGD and noise, more to weather, unattacked.

    Losses are those in a half of the bands, see `LESS` and `MORE`.
    """
    found = [sum(_below(p["conditions"][c][half]) for p in pairs) for c, half in LESS]
    found += [sum(_above(p["conditions"][c][half]) for p in pairs) for c, half in MORE]
    return [*found, sum(_above(pair["clean"]) for pair in pairs)]


def _below(estimate: list[float]) -> bool:
    return estimate[2] < 0


def _above(estimate: list[float]) -> bool:
    return estimate[1] > 0


def outcomes_table() -> pd.DataFrame:
    """Return what became of every criterion; errors and their differences in points."""
    return pd.DataFrame(
        [
            {
                "": row["criterion"],
                "what": row["what"],
                "networks (families)": f"{row['among']}, {row['n_networks']} ({row['n_families']})",
                "value": value_text(row),
                "p (Holm)": number(row["p"], spec=".2g"),
                "beside": _beside(row["beside"] or {}),
                "verdict": _verdict(row),
            }
            for row in study("criteria/outcomes")
        ]
    )


WORDS = {  # other numbers of a rule: their words, and whether they are shares of images
    "least_without_a_family": ("least without a family", False),
    "interval_of_new_ranks": ("interval of ranks made anew", False),
    "mean_absolute_difference": ("mean absolute difference", True),
    "rival_less_own": ("rival's error less this", True),
    "own_less_rival": ("less the rival's", False),
    "mean_cost_on_clean_images": ("cost on clean images", True),
}
COUNTS = {"n_groups": "groups", "undefined": "networks without an order"}


def _beside(found: dict[str, Any]) -> str:
    """Return the other numbers of a rule in words."""
    parts = [f"{name} {found[key]}" for key, name in COUNTS.items() if key in found]
    if found.get("reason"):
        parts.append(found["reason"])
    for key, (name, in_points) in WORDS.items():
        if isinstance(found.get(key), list):
            parts.append(f"{name} [{', '.join(number(end) for end in found[key])}]")
        elif found.get(key) is not None:
            ends = found.get("interval") if key in ("rival_less_own", "own_less_rival") else None
            parts.append(f"{name} {estimate_text(found[key], ends, in_points=in_points)}")
    return "; ".join(parts)


def marked(name: str) -> str:
    """Return a network's short name, with a dagger where PGD may leave too many images."""
    one = study("criteria/evidence")["nets"].get(name, {})
    return short_name(name) + (" †" if one.get("too_high") else "")


def adversarial_short() -> pd.DataFrame:
    """Return what each pair of networks differs by, in points, where the answer counts it."""
    rows = []
    for pair in study("adversarial/adversarial")["pairs"]:
        row = {
            "first": marked(pair["first"]),
            "second": f"{marked(pair['second'])} ({pair['alike']})",
            "clean": points(pair["clean"]),
        }
        for name, half in LESS + MORE:
            row[f"{name}, {half} half"] = points(pair["conditions"][name][half])
        rows.append(row)
    return pd.DataFrame(rows)


def adversarial_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every pair, condition and part of the bands: differences as shares."""
    for pair in study("adversarial/adversarial")["pairs"]:
        for name, one in pair["conditions"].items():
            bands = {f"band {k}": [value] for k, value in enumerate(one["bands"])}
            parts = {"all bands": one["added"], **{f"{h} half": one[h] for h in HALVES}, **bands}
            for part, estimate in parts.items():
                yield {
                    "first": pair["first"],
                    "second": pair["second"],
                    "n_images": pair["n_images"],
                    "condition": name,
                    "part": part,
                    **dict(zip(("difference", "low", "high"), estimate, strict=False)),
                }


def equal_accuracy() -> pd.DataFrame:
    """Return the networks of equal accuracy, the most robust first; rates in %."""
    evidence = study("criteria/evidence")
    names = [name for name, one in evidence["nets"].items() if is_equal(one)]
    rows = []
    for name in sorted(names, key=lambda name: -(evidence["nets"][name]["robust"] or 0)):
        one = evidence["nets"][name]
        rates = {
            "clean": one["clean"],
            "PGD 2/255": one["robust"],
            "AutoAttack 2/255": one["autoattack"],
        }
        rows.append(
            {
                "network": short_name(name),
                "training": one["training"],
                **{key: number(x and 100 * x, spec=".1f") for key, x in rates.items()},
                **({"PGD 2/255": f"{100 * one['robust']:.1f} †"} if one["too_high"] else {}),
                "signed score": number(one["signed_score"]),
                "nats above": number(one["upper_nats"]),
            }
        )
    return pd.DataFrame(rows)


def views_short() -> pd.DataFrame:
    """Return, by kind of training, how well each view ranks the bands; and over all families."""
    evidence = study("criteria/evidence")
    there = {kind(evidence["nets"][name]) for name in evidence["views"] if name in evidence["nets"]}
    rows = []
    for view in VIEWS:
        row = {"view": view}
        for training in [one for one in KINDS if one in there]:
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
        row[families] = value_text(found)
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
