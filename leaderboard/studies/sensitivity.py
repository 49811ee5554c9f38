"""The page of `sensitivity/`: tables and figure from one JSON file of studies.

``python -m iaside_plugins.leaderboard.studies.sensitivity NAME=STUDY.json ...`` takes what
`iaside sensitivity --json` wrote, by name of the population, into sensitivity.json; without
arguments it builds page and figure from sensitivity.json again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.display.plots import save_figure
from iaside_plugins.display.text import markdown_table, number
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies.measured import run
from iaside_plugins.leaderboard.studies.page import fill_blocks
from iaside_plugins.leaderboard.table.formatting import markdown
from iaside_plugins.sensitivity.plots import plot_sensitivity
from iaside_plugins.sensitivity.text import (
    TITLES,
    association_rows,
    association_text,
    convention,
    effect_rows,
    level_text,
    movement_rows,
    one_at_a_time,
)
from iaside_plugins.shapley.score import BETA
from iaside_plugins.storage.files import read_json, write_atomic, write_json

FOLDER = Path(__file__).resolve().parents[1] / "sensitivity"
CHOICE = "cifar10"  # the study in which choices are crossed, and the one around the default
DEFAULT = "cifar10-8"
OUTCOMES = ("corruption error", "accuracy Linf 2/255", "retained Linf 2/255")
PLAIN = {"temperature": 1.0, "beta": BETA}  # variants with pairs of rankings
# The numbers of `sensitivity/CRITERION.md`.
GAIN, STABILITY_LOSS = 0.15, 0.1
RELIABILITY_LOSS, LEAST_RELIABILITY = 0.05, 0.8
CHANGES_CLEAN_IMAGE = ("rescale",)  # whose grand coalition is not the image itself
Row = Sequence[str]


def condense(studies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the page needs of studies, by name of the population.

    Profiles, tables of outcomes and pairs of rankings are kept for variants of the default
    temperature and beta alone, and for those that differ from the base once; scores for all.

    Raises:
        InputError: For something other than studies of `iaside sensitivity`.
    """
    out = {}
    for name, study in studies.items():
        try:
            plain = [all(v[k] == x for k, x in PLAIN.items()) for v in study["variants"]]
            places = np.flatnonzero(plain).tolist()
            names = {study["variants"][k]["name"] for k in places}
            names |= {study["variants"][k]["name"] for k, _ in one_at_a_time(study)}
            out[name] = {
                **{k: v for k, v in study.items() if k not in ("spearman", "kendall")},
                "variants": [v if v["name"] in names else _short(v) for v in study["variants"]],
                "associations": [a for a in study["associations"] if a["variant"] in names],
                "movements": [m for m in study["movements"] if m["variant"] in names],
                "ranked": [study["variants"][k]["name"] for k in places],
                **{
                    k: [[study[k][i][j] for j in places] for i in places]
                    for k in ("spearman", "kendall")
                },
            }
        except (KeyError, TypeError, IndexError, StopIteration) as error:
            raise InputError(f"{name} is not a study of iaside sensitivity: {error}") from error
    return out


def _short(variant: Mapping[str, Any]) -> dict[str, Any]:
    """Return a variant with only the signed scores of its models."""
    names = ("model", "signed_score")
    return {**variant, "models": [{key: one[key] for key in names} for one in variant["models"]]}


def tables(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the page's tables and sentences in Markdown, by name."""
    choice = data[CHOICE]
    out = {
        "verdict": _verdict_sentence(data),
        "rule": _table(_rule_rows(data)),
        "default": _table(_default_rows(data[DEFAULT])),
        "one_at_a_time": _table(_one_at_a_time_rows(choice)),
        "scores": _table(_score_rows(choice)),
        "association": _table(_association_rows(choice)),
        "folded": _table(_association_rows(choice, "score")),
        "levels": _table(_level_rows(choice)),
        "temperatures": _table(_temperature_rows(data)),
        "convention": f"{convention()}.",
    }
    for name, study in data.items():
        out[f"effects_{name}"] = _table(effect_rows(study))
        out[f"summary_{name}"] = _summary(study)
    return out


def build(folder: Path = FOLDER, studies: Mapping[str, Path] | None = None) -> None:
    """Write sensitivity.json (if there are studies), README.md and sensitivity.png of a folder."""
    if studies:
        found = {name: read_json(path) for name, path in studies.items()}
        write_json(folder / "sensitivity.json", condense(found), indent=None)
    data = read_json(folder / "sensitivity.json")
    readme = folder / "README.md"
    page = fill_blocks(readme.read_text(encoding="utf-8"), tables(data))
    write_atomic(readme, page.encode())
    save_figure(plot_sensitivity(data[CHOICE]), folder / "sensitivity.png")


def _verdict_sentence(data: Mapping[str, Any]) -> str:
    studies = data[CHOICE], data[DEFAULT]
    if found := chosen(*studies):
        named = ", ".join(f"{TITLES[v.axis]} {level_text(v.level)}" for v in found)
        return f"**Passes the rule on the kit: {named}.**"
    known = [v for v in verdicts(*studies) if v.admissible and v.association is not None]
    best = max(known, key=lambda v: v.association or 0)
    return (
        f"**The default stays** ({data[DEFAULT]['base']}): no level of any axis passes the rule. "
        f"The greatest main effect of an admissible level is {TITLES[best.axis]} "
        f"{level_text(best.level)}, {number(best.association)}, where {number(GAIN)} is "
        "asked for."
    )


def _rule_rows(data: Mapping[str, Any]) -> list[Row]:
    studies = data[CHOICE], data[DEFAULT]
    rows: list[Row] = [
        [
            "axis",
            "level",
            "pairs",
            "a: effect on A",
            "b: with any model left out",
            "c: at the default",
            "d: S",
            "R there",
            "admissible",
            "fails",
            "replaces the default",
        ]
    ]
    for e, v in zip(effects(*studies), verdicts(*studies), strict=True):
        low, high = e["association_left_out"]
        rows.append(
            [
                TITLES[e["axis"]],
                level_text(e["level"]),
                str(e["n_pairs"]),
                number(e["association"]),
                f"{number(low)} to {number(high)}",
                number(e["association_at_base"]),
                number(e["stability"]),
                number(e["reliability_there"], spec=".2f"),
                "yes" if v.admissible else "no",
                v.fails or "–",
                "yes" if v.qualifies else "no",
            ]
        )
    return rows


def _default_rows(study: Mapping[str, Any]) -> list[Row]:
    """Return association, reliability and stability of the variants around the default."""
    rows: list[Row] = [["variant", "A", "R", "S", "ranks of models beside the default's"]]
    moved = {one["variant"]: one for one in study["movements"]}
    rows += [
        [
            v["name"],
            association_text(v),
            number(v["reliability"], spec=".2f"),
            number(v["stability"], spec=".2f"),
            number(moved[v["name"]]["spearman_with_base"]),
        ]
        for v in study["variants"]
        if v["name"] in moved
    ]
    return rows


def _one_at_a_time_rows(study: Mapping[str, Any]) -> list[Row]:
    names = [study["variants"][k]["name"] for k, _ in one_at_a_time(study)]
    head, *rows = movement_rows(study)
    by_name = {row[0]: row for row in rows}
    extra = {v["name"]: v for v in study["variants"]}
    more = ["reliability R", "stability S", "outside [0, 1]"]
    return [
        [*head, *more],
        *(
            [
                *by_name[name],
                number(extra[name]["reliability"], spec=".2f"),
                number(extra[name]["stability"], spec=".2f"),
                number(extra[name]["off_range"], spec=".0%"),
            ]
            for name in names
        ),
    ]


def _score_rows(study: Mapping[str, Any]) -> list[Row]:
    variants = one_at_a_time(study)
    rows: list[Row] = [["variant", *(m["name"] for m in study["models"])]]
    for k, label in variants:
        cells = [
            number(one["signed_score"], *one["signed_score_interval"])
            for one in study["variants"][k]["models"]
        ]
        rows.append([label, *cells])
    return rows


def _association_rows(study: Mapping[str, Any], score: str = "signed_score") -> list[Row]:
    labels = {study["variants"][k]["name"]: label for k, label in one_at_a_time(study)}
    head, *rows = association_rows(study, list(labels), score, OUTCOMES)
    mean = {v["name"]: association_text(v) for v in study["variants"]}
    if score != "signed_score":
        return [head, *([labels[row[0]], *row[1:]] for row in rows)]
    return [[*head, "A"], *([labels[row[0]], *row[1:], mean[row[0]]] for row in rows)]


def _level_rows(study: Mapping[str, Any]) -> list[Row]:
    """Return mean rank correlations between rankings, by range handling and absence."""
    by_name = {v["name"]: v for v in study["variants"]}
    groups: dict[tuple[str, str], list[int]] = {}
    for k, name in enumerate(study["ranked"]):
        v = by_name[name]
        groups.setdefault((v["range_handling"], v["absence"]), []).append(k)
    rows: list[Row] = [["", *(f"{a}, {r}" for r, a in groups)]]
    for (r, a), first in groups.items():
        cells = []
        for second in groups.values():
            pairs = [study["spearman"][i][j] for i in first for j in second if i != j]
            known = [pair for pair in pairs if pair is not None]
            cells.append(number(float(np.mean(known)) if known else None))
        rows.append([f"{a}, {r}", *cells])
    return rows


def _temperature_rows(data: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = [["model", "data", "training", "clean accuracy", "fitted temperature"]]
    for name in (n for n in data if n not in (DEFAULT, "digits")):
        for model in data[name]["models"]:
            training = str(model["model"].get("training") or "unstated")
            rows.append(
                [
                    model["name"],
                    name,
                    training,
                    f"{model['clean_accuracy']:.0%}",
                    number(model["temperature"], spec=".2f"),
                ]
            )
    return rows


def _summary(study: Mapping[str, Any]) -> str:
    base = next(v for v in study["variants"] if v["name"] == study["base"])
    a = association_text(base)
    return (
        f"{len(study['models'])} models, {study['n_images']} images, {len(study['variants'])} "
        f"variants. At the base ({study['base']}): A = {a}, "
        f"R = {number(base['reliability'], spec='.2f')}, "
        f"S = {number(base['stability'], spec='.2f')}."
    )


def _table(rows: Sequence[Row]) -> str:
    """Return a Markdown table; no text of an entry can break out of its cell."""
    return markdown_table([[markdown(cell) for cell in row] for row in rows])


@dataclass(frozen=True)
class Verdict:
    """What the rule says of one level.

    Attributes:
        axis: The axis.
        level: The level that might replace the default's.
        admissible: Whether it may.
        fails: What it fails, in the criterion's letters; empty if it qualifies.
        association: Its main effect on the association; None if unknown.
    """

    axis: str
    level: Any
    admissible: bool
    fails: str
    association: float | None

    @property
    def qualifies(self) -> bool:
        """Whether it replaces the default, before the confirmation."""
        return self.admissible and not self.fails


def effects(data: Mapping[str, Any], default: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return main effects of the crossed choices, with the change at the default.

    Args:
        data: The study in which choices are crossed.
        default: The study around the default, which also has the effect of the bands; its change
            at the default replaces the crossed study's if it has the level.
    """
    near = {(e["axis"], e["level"]): e for e in default["effects"]}
    out = []
    for e in data["effects"]:
        own = near.get((e["axis"], e["level"]), e)
        out.append({**e, "association_at_base": own["association_at_base"]})
    return out + [dict(e) for e in default["effects"] if e["axis"] == "n_bands"]


def verdicts(data: Mapping[str, Any], default: Mapping[str, Any]) -> list[Verdict]:
    """Apply the rule to every level, in the order of `effects`."""
    return [_verdict(e) for e in effects(data, default)]


def chosen(data: Mapping[str, Any], default: Mapping[str, Any]) -> list[Verdict]:
    """Return the qualifying level of greatest effect of every axis that has one."""
    best: dict[str, Verdict] = {}
    for one in verdicts(data, default):
        if one.qualifies and (
            one.axis not in best or (one.association or 0) > (best[one.axis].association or 0)
        ):
            best[one.axis] = one
    return list(best.values())


def _verdict(e: Mapping[str, Any]) -> Verdict:
    admissible = (
        e["level"] not in CHANGES_CLEAN_IMAGE
        and _at_least(e["reliability"], -RELIABILITY_LOSS)
        and _at_least(e["reliability_there"], LEAST_RELIABILITY)
    )
    conditions = {
        "a": _at_least(e["association"], GAIN),
        "b": e["association_left_out"][0] is not None and e["association_left_out"][0] > 0,
        "c": _at_least(e["association_at_base"], 0),
        "d": _at_least(e["stability"], -STABILITY_LOSS),
    }
    fails = "".join(letter for letter, holds in conditions.items() if not holds)
    return Verdict(e["axis"], e["level"], admissible, fails, e["association"])


def _at_least(value: float | None, bound: float) -> bool:
    return value is not None and value >= bound


def main(arguments: list[str]) -> None:
    """Take new studies in, NAME=STUDY.json, if there are any, and build page and figure."""
    given = dict(argument.split("=", 1) for argument in arguments)
    build(FOLDER, {name: Path(path) for name, path in given.items()})


if __name__ == "__main__":
    run(main)
