"""Signed scores and robustness at other temperatures of the logits.

``python -m iaside_plugins.leaderboard.studies.temperature FOLDER`` reads what the target
`temperature` of `leaderboard/entries.mk` wrote into temperature.json, where networks of other
folders stay; without it draws the figure from temperature.json again. The criteria are those of
`docs/studies/temperature.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.display.plots import new_figure
from iaside_plugins.display.style import FAINT, LABEL
from iaside_plugins.leaderboard.statistics.estimates import MIN_INTERVAL, N_RESAMPLES, SEED
from iaside_plugins.leaderboard.studies import criteria
from iaside_plugins.leaderboard.studies.criteria import NOT_SHOWN, SHOWN
from iaside_plugins.leaderboard.studies.measured import networks, run
from iaside_plugins.leaderboard.studies.page import draw_kind, refresh, short_name
from iaside_plugins.leaderboard.studies.verdicts import side
from iaside_plugins.stats.correlation import rank_correlation
from iaside_plugins.stats.intervals import paired_change, percentile_interval, wilson
from iaside_plugins.stats.permutation import family_counts
from iaside_plugins.storage.files import rounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[1] / "temperature"
DIGITS = 5  # significant ones that temperature.json keeps
SAME_ORDER = 0.9  # least rank correlation of the scores at both temperatures
CIFAR = "cifar10"
OTHER = "fitted (score), or every one of five (PGD)"
ILLUSION, MORE_TRIES, HOLDS, TOO_FEW = "illusion", "more tries", "no", "too few left to tell"


def condense(folder: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what was measured below a folder, and what was known, see `networks`."""
    nets = networks(folder / "temperature", known)
    out: dict[str, Any] = rounded(nets, DIGITS, exact=("epsilon",))
    return out


def least_lost(n_images: int) -> int:
    """Return how many of n images must be lost for a paired interval that excludes 0."""
    return next(k for k in range(1, n_images + 1) if paired_change(k, 0, n_images)[1] > 0)


def verdict(one: Mapping[str, Any]) -> str:
    """Return whether a network's robustness is an illusion of the temperature."""
    attack = one["attack"]
    if attack["n_robust"] < least_lost(attack["n_images"]):
        return TOO_FEW
    if side(attack["change"]) == 0:
        return HOLDS
    return ILLUSION if side(attack["change_starts"]) < 0 else MORE_TRIES


def turned(nets: Mapping[str, Any]) -> list[str]:
    """Return the networks whose scores at the two temperatures lie on either side of 0."""
    return [
        name
        for name, one in nets.items()
        if side(one["score"]["1"]) * side(one["score"]["fitted"]) < 0
    ]


def same_order(nets: Mapping[str, Any]) -> list[float] | None:
    """Return the rank correlation of CIFAR-10 networks' scores, and its interval over families.

    None of too few families.
    """
    some = [one for one in nets.values() if one["data"] == CIFAR]
    if len({one["family"] for one in some}) < MIN_INTERVAL:
        return None
    both = np.array([[one["score"][key][0] for key in ("1", "fitted")] for one in some]).T
    counts = family_counts([one["family"] for one in some], N_RESAMPLES, SEED).astype(int)
    drawn = [rank_correlation(*both[:, np.repeat(np.arange(len(some)), row)]) for row in counts]
    return [float(rank_correlation(*both)), *map(float, percentile_interval(np.array(drawn)))]


def outcomes(nets: Mapping[str, Any]) -> dict[str, str]:
    """Return the verdicts on robustness (of all networks) and on the score, by name."""
    found, order = {verdict(one) for one in nets.values()}, same_order(nets)
    robustness = SHOWN if ILLUSION in found else NOT_SHOWN
    if turned(nets) or (order is not None and order[0] < SAME_ORDER):
        score = SHOWN
    else:
        score = criteria.TOO_FEW if order is None else NOT_SHOWN
    return {"robustness": robustness if found - {TOO_FEW} else criteria.TOO_FEW, "score": score}


def answer(nets: Mapping[str, Any]) -> str:
    """Return the answer in two sentences."""
    of = {name: verdict(one) for name, one in nets.items()}
    judged = [name for name, one in of.items() if one != TOO_FEW]
    illusions = [short_name(name) for name in judged if of[name] == ILLUSION]
    families = {nets[name]["family"] for name in judged}
    n = sum(one["data"] == CIFAR for one in nets.values())
    changed, order = turned(nets), same_order(nets)
    signs = f"the sign of {', '.join(map(short_name, changed))}" if changed else "no sign"
    text = (
        f"Of the {len(judged)} networks ({len(families)} families) that keep enough under attack "
        f"to tell, the robustness of {', '.join(illusions) or 'none'} is an illusion of the "
        "temperature. "
    )
    if order is None:
        few = f"{n} CIFAR-10 networks are of too few families to tell whether their order moves"
        return f"{text}{few}; {signs} changes beyond its interval."
    value, low, high = order
    return (
        f"{text}That signed scores move with it is *{outcomes(nets)['score']}*: over {n} CIFAR-10 "
        f"networks their rank correlation at both temperatures is {value:+.3f} [{low:+.3f}, "
        f"{high:+.3f}], where below {SAME_ORDER} would count, and {signs} changes beyond its "
        "interval."
    )


def facts(nets: Mapping[str, Any]) -> dict[str, str]:
    """Return what the page names in its sentences, by the name used there."""
    counts = Counter(verdict(one) for one in nets.values())
    found = outcomes(nets)
    words = ", ".join(f"{kind}: {n}" for kind, n in counts.items())
    text = (
        f"an illusion of the temperature: *{found['robustness']}* ({words}); the signed score "
        f"moves with the temperature: *{found['score']}*"
    )
    sides = {name: [side(one["score"][k]) for k in ("1", "fitted")] for name, one in nets.items()}
    lost = [short_name(name) for name, (first, then) in sides.items() if first and not then]
    changes = [one["score"]["change"] for one in nets.values()]
    n_changed = sum(side(each) != 0 for each in changes)
    most = max(abs(value) for value, *_ in changes)
    return {
        "temperature_answer": answer(nets),
        "temperature_outcomes": text,
        "temperature_changes": f"{n_changed} of {len(nets)} scores change by more than their "
        f"paired interval, the most by {most:.2f}",
        "temperature_lost": ", ".join(lost) or "none",
    }


def temperature_figure(nets: Mapping[str, Any]) -> Figure:
    """Draw every network's score, and accuracy under attack, at temperature 1 and at others."""
    figure, (scores, attacks) = new_figure(11, 1.6 + 0.27 * len(nets), columns=2, shared=False)
    kinds = [("1", "n_robust", "temperature 1"), ("fitted", "n_left", OTHER)]
    for j, (score, held, label) in enumerate(kinds):
        counts = [(one["attack"][held], one["attack"]["n_images"]) for one in nets.values()]
        shares = [(k / n, *wilson(k, n)) for k, n in counts]
        both = {scores: [one["score"][score] for one in nets.values()], attacks: shares}
        for ax, rows in both.items():
            draw_kind(ax, np.array(rows), j, label)
    scores.axvline(0, color=FAINT, linewidth=1, zorder=0)
    scores.set_title("signed score: temperature 1, and fitted", fontsize=LABEL)
    attacks.set_title("share that holds under PGD: temperature 1, and all", fontsize=LABEL)
    for k, ax in enumerate((scores, attacks)):
        ax.set_yticks(range(len(nets)), [short_name(name) for name in nets] if k == 0 else [])
        ax.invert_yaxis()
    attacks.set_xlabel("PGD at 2/255 (photographs 0.25/255), 64 images")
    scores.set_xlabel("signed score, all images (200 photographs)")
    names = scores.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=2)
    figure.suptitle(f"{len(nets)} networks at other temperatures of their logits, 95 % intervals")
    return figure


def main(folders: Iterable[str]) -> None:
    """Take new files in, if a folder is given, and draw the figure."""
    refresh(FOLDER / "temperature.json", folders, condense, temperature_figure)


if __name__ == "__main__":
    run(main)
