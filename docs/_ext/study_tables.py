"""Tables and answers of the studies, from their JSON files: a short table each, the rest as CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iaside_plugins.budgets import format_budget
from iaside_plugins.display.text import NOTHING, number, row_number
from iaside_plugins.leaderboard.studies import quantised, sensitivity, temperature
from iaside_plugins.leaderboard.studies import training as training_study
from iaside_plugins.leaderboard.studies.criteria import LABELS, VIEWS
from iaside_plugins.leaderboard.studies.spectra import follows
from iaside_plugins.leaderboard.studies.views import KINDS, is_equal
from iaside_plugins.sensitivity.text import TITLES, level_text

BOARD = Path(__file__).resolve().parents[2] / "leaderboard"
STANDARD, ADVERSARIAL, PHOTOGRAPHS = "c10_resnet20", "c10_resnet2b_adv", "mcunet_5fps"
NETS = {
    STANDARD: "CIFAR-10, standard training",
    ADVERSARIAL: "CIFAR-10, adversarial training",
    PHOTOGRAPHS: "ImageNet, standard training",
}


@cache
def study(name: str) -> Any:
    """Return a committed JSON file below `leaderboard/`, as ``decomposition/decomposition``."""
    return json.loads((BOARD / f"{name}.json").read_text(encoding="utf-8"))


def write(folder: Path) -> None:
    """Write `STUDY-short.csv`, which its page shows, and the long files it offers."""
    made = {
        "decomposition-short": decomposition_short(),
        "decomposition": pd.DataFrame(decomposition_rows()),
        "spectra-short": spectra_short(),
        "spectra-conditions": _spectra("conditions"),
        "spectra-bands": _spectra("bands"),
        "spectra-matches": _spectra("matches"),
        "sensitivity-short": sensitivity_short(),
        "sensitivity-variants": _sensitivity("variants"),
        "sensitivity-effects": _sensitivity("effects"),
        "attributions-short": attributions_short(),
        "attributions-agreement": _attributions("agreement"),
        "attributions-pairs": _attributions("pairs"),
        "attributions-profiles": _attributions("profiles"),
        "training-short": _frame(training_study.verdict_rows(study("training/training"))),
        "training-ends": _frame(training_study.end_rows(study("training/training"))),
        "training": pd.DataFrame(training_rows()),
        "outcomes": outcomes_table(),
        "adversarial-short": adversarial_short(),
        "adversarial-bands": pd.DataFrame(adversarial_rows()),
        "equal-accuracy": equal_accuracy(),
        "views-short": views_short(),
        "views-bands": pd.DataFrame(views_rows()),
        "quantised-short": quantised_short(),
        "quantised": pd.DataFrame(quantised_rows()),
        "temperature-short": temperature_short(),
    }
    for name, frame in made.items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def facts() -> dict[str, str]:
    """Return the numbers that the pages name in their sentences, by the name used there."""
    noise = {name: study("decomposition/decomposition")[name]["groups"]["noise"] for name in NETS}
    high = {name: 100 * sum(one["bands"][4:]) for name, one in noise.items()}
    lost = {name: 100 * (one["perturbed"] - one["clean"]) for name, one in noise.items()}
    laws = spectra_short()
    names = {name.partition("--")[0] for name in study("decomposition/decomposition")}
    return {
        "n_networks": str(len(names)),
        "standard_noise": f"{lost[STANDARD]:.1f}",
        "standard_noise_high": f"{high[STANDARD]:.1f}",
        "adversarial_noise": f"{lost[ADVERSARIAL]:.1f}",
        "laws_32": str((laws["law at 32 pixels"] == "yes").sum()),
        "laws_224": str((laws["law at 224 pixels"] == "yes").sum()),
        "verdict": sensitivity.tables(study("sensitivity/sensitivity"))["verdict"],
        **quantised.facts(study("quantised/quantised")),
        **temperature.facts(study("temperature/temperature")),
        **{f"training_{k}": v for k, v in training_study.facts(study("training/training")).items()},
    }


def _frame(rows: list[list[str]]) -> pd.DataFrame:
    """Return rows, the first of which is the head."""
    return pd.DataFrame(rows[1:], columns=rows[0])


def training_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every net and record: what was measured, and nats of every band."""
    for run in study("training/training"):
        for record in run["records"] if run["images"] != training_study.TRIED else ():
            yield {
                **{key: run[key] for key in ("images", "share", "seed")},
                "step": record["step"],
                **{name: training_study.measure(record, name) for name in training_study.MEASURES},
                **{f"nats_{i}": value for i, value in enumerate(record["nats"])},
            }


def decomposition_short() -> pd.DataFrame:
    """Return points of error lost to the lower and to the upper half of the bands, by group."""
    rows = []
    for name, training in NETS.items():
        one = study("decomposition/decomposition")[name]
        row = {"network": name, "training": training}
        for group, split in one["groups"].items():
            low, high = 100 * np.array(split["bands"]).reshape(2, -1).sum(axis=1)
            row[f"{group}: low + high"] = f"{low:.1f} + {high:.1f}"
        rows.append(row)
    return pd.DataFrame(rows)


def decomposition_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every network, condition and band: shares of images, with intervals."""
    for name, one in study("decomposition/decomposition").items():
        splits = {"mean of 15": one["mean"], **one["groups"], **one["corruptions"]}
        splits |= {f"{a['name']} {format_budget(a['level'])}": a for a in one["attacks"]}
        for condition, split in splits.items():
            bands = zip(split["bands"], split["interval"], strict=True)
            for band, (value, (low, high)) in enumerate(bands):
                yield {
                    "network": name,
                    "n_images": one["n_images"],
                    "condition": condition,
                    "clean_error": split["clean"],
                    "band": band,
                    "contribution": value,
                    "low": low,
                    "high": high,
                    "error": split["perturbed"],
                }


def spectra_short() -> pd.DataFrame:
    """Return slope and verdict of every corruption, on small images and on photographs."""
    data = study("spectra/spectra")
    frame: dict[str, list[str]] = {"corruption": []}
    for size, name in (("32 pixels", STANDARD), ("224 pixels", "images-8")):
        rows = [row for row in data[name]["conditions"] if row["kind"] == "corruption"]
        frame["corruption"] = [row["title"] for row in rows]
        frame[f"slope at {size}"] = [row_number(row, "slope", "+.2f") for row in rows]
        frame[f"law at {size}"] = ["yes" if follows(row) else "no" for row in rows]
    return pd.DataFrame(frame)


def sensitivity_short() -> pd.DataFrame:
    """Return what every choice does to the association and to the ranking of the models."""
    data = study("sensitivity/sensitivity")
    found = sensitivity.effects(data[sensitivity.CHOICE], data[sensitivity.DEFAULT])
    return pd.DataFrame(
        [
            {
                "choice": TITLES[effect["axis"]],
                "in place of the default": level_text(effect["level"]),
                "association": number(effect["association"]),
                "same ranking of models": number(effect["ranking"]),
            }
            for effect in found
        ]
    )


def attributions_short() -> pd.DataFrame:
    """Return how well each method ranks the bands as I-ASIDE does, on three networks."""
    columns = {}
    for name, training in NETS.items():
        data = study(f"attributions/{name}")
        titles = {row["method"]: row["title"] for row in data["agreement"]}
        columns[f"{name} ({training})"] = {
            titles[row["second"]]: row_number(row, "rank_correlation", "+.2f")
            for row in data["pairs"]
            if row["first"] == "iaside"
        }
    return pd.DataFrame(columns).rename_axis("method").reset_index()


def outcomes_table() -> pd.DataFrame:
    """Return what became of every criterion; errors and their differences in points."""
    in_points = "absolute error"
    return pd.DataFrame(
        [
            {
                "criterion": row["criterion"],
                "what": row["what"],
                "among": row["among"],
                "networks (families)": f"{row['n_networks']} ({row['n_families']})",
                "value": _value(row["value"], row["interval"], points=in_points in row["what"]),
                "p (Holm)": number(row["p"], spec=".2g"),
                "beside": _beside(row["beside"] or {}),
                "verdict": row["verdict"],
            }
            for row in study("criteria/outcomes")
        ]
    )


def _value(value: float | None, ends: list[float] | None, *, points: bool = False) -> str:
    """Return a number with its interval; of shares, in points."""
    found = [value, *(ends or (None, None))]
    if points:
        scaled = [None if one is None else 100 * one for one in found]
        return number(*scaled, spec="+.1f", unit=" points")
    return number(*found)


BESIDE = {  # other numbers of a rule: their words, and whether they are shares of images
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
    for key, (name, points) in BESIDE.items():
        if found.get(key) is not None:
            ends = found.get("interval") if key in ("rival_less_own", "own_less_rival") else None
            parts.append(f"{name} {_value(found[key], ends, points=points)}")
    return "; ".join(parts)


def adversarial_short() -> pd.DataFrame:
    """Return what each pair of networks differs by, in points, in the halves of the bands."""
    rows = []
    for pair in study("adversarial/adversarial")["pairs"]:
        row = {
            "first - second": f"{pair['first']} - {pair['second']} ({pair['alike']})",
            "clean": _points(pair["clean"]),
        }
        for name, one in pair["conditions"].items():
            low, high = (100 * one[half][0] for half in ("lower", "upper"))
            row[f"{name}: all (low + high)"] = f"{_points(one['added'])} ({low:+.1f} {high:+.1f})"
        rows.append(row)
    return pd.DataFrame(rows)


def _points(estimate: list[float]) -> str:
    value, low, high = (100 * x for x in estimate)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


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
        for kind in KINDS:
            values = [
                one[view]
                for name, one in evidence["views"].items()
                if one[view] is not None and evidence["nets"][name]["training"].startswith(kind)
            ]
            mean = float(np.mean(values)) if values else None
            row[f"{kind} ({len(values)})"] = number(mean)
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


def quantised_short() -> pd.DataFrame:
    """Return by network what 8 bits change, in points, on clean images and under corruptions."""
    rows = []
    for name, one in study("quantised/quantised").items():
        own, change = one["float"]["mean"], one["difference"]["8"]["mean"]
        clean, added = (f"{100 * own[part][0]:.1f}" for part in ("clean", "added"))
        low, high = (100 * change[half][0] for half in ("lower", "upper"))
        read = one.get("systematic")
        rows.append(
            {
                "network (images)": f"{name} ({one['n_images']})",
                "float: clean + added": f"{clean} + {added}",
                "clean error": _points(change["clean"]),
                "error under corruptions": _points(change["perturbed"]),
                "added (low + high)": f"{_points(change['added'])} ({low:+.1f} {high:+.1f})",
                "added by other readings": NOTHING
                if read is None
                else _points(read["difference"]["8"]["added"]),
            }
        )
    return pd.DataFrame(rows)


def quantised_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for every network, bits, group of corruptions and part: shares of images."""
    for name, one in study("quantised/quantised").items():
        for bits, groups in one["difference"].items():
            for group, split in groups.items():
                bands = {f"band {k}": ends for k, ends in enumerate(split["bands"])}
                parts = {key: ends for key, ends in split.items() if key != "bands"}
                for part, (value, low, high) in (parts | bands).items():
                    yield {
                        "network": name,
                        "n_images": one["n_images"],
                        "bits": bits,
                        "condition": "mean of 15" if group == "mean" else group,
                        "part": part,
                        "difference": value,
                        "low": low,
                        "high": high,
                    }


def temperature_short() -> pd.DataFrame:
    """Return by network score and accuracy under attack at temperature 1 and at others."""
    rows = []
    for name, one in study("temperature/temperature").items():
        attack = one["attack"]
        starts = attack.get("n_left_starts")
        held = f"{attack['n_robust']} to {attack['n_left']}"
        beside = "" if starts is None else f" (after as many starts {starts})"
        rows.append(
            {
                "network": name,
                "fitted temperature": f"{one['fitted']:.2f}",
                "score at 1": number(*one["score"]["1"]),
                "at the fitted": number(*one["score"]["fitted"]),
                f"hold of {attack['n_images']}": f"{held}{beside}",
                "illusion": temperature.verdict(one),
            }
        )
    return pd.DataFrame(rows)


def _spectra(part: str) -> pd.DataFrame:
    """Return one list of every report as rows, with the name of the report."""
    data = study("spectra/spectra")
    return pd.DataFrame(
        [{"report": name, **row} for name, one in data.items() for row in one[part]]
    )


def _sensitivity(part: str) -> pd.DataFrame:
    data = study("sensitivity/sensitivity")
    rows = [{"population": name, **row} for name, one in data.items() for row in one[part]]
    return pd.json_normalize(rows)


def _attributions(part: str) -> pd.DataFrame:
    return pd.DataFrame(
        [{"network": name, **row} for name in NETS for row in study(f"attributions/{name}")[part]]
    )
