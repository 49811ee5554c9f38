"""What the criteria are applied to, and their table of outcomes: `criteria/`.

``python -m iaside_plugins.leaderboard.studies.evidence FOLDER`` reads what the targets of
`leaderboard/entries.mk` wrote below a folder into evidence.json, of the networks that families.json
names; what was measured before and is not in the folder stays. Without a folder it makes the table
of outcomes, outcomes.json, from evidence.json again.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS
from iaside_plugins.decomposition.contributions import Contributions
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.display.masking import masking_reasons
from iaside_plugins.display.text import markdown_table, number
from iaside_plugins.entry.outcomes import parse_files
from iaside_plugins.entry.schema import Entry
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.leaderboard.studies.criteria import (
    BESIDE,
    CHOICES,
    FIGURES,
    LABELS,
    VERDICTS,
    outcomes,
)
from iaside_plugins.leaderboard.studies.measured import folder_of
from iaside_plugins.leaderboard.studies.spectra import filled
from iaside_plugins.shapley.score import importance_distribution, signed_score
from iaside_plugins.storage.files import (
    jsonable,
    parse_json,
    read_file,
    rounded,
    write_atomic,
    write_json,
)

BOARD = Path(__file__).resolve().parents[1]
FOLDER = BOARD / "criteria"
DIGITS = 6  # significant ones that evidence.json keeps
README = BOARD.parent / "README.md"
BLOCK = "<!-- outcomes -->"
PARTS = ("nets", "views", "choices", "filters")
QUESTIONS = {
    "a": "Do networks that read lower bands keep more accuracy under attack and err less under "
    "noise, beyond what clean accuracy says (partial rank correlations; above 0: yes)?",
    "b": "Do other views of a band agree with contributions per energy?",
    "c": "Do other bands, seeds and images say the same of the networks?",
    "d": "Do filters repair what the decomposition says they would?",
    "e": "Is the forecast from clean images nearer to errors than the clean error?",
}
NAMED = 3  # rows of one verdict, above which they are counted only
BUDGET = 2 / 255  # Linf, at which robust accuracies are compared
PER_ENERGY = "contribution per energy"
VIEWS = {  # as `iaside heatmap --views` names them
    "band-restricted attack": "attack inside the band",
    "Fourier heat map": "Fourier heat map",
    "importance": "importance",
}


def condense(
    folder: Path, families: Mapping[str, str], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the criteria need of the files below a folder, and what was known before.

    Args:
        folder: OUT of `leaderboard/entries.mk`.
        families: Family of every network that is judged, by its name.
        known: What this function returned of other folders; a file of this one goes before it.
    """
    entries = parse_files(sorted(folder.glob("cifar10/*.json")))
    attacked = {e.model.name: e for e in parse_files(sorted(folder.glob("autoattack/*.json")))}
    forecasts = {
        path.stem.partition("-")[2]: _forecast(_json(path))
        for path in folder.glob("forecast-*.json")
    }
    new = {
        "nets": {e.model.name: _net(e, families.get(e.model.name, "")) for e in entries},
        "views": {path.stem: _views(_json(path)) for path in folder.glob("views/*.json")},
        "choices": _choices(folder),
        "filters": {path.stem: _json(path) for path in folder.glob("filters/*.json")},
        "forecasts": forecasts,
        "seconds": _seconds(folder),
    }
    parts = {part: dict(sorted(found.items())) for part, found in _over(known or {}, new).items()}
    found: dict[str, Any] = {**parts, "families": dict(families)}
    for name, one in found["nets"].items():
        one["autoattack"] = _robust(attacked[name]) if name in attacked else one.get("autoattack")
    if unknown := sorted({name for part in PARTS for name in found[part]} - set(families)):
        raise InputError(f"families.json names no family of {', '.join(unknown)}")
    found["missing"] = _missing(found, found["forecasts"].get("cifar10", {}).get("names", []))
    compact: dict[str, Any] = rounded(jsonable(found), DIGITS)
    return compact


def _over(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, nested ones too; where both have a value, the new one."""
    return {**old} | {
        key: _over(old.get(key) or {}, value) if isinstance(value, Mapping) else value
        for key, value in new.items()
    }


def _missing(found: Mapping[str, Any], forecast: Sequence[str]) -> dict[str, list[str]]:
    """Return the networks that lack a part of the evidence, by the part."""
    nets, choices = found["nets"], found["choices"]
    there: dict[str, Iterable[str]] = {
        "entries": nets,
        "accuracy under PGD at 2/255": [n for n, one in nets.items() if one["robust"] is not None],
        "AutoAttack": [n for n, one in nets.items() if one["autoattack"] is not None],
        "views": found["views"],
        "filters": found["filters"],
        "forecast": forecast,
    }
    for column in ("added_upper", "signed_score"):
        for choice in ("8", *CHOICES):
            if choice != "halves" and (column, choice) != ("signed_score", "seed1"):
                there[f"{LABELS[column]}, {CHOICES.get(choice, 'the default')}"] = [
                    name for name, one in choices.items() if choice in one[column]
                ]
    return {
        part: names
        for part, known in there.items()
        if (names := sorted(set(found["families"]) - set(known)))
    }


def _seconds(folder: Path) -> dict[str, int]:
    """Return how many seconds each file took, by its path in the folder; resumed runs included."""
    path = folder / "seconds.txt"
    lines = read_file(path).decode().splitlines() if path.exists() else []
    found: dict[str, int] = {}
    for file, seconds in (line.rsplit(" ", 1) for line in lines):
        path = Path(file)
        name = path.stem if path.parent.name == folder.name else f"{path.parent.name}/{path.stem}"
        found[name] = found.get(name, 0) + int(seconds)
    return found


def _forecast(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what criterion e needs of a report of `tests/bench/bench_forecast.py`."""
    return {
        **{key: report[key] for key in ("n_nets", "n_families", "n_images")},
        "figures": {figure: report["figures"][figure] for figure in FIGURES},
        "names": [net["name"] for net in report["nets"]],
    }


def _json(path: Path) -> Any:
    return parse_json(read_file(path).decode())


def _net(entry: Entry, family: str) -> dict[str, Any]:
    """Return the columns of one network that criterion a compares."""
    if entry.corruption is None:
        raise InputError(f"{entry.entry_id}: expected an entry with corruptions")
    errors = entry.corruption.errors
    noise = [
        np.mean(list(errors[n].values())) for n, g in CORRUPTION_GROUPS.items() if g == "noise"
    ]
    psi = entry.spectral.shapley_values
    return {
        "family": family,
        "training": entry.model.training,
        "n_images": entry.clean_accuracy.n,
        "clean": entry.clean_accuracy.value,
        "signed_score": entry.spectral.signed_score,
        "upper_nats": sum(psi[len(psi) // 2 :]),
        "robust": _robust(entry),
        "too_high": _too_high(entry),
        "noise_error": float(np.mean(noise)),
    }


def _robust(entry: Entry) -> float | None:
    """Return the worst accuracy under the entry's Linf attacks at `BUDGET`."""
    worst = [] if entry.adversarial is None else entry.adversarial.worst_case
    found = [w for w in worst if w.norm == "Linf" and abs(w.epsilon - BUDGET) < 1e-9]
    return found[0].accuracy.value if found else None


def _too_high(entry: Entry) -> list[str]:
    """Return why the accuracy at `BUDGET` may be too high."""
    if entry.adversarial is None:
        return []
    group = entry.adversarial.model_dump()
    budgets = {case.epsilon for case in entry.adversarial.worst_case}
    at = [epsilon for epsilon in budgets if abs(epsilon - BUDGET) < 1e-9]
    return [reason for epsilon in at for reason in masking_reasons(group, "Linf", epsilon)]


def _views(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rank correlations over bands with contributions per energy, and all views."""
    names = [view["name"] for view in report["views"]["views"]]
    own = report["views"]["agreement"][names.index(PER_ENERGY)]
    agreement = {
        name: own[names.index(given)] if given in names else None for name, given in VIEWS.items()
    }
    bands = {view["name"]: view["value"] for view in report["views"]["views"]}
    return {**agreement, "bands": bands, "n_images": report["views"]["n_images"]}


def _choices(folder: Path) -> dict[str, Any]:
    """Return what other choices say of every network, see `criteria.other_choices`.

    Halves are of the images in the random order of the default's decomposition.

    Raises:
        InputError: If a choice was measured on other images than the default.
    """
    found: dict[str, Any] = {}
    ids: dict[str, tuple[str, ...]] = {}
    files = sorted(folder.glob("explained/*.npz"), key=lambda path: not path.stem.endswith("--8"))
    for path in [*files, *sorted(folder.glob("profiles/*.npz"))]:
        name, _, choice = path.stem.partition("--")
        one = found.setdefault(name, {"added_upper": {}, "groups": {}, "signed_score": {}})
        if path.parent.name == "profiles":
            importance = SpectralImportance.load(path)
            measured = importance.ids
            one["signed_score"] |= _scores(choice, importance, ids.get(name, measured))
        else:
            split = ErrorDecomposition.load(path)
            measured = split.ids
            for key, game in _parts(choice, split.error).items():
                one["added_upper"][key] = _upper(game, sign=0)[0]
                one["groups"][key] = {
                    group: _upper(game, sign=-1, group=group)
                    for group in dict.fromkeys(CORRUPTION_GROUPS.values())
                }
        if set(measured) != set(ids.setdefault(name, tuple(measured))):
            raise InputError(f"{path}: expected the images of {name}--8.npz, got others")
    return found


def _parts(choice: str, game: Contributions) -> dict[str, Contributions]:
    """Return the game of a choice; of the default also on both halves of its images."""
    half = game.n_images // 2
    halves = {"first": game.at(range(half)), "second": game.at(range(half, game.n_images))}
    return {choice: game, **(halves if choice == "8" else {})}


def _upper(game: Contributions, *, sign: int, group: str | None = None) -> list[float]:
    """Return what the upper half of the bands adds, plus `sign` times the lower, with interval.

    Args:
        game: Errors.
        sign: -1 for the difference of the halves, 0 for the upper half.
        group: Of corruptions; None for the mean over all.
    """
    n = game.bands.shape[2]
    mask = np.where(np.arange(n) >= n / 2, 1.0, float(sign))
    wanted = (
        None
        if group is None
        else [c for c in game.conditions if CORRUPTION_GROUPS[c.name] == group]
    )
    found = game.in_bands(mask, wanted)
    return [float(found.value), *map(float, found.interval)]


def _scores(choice: str, importance: SpectralImportance, order: Sequence[str]) -> dict[str, float]:
    """Return the signed score of a choice; of the default also those of halves of the images.

    Args:
        choice: Its name.
        importance: Of the choice.
        order: Ids of its images, whose first half is one half.
    """
    found = {choice: importance.signed_score}
    if choice == "8":
        place = {name: k for k, name in enumerate(importance.ids)}
        half = len(order) // 2
        for key, some in (("first", order[:half]), ("second", order[half:])):
            psi = importance.per_image[[place[name] for name in some]].mean(axis=0)
            shares = importance_distribution(psi)
            found[key] = float(signed_score(shares, importance.protocol.beta))
    return found


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the question of every criterion, with its verdicts: how many rows, a few by name.

    Args:
        rows: Of outcomes.json.
    """
    found = {}
    for criterion, question in QUESTIONS.items():
        judged = [r for r in rows if r["criterion"] == criterion and r["verdict"] != BESIDE]
        each = [(v, [row for row in judged if row["verdict"] == v]) for v in VERDICTS]
        found[question] = " ".join(
            f"{verdict.capitalize()} ({len(some)} of {len(judged)}){_named(some)}."
            for verdict, some in each
            if some
        )
    return found


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of one verdict with their values; of many, the range if they are alike."""
    if len(rows) > NAMED:
        alike = {(row["what"].rpartition(", ")[2], row["among"]) for row in rows}
        values = [row["value"] for row in rows]
        if len(alike) > 1 or None in values:
            return ""
        return f": {rows[0]['among']}, {min(values):+.2f} to {max(values):+.2f}"
    said = []
    for row in rows:
        what = re.split(r" \(|, given", row["what"])[0]
        among = "" if row["among"] == "all networks" else f", {row['among']}"
        said.append(what + among + ("" if row["value"] is None else f" ({value_text(row)})"))
    return ": " + "; ".join(said)


def value_text(row: Mapping[str, Any]) -> str:
    """Return the value of a row of outcomes.json with its interval; of errors, in points."""
    in_points = "absolute error" in row["what"]
    return estimate_text(row["value"], row["interval"], in_points=in_points)


def estimate_text(
    value: float | None, ends: Sequence[float] | None, *, in_points: bool = False
) -> str:
    """Return a number with its interval; of shares, in points."""
    found = [value, *(ends or (None, None))]
    if not in_points:
        return number(*found)
    scaled = [None if one is None else 100 * one for one in found]
    return number(*scaled, spec="+.1f", unit=" points")


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the `verdicts` as a Markdown table."""
    return markdown_table([["question", "outcome"], *map(list, verdicts(rows).items())])


def main(folders: Iterable[str]) -> None:
    """Take new files in, if a folder is given, and make the table of outcomes."""
    source = FOLDER / "evidence.json"
    families = json.loads((FOLDER / "families.json").read_text(encoding="utf-8"))
    for folder in folders:
        known = json.loads(source.read_text(encoding="utf-8"))
        write_json(source, condense(folder_of(folder), families, known))
    found = outcomes(json.loads(source.read_text(encoding="utf-8")))
    rows = rounded(jsonable([asdict(row) for row in found]), DIGITS)
    write_json(FOLDER / "outcomes.json", rows)
    text = README.read_text(encoding="utf-8")
    if BLOCK not in text:
        raise InputError(f"expected {BLOCK} in {README.name}, where the outcomes go")
    write_atomic(README, filled(text, {"outcomes": summary(rows)}).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
