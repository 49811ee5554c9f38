"""What the criteria are applied to, and their table of outcomes: `criteria/`.

``python -m iaside_plugins.leaderboard.studies.evidence FOLDER`` reads what the targets of
`leaderboard/entries.mk` wrote below a folder into evidence.json, of the networks that families.json
(CIFAR-10) and photographs.json (ImageNet) name; of other networks what was measured before stays.
Entries of other images or protocols than the others are refused. Without a folder it makes the
table of outcomes, outcomes.json, from evidence.json again.
"""

from __future__ import annotations

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
from iaside_plugins.entry.outcomes import parse_files
from iaside_plugins.entry.schema import Entry
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.leaderboard.studies.criteria import CHOICES, LABELS, outcomes
from iaside_plugins.leaderboard.studies.measured import (
    CRITERIA,
    FAMILIES,
    PHOTOGRAPHS,
    folder_of,
    run,
)
from iaside_plugins.leaderboard.studies.page import fill_blocks
from iaside_plugins.leaderboard.studies.verdicts import summary
from iaside_plugins.shapley.score import importance_distribution, signed_score
from iaside_plugins.storage.files import (
    jsonable,
    read_file,
    read_json,
    rounded,
    write_atomic,
    write_json,
)
from iaside_plugins.storage.provenance import ids_digest

BOARD = Path(__file__).resolve().parents[1]
FOLDER = CRITERIA
DIGITS = 6  # significant ones that evidence.json keeps
README = BOARD.parent / "README.md"
BLOCK = "<!-- outcomes -->"
PARTS = ("nets", "views", "choices", "filters", "forecast")  # of CIFAR-10
PHOTO_PARTS = ("photos", "photos_forecast")
PIXELS = 224  # of photographs, of which spectra of corruptions are shipped
BUDGET = 2 / 255  # Linf, at which robust accuracies are compared
PER_ENERGY = "contribution per energy"
VIEWS = {  # as `iaside heatmap --views` names them
    "band-restricted attack": "attack inside the band",
    "Fourier heat map": "Fourier heat map",
    "importance": "importance",
}


def condense(
    folder: Path,
    families: Mapping[str, str],
    known: Mapping[str, Any] | None = None,
    photographs: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return what the criteria need of the files below a folder, and what was known before.

    Args:
        folder: OUT of `leaderboard/entries.mk`.
        families: Family of every CIFAR-10 network that is judged, by its name.
        known: What this function returned of other folders; a file of this one goes before it.
        photographs: "family" and "pixels" of every ImageNet network that is judged, by its name.

    Raises:
        InputError: If the folder holds nothing, a network has no family or two entries, AutoAttack
            has none, or entries, choices of bands or numbers of images are unlike.
    """
    known, photographs = known or {}, photographs or {}
    new, attacked = _measurements(folder), _entries(folder, "autoattack")
    if not attacked and not any(new.values()):
        raise InputError(f"{folder}: expected what leaderboard/entries.mk wrote (OUT=...)")
    for part, rows in new.items():
        _check_alike(part, known.get(part, {}), rows)
    new["seconds"] = _seconds(folder)
    found: dict[str, Any] = {k: dict(sorted(v.items())) for k, v in _over(known, new).items()}
    found |= {"families": dict(families), "photographs": dict(photographs)}
    for parts, names, file in (
        (PARTS, families, FAMILIES),
        (PHOTO_PARTS, photographs, PHOTOGRAPHS),
    ):
        if unknown := sorted({name for part in parts for name in found[part]} - set(names)):
            raise InputError(f"{FOLDER / file}: expected a family of {', '.join(unknown)}")
    for name, one in found["nets"].items():
        one["family"] = families[name]
        one.setdefault("autoattack", None)
    _add_autoattack(found["nets"], attacked)
    found["missing"] = _missing(found)
    compact: dict[str, Any] = rounded(jsonable(found), DIGITS)
    return compact


def _measurements(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the criteria need of the files below a folder, by part and network."""
    return {
        "nets": {name: _net(entry) for name, entry in _entries(folder, "cifar10").items()},
        "views": {path.stem: _views(read_json(path)) for path in folder.glob("views/*.json")},
        "choices": _choices(folder),
        "filters": {path.stem: _filters(read_json(path)) for path in folder.glob("filters/*.json")},
        "forecast": _forecast(folder / "forecast-cifar10.json"),
        "photos": {
            name: {"n_images": e.clean_accuracy.n} for name, e in _entries(folder, "photos").items()
        },
        "photos_forecast": _forecast(folder / "forecast-photos.json"),
    }


def _add_autoattack(nets: Mapping[str, dict[str, Any]], attacked: Mapping[str, Entry]) -> None:
    """Set the outcome of AutoAttack of the networks that it attacked.

    Raises:
        InputError: A network has no entry, or one of another number of images.
    """
    for name, entry in attacked.items():
        own, n = nets.get(name), entry.clean_accuracy.n
        if own is None or n != own["n_images"]:
            expected = "an entry" if own is None else f"AutoAttack of its {own['n_images']} images"
            raise InputError(f"{name}: expected {expected}, got AutoAttack of {n} images")
        own["autoattack"] = _robust(entry)


def _entries(folder: Path, part: str) -> dict[str, Entry]:
    """Return the entries of a part of the folder by the names of their networks."""
    found: dict[str, Entry] = {}
    for file in sorted(folder.glob(f"{part}/*.json")):
        (entry,) = parse_files([file])
        if entry.model.name in found:
            raise InputError(f"{file}: expected one entry of {entry.model.name}, there are two")
        found[entry.model.name] = entry
    return found


def _check_alike(part: str, *found: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise InputError unless networks were measured on the same images by one protocol."""
    names: dict[str, list[str]] = {}
    for name, row in (item for rows in found for item in rows.items()):
        if "made_of" in row:
            names.setdefault(row["made_of"], []).append(name)
    if len(names) > 1:
        *odd, (usual, others) = sorted(names.items(), key=lambda item: len(item[1]))
        said = "; ".join(f"{', '.join(some)}: {made_of}" for made_of, some in odd)
        raise InputError(
            f"{part}: expected all networks on the same images by one protocol, got {said}; "
            f"{len(others)} others: {usual}. Leave those out, or measure all of them again and "
            f"begin anew without {FOLDER / 'evidence.json'}"
        )


def _over(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, nested ones too; where both have a value, the new one."""
    return {**old} | {
        key: _over(old.get(key) or {}, value) if isinstance(value, Mapping) else value
        for key, value in new.items()
    }


def _missing(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the networks that lack a part of the evidence, by the part."""
    nets, choices = found["nets"], found["choices"]
    there: dict[str, Iterable[str]] = {
        "entries": nets,
        "accuracy under PGD at 2/255": [n for n, one in nets.items() if one["robust"] is not None],
        "AutoAttack": [n for n, one in nets.items() if one["autoattack"] is not None],
        "views": found["views"],
        "filters": found["filters"],
        "forecast": found["forecast"],
    }
    for column in ("added_upper", "signed_score"):
        for choice in ("8", *CHOICES):
            if choice != "halves" and (column, choice) != ("signed_score", "seed1"):
                there[f"{LABELS[column]}, {CHOICES.get(choice, 'the default')}"] = [
                    name for name, one in choices.items() if choice in one[column]
                ]
    lacking = {part: set(found["families"]) - set(some) for part, some in there.items()}
    photographs = found["photographs"]
    lacking["photographs"] = set(photographs) - set(found["photos"])
    forecast = {name for name, one in photographs.items() if one["pixels"] == PIXELS}
    lacking["forecast on photographs"] = forecast - set(found["photos_forecast"])
    return {part: sorted(names) for part, names in lacking.items() if names}


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


def _forecast(file: Path) -> dict[str, Any]:
    """Return what criterion e needs of a report of `tests/bench/bench_forecast.py`, if any."""
    rows = read_json(file)["nets"] if file.exists() else []
    kept = ("clean", "measured", "forecast")
    return {
        row["name"]: {
            "made_of": f"{row['n_images']} images, {row['n_bands']} bands, "
            f"{len(row['conditions'])} conditions",
            **{key: row[key] for key in kept},
        }
        for row in rows
    }


def _net(entry: Entry) -> dict[str, Any]:
    """Return the columns of one network that criterion a compares."""
    errors = {} if entry.corruption is None else entry.corruption.errors
    noises = [name for name, group in CORRUPTION_GROUPS.items() if group == "noise"]
    if lacking := [name for name in noises if name not in errors]:
        raise InputError(f"{entry.entry_id}: expected errors under {', '.join(lacking)}")
    psi = entry.spectral.shapley_values
    images = entry.data.image_ids_sha256[:16]
    return {
        "made_of": f"{entry.clean_accuracy.n} images ({images}), {entry.protocol.protocol_id}",
        "training": entry.model.training,
        "n_images": entry.clean_accuracy.n,
        "clean": entry.clean_accuracy.value,
        "signed_score": entry.spectral.signed_score,
        "upper_nats": sum(psi[len(psi) // 2 :]),
        "robust": _robust(entry),
        "too_high": _too_high(entry),
        "noise_error": float(np.mean([list(errors[name].values()) for name in noises])),
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
    n_images = report["views"]["n_images"]
    return {**agreement, "bands": bands, "n_images": n_images, "made_of": f"{n_images} images"}


def _filters(report: Mapping[str, Any]) -> dict[str, Any]:
    return {**report, "made_of": f"{report['n_images']} images"}


def _choices(folder: Path) -> dict[str, Any]:
    """Return what other choices say of every network, see `criteria.other_choices`.

    Halves are of the images in the random order of the default's decomposition, which a network
    needs to have some.

    Raises:
        InputError: If a choice was measured on other images than the default.
    """
    found: dict[str, Any] = {}
    ids: dict[str, tuple[str, ...]] = {}
    orders: dict[str, Sequence[str]] = {}  # of the default's decompositions
    files = sorted(folder.glob("explained/*.npz"), key=lambda path: not path.stem.endswith("--8"))
    for path in [*files, *sorted(folder.glob("profiles/*.npz"))]:
        name, _, choice = path.stem.partition("--")
        one = found.setdefault(name, {"added_upper": {}, "groups": {}, "signed_score": {}})
        if path.parent.name == "profiles":
            importance = SpectralImportance.load(path)
            measured = importance.ids
            one["signed_score"] |= _scores(choice, importance, orders.get(name))
        else:
            split = ErrorDecomposition.load(path)
            measured = split.ids
            if choice == "8":
                orders[name] = measured
            for key, game in _parts(choice, split.error).items():
                one["added_upper"][key] = _upper(game, sign=0)[0]
                one["groups"][key] = {
                    group: _upper(game, sign=-1, group=group)
                    for group in dict.fromkeys(CORRUPTION_GROUPS.values())
                }
        if set(measured) != set(ids.setdefault(name, tuple(measured))):
            raise InputError(f"{path}: expected the images of {name}--8.npz, got others")
        one["made_of"] = f"{len(measured)} images ({ids_digest(sorted(measured))[:16]})"
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


def _scores(
    choice: str, importance: SpectralImportance, order: Sequence[str] | None
) -> dict[str, float]:
    """Return the signed score of a choice; of the default also those of halves of the images.

    Args:
        choice: Its name.
        importance: Of the choice.
        order: Ids of its images, whose first half is one half; None for no halves.
    """
    found = {choice: importance.signed_score}
    if choice == "8" and order is not None:
        place = {name: k for k, name in enumerate(importance.ids)}
        half = len(order) // 2
        for key, some in (("first", order[:half]), ("second", order[half:])):
            psi = importance.per_image[[place[name] for name in some]].mean(axis=0)
            shares = importance_distribution(psi)
            found[key] = float(signed_score(shares, importance.protocol.beta))
    return found


def main(folders: Iterable[str]) -> None:
    """Take new files in, if a folder is given, and make the table of outcomes."""
    source = FOLDER / "evidence.json"
    families, photographs = (read_json(FOLDER / file) for file in (FAMILIES, PHOTOGRAPHS))
    for folder in map(folder_of, folders):
        known = read_json(source) if source.exists() else None
        data = condense(folder, families, known, photographs)
        write_json(source, data)
        counts = (f"{part} {len(data[part])}" for part in PARTS + PHOTO_PARTS)
        sys.stdout.write(f"networks in {source.name}: {', '.join(counts)}\n")
    found = outcomes(read_json(source))
    rows = rounded(jsonable([asdict(row) for row in found]), DIGITS)
    write_json(FOLDER / "outcomes.json", rows)
    text = README.read_text(encoding="utf-8")
    if BLOCK not in text:
        raise InputError(f"expected {BLOCK} in {README.name}, where the outcomes go")
    write_atomic(README, fill_blocks(text, {"outcomes": summary(rows)}).encode())


if __name__ == "__main__":
    run(main)
