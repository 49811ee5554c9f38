"""What adversarial training buys and costs: paired decompositions of pairs of networks.

``python -m iaside_plugins.leaderboard.studies.adversarial FOLDER`` reads what the targets
`explained` and `attacked` of `leaderboard/entries.mk` wrote into adversarial.json, where pairs of
other folders stay; without it draws the figure from adversarial.json again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS
from iaside_plugins.decomposition.comparison import combine, difference
from iaside_plugins.decomposition.contributions import Contributions
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.display.plots import counted, new_figure, titled
from iaside_plugins.display.style import LABEL
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies.measured import run
from iaside_plugins.leaderboard.studies.page import draw_by_band, refresh, short_name
from iaside_plugins.storage.files import rounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[1] / "adversarial"
DIGITS = 5  # significant ones that adversarial.json keeps
SAME, NEARLY = "same layers", "same kind, other size"
OTHER = "transformer against convolutions"
PAIRS = (  # trained against attacks or certified, standard, how alike they are
    ("c10_oval_cifar_madry_8px", "c10_oval_cifar_sgd_8px", SAME),
    ("c10_cnn_a_adv", "c10_oval_cifar_sgd_8px", SAME),
    ("c10_wide_kw", "c10_oval_cifar_sgd_8px", SAME),
    ("c10_kolter_cifar_small_36px", "c10_oval_cifar_sgd_8px", SAME),
    ("c10_small_pgd", "c10_abcrown_marabou_medium", NEARLY),
    ("c10_recoloradv_delta", "c10_resnet20", NEARLY),
    ("c10_recoloradv_recoloradv_delta", "c10_resnet20", NEARLY),
    ("c10_recoloradv_recoloradv", "c10_resnet20", NEARLY),
    ("c10_recoloradv_stadv", "c10_resnet20", NEARLY),
    ("c10_vit_pgd_2_3_16", "c10_cnn_a_adv", OTHER),  # both trained at 2/255
)


def condense(folder: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the differences of every pair whose networks both have files below a folder.

    Args:
        folder: OUT of `leaderboard/entries.mk`.
        known: What this function returned of other folders: pairs that this one lacks.
    """

    def load(name: str) -> ErrorDecomposition | None:
        files = [folder / "explained" / f"{name}--8.npz", folder / "attacked" / f"{name}.npz"]
        if not all(file.exists() for file in files):
            return None
        return combine([ErrorDecomposition.load(file) for file in files])

    names = dict.fromkeys(name for first, second, _ in PAIRS for name in (first, second))
    splits = {name: load(name) for name in names}
    before = {(row["first"], row["second"]): row for row in (known or {"pairs": []})["pairs"]}
    rows = []
    for first, second, alike in PAIRS:
        a, b = splits[first], splits[second]
        if a is not None and b is not None:
            rows.append({"first": first, "second": second, "alike": alike, **_contrast(a, b)})
        elif (first, second) in before:
            rows.append(before[first, second])
    there = {row[end] for row in rows for end in ("first", "second")}
    missing = [name for name in names if name not in there]
    found: dict[str, Any] = rounded({"pairs": rows, "missing": missing}, DIGITS)
    return found


def _contrast(first: ErrorDecomposition, second: ErrorDecomposition) -> dict[str, Any]:
    """Return first less second on clean images, in groups of corruptions and under attacks."""
    game = difference(first, second).error
    conditions: dict[str, list[Any]] = {}
    for one in game.conditions:
        group = CORRUPTION_GROUPS.get(one.name)
        attack = f"{one.name.split()[0].upper()} {format_budget(one.level or 0.0)}"
        conditions.setdefault(group or attack, []).append(one)
    clean = game.over().clean
    return {
        "n_images": game.n_images,
        "clean": [float(clean.value), *map(float, clean.interval)],
        "conditions": {name: _halves(game, some) for name, some in conditions.items()},
    }


def _halves(game: Contributions, conditions: list[Any]) -> dict[str, Any]:
    """Return what conditions add: by band, by half of the bands, and in all, with intervals."""
    n = game.bands.shape[2]
    lower = np.arange(n) < n / 2
    masks = {"lower": lower, "upper": ~lower, "added": np.ones(n)}
    sums = {name: game.in_bands(mask, conditions) for name, mask in masks.items()}
    return {
        "bands": game.over(conditions).bands.value.tolist(),
        **{name: [float(one.value), *map(float, one.interval)] for name, one in sums.items()},
    }


def adversarial_figure(data: Mapping[str, Any]) -> Figure:
    """Draw, for every pair, how the points of error differ by band: white is no difference."""
    rows = data["pairs"]
    names = list(dict.fromkeys(name for row in rows for name in row["conditions"]))
    if not names or any(set(row["conditions"]) != set(names) for row in rows):
        raise InputError(f"expected pairs under the same conditions, got {names or 'none'}")
    figure, axes = new_figure(11, 1.4 + 0.35 * len(rows), columns=len(names), shared=False)
    values = {
        name: 100 * np.array([row["conditions"][name]["bands"] for row in rows]) for name in names
    }
    labels = [f"{short_name(row['first'])} - {short_name(row['second'])}" for row in rows]
    draw_by_band(figure, axes, values, labels, "points of error, first less second")
    for ax in axes:
        ax.title.set_fontsize(LABEL)
    title = "Networks trained for robustness less others, what each adds to its error by band"
    figure.suptitle(titled(title, counted(row["n_images"] for row in rows)))
    return figure


def main(folders: Iterable[str]) -> None:
    """Take new files in, if a folder is given, and draw the figure."""
    refresh(FOLDER / "adversarial.json", folders, condense, adversarial_figure)


if __name__ == "__main__":
    run(main)
