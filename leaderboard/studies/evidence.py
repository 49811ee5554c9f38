"""What the criteria are applied to, and their table of outcomes: `criteria/`.

``python -m iaside_plugins.leaderboard.studies.evidence FOLDER`` reads what the targets of
`leaderboard/entries.mk` wrote below a folder into evidence.json; without one it makes the table of
outcomes, outcomes.json, from evidence.json again.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS
from iaside_plugins.decomposition.contributions import Contributions, sum_over
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.display.text import markdown_table
from iaside_plugins.entry.outcomes import parse_files
from iaside_plugins.entry.schema import Entry
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.leaderboard.settings import BoardSettings
from iaside_plugins.leaderboard.studies.criteria import BESIDE, outcomes
from iaside_plugins.leaderboard.studies.spectra import filled
from iaside_plugins.shapley.score import importance_distribution, signed_score
from iaside_plugins.stats.correlation import rank_correlation
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
CIFAR = re.compile(r"^c10_|_cifar10$")  # names of networks of CIFAR-10
QUESTIONS = {
    "a": "Does a score go with robustness beyond what clean accuracy says?",
    "b": "Do other views of a band agree with contributions per energy?",
    "c": "Do other bands, seeds and images say the same of the networks?",
    "d": "Do filters repair what the decomposition says they would?",
    "e": "Is the forecast from clean images nearer to errors than the clean error?",
}
BUDGET = 2 / 255  # Linf, at which robust accuracies are compared
PER_ENERGY = "contribution per energy"
VIEWS = {  # as `iaside heatmap --views` names them
    "band-restricted attack": "attack inside the band",
    "Fourier heat map": "Fourier heat map",
    "importance": "importance",
}


def condense(folder: Path, families: Mapping[str, str]) -> dict[str, Any]:
    """Return what the criteria need of the files below a folder.

    Args:
        folder: OUT of `leaderboard/entries.mk`.
        families: Family of a network by its name.
    """
    entries = parse_files(sorted(folder.glob("cifar10/*.json")))
    attacked = {e.model.name: e for e in parse_files(sorted(folder.glob("autoattack/*.json")))}
    forecasts = {}
    for name in ("cifar10", "photos"):
        path = folder / f"forecast-{name}.json"
        forecasts[name] = _json(path) if path.exists() else {"nets": []}
    found: dict[str, Any] = {
        "families": dict(families),
        "nets": {
            e.model.name: _net(e, attacked.get(e.model.name), families[e.model.name])
            for e in sorted(entries, key=lambda e: e.model.name)
        },
        "views": {path.stem: _views(_json(path)) for path in sorted(folder.glob("views/*.json"))},
        "choices": _choices(folder),
        "filters": {path.stem: _json(path) for path in sorted(folder.glob("filters/*.json"))},
        "forecasts": {
            name: [
                {key: row[key] for key in ("name", "family", "clean", "measured", "forecast")}
                for row in one["nets"]
            ]
            for name, one in forecasts.items()
        },
    }
    missing = {
        part: sorted(set(families) - set(found[part])) for part in ("views", "choices", "filters")
    }
    missing["autoattack"] = sorted(set(families) - set(attacked))
    missing["entries"] = sorted(set(families) - set(found["nets"]))
    compact: dict[str, Any] = rounded(jsonable({**found, "missing": missing}), DIGITS)
    return compact


def _json(path: Path) -> Any:
    return parse_json(read_file(path).decode())


def _net(entry: Entry, attacked: Entry | None, family: str) -> dict[str, Any]:
    """Return the columns of one network that criterion a compares."""
    if entry.corruption is None:
        raise ValueError(f"{entry.entry_id} has no corruptions")
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
        "autoattack": None if attacked is None else _robust(attacked),
        "noise_error": float(np.mean(noise)),
    }


def _robust(entry: Entry) -> float | None:
    """Return the worst accuracy under the entry's Linf attacks at `BUDGET`."""
    worst = [] if entry.adversarial is None else entry.adversarial.worst_case
    found = [w for w in worst if w.norm == "Linf" and abs(w.epsilon - BUDGET) < 1e-9]
    return found[0].accuracy.value if found else None


def _views(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rank correlations over bands with contributions per energy, and all views."""
    bands = {view["name"]: view["value"] for view in report["views"]["views"]}
    own = bands[PER_ENERGY]
    agreement = {
        name: float(rank_correlation(own, bands[given])) if given in bands else float("nan")
        for name, given in VIEWS.items()
    }
    return {**agreement, "bands": bands, "n_images": report["views"]["n_images"]}


def _choices(folder: Path) -> dict[str, Any]:
    """Return what other choices say of every network, see `criteria.other_choices`."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("explained/*.npz")):
        name, _, choice = path.stem.partition("--")
        one = found.setdefault(name, {"added_upper": {}, "groups": {}, "signed_score": {}})
        game = ErrorDecomposition.load(path).error
        parts = {choice: game}
        if choice == "8":
            half = game.n_images // 2
            parts |= {
                "first": game.at(range(half)),
                "second": game.at(range(half, game.n_images)),
            }
        for key, part in parts.items():
            one["added_upper"][key] = _upper(part, sign=0)[0]
            one["groups"][key] = {
                group: _upper(part, sign=-1, group=group)
                for group in dict.fromkeys(CORRUPTION_GROUPS.values())
            }
    for path in sorted(folder.glob("profiles/*.npz")):
        name, _, choice = path.stem.partition("--")
        if name in found:
            found[name]["signed_score"] |= _scores(choice, SpectralImportance.load(path))
    return found


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
    found = sum_over((game.bands @ mask)[:, :, None], game.weights(wanted))
    return [float(found.value[0]), *map(float, found.interval[0])]


def _scores(choice: str, importance: SpectralImportance) -> dict[str, float]:
    """Return the signed score of a choice; of the default also those of halves of the images."""
    found = {choice: importance.signed_score}
    if choice == "8":
        half = importance.n_images // 2
        for key, rows in (("first", slice(half)), ("second", slice(half, None))):
            psi = importance.per_image[rows].mean(axis=0)
            shares = importance_distribution(psi)
            found[key] = float(signed_score(shares, importance.protocol.beta))
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: of every criterion its question and how many rows had which verdict.

    Args:
        rows: Of outcomes.json.
    """
    lines = [["question", "outcome"]]
    for criterion, question in QUESTIONS.items():
        found = Counter(r["verdict"] for r in rows if r["criterion"] == criterion)
        judged = {verdict: n for verdict, n in found.items() if verdict != BESIDE}
        of = f" of {sum(judged.values())}"
        parts = [
            f"{n}{of if not k else ''} {verdict}" for k, (verdict, n) in enumerate(judged.items())
        ]
        lines.append([question, ", ".join(parts)])
    return markdown_table(lines)


def main(folders: Iterable[str]) -> None:
    """Take new files in, if a folder is given, and make the table of outcomes."""
    source = FOLDER / "evidence.json"
    known = BoardSettings.read(BOARD).families
    families = {name: one for name, one in known.items() if CIFAR.search(name)}
    for folder in folders:
        write_json(source, condense(Path(folder), families))
    found = outcomes(json.loads(source.read_text(encoding="utf-8")))
    rows = rounded(jsonable([asdict(row) for row in found]), DIGITS)
    write_json(FOLDER / "outcomes.json", rows)
    text = README.read_text(encoding="utf-8")
    write_atomic(README, filled(text, {"outcomes": summary(rows)}).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
