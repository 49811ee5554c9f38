"""What an error decomposition says in words, by rules: a clause needs an interval behind it.

Every statement is a linear statistic of the images, so its interval is that of `Contributions`. A
clause whose interval does not support it is not said, or its absence is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS
from iaside_plugins.corruptions.systematic import READINGS
from iaside_plugins.decomposition.comparison import DecompositionDifference
from iaside_plugins.decomposition.contributions import Contributions, sum_over
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.display.text import interval
from iaside_plugins.importance.evidence import band_list
from iaside_plugins.importance.result import PREDICTED
from iaside_plugins.stats.intervals import Estimate

Array = npt.NDArray[np.float64]
MOST = 0.5  # "most": bands that hold more than half of what is added, with their interval
MUCH = 0.05  # a removal is only worth a clause if it repairs more than 5 % of the loss
SPOKEN = {
    "digital": "digital corruptions",
    "systematic": "systematic noise (the same files read otherwise)",
}
LOST = "loses less than", "less", "lose unequally"
CHANGED = "changes fewer of its predictions than", "fewer", "change unequally many predictions"
NEARLY = 0.8  # of what the best removal repairs


@dataclass(frozen=True)
class _Group:
    """Conditions that are spoken of together: "noise", "blur", an attack."""

    name: str
    names: tuple[str, ...]


def conclusion(result: ErrorDecomposition) -> list[str]:
    """Return sentences about every group of conditions, the costliest first.

    Each says what the group costs, in which bands most of it lies, and what taking the perturbation
    out of some bands would repair; each part only where the 95 % interval supports it.
    """
    game = result.error
    groups = sorted(_groups(game), key=lambda group: -float(game.over(group.names).added.value))
    if result.label_space == PREDICTED:
        return [_changed_sentence(game, group) for group in groups]
    return [_group_sentence(game, group) for group in groups]


def versus_conclusion(found: DecompositionDifference, first: str, second: str) -> list[str]:
    """Return sentences about where the first model loses less, and where it pays for that.

    Args:
        found: First minus second.
        first: Name of the first model.
        second: Name of the second.
    """
    game, sentences = found.error, []
    beats, less, unequally = CHANGED if found.predicted else LOST
    clean = game.over().clean
    if _sign(clean):
        better, worse = (first, second) if _sign(clean) < 0 else (second, first)
        sentences.append(
            f"On clean images {better} errs less than {worse}, by {_gap(clean)} points."
        )
    for group in _groups(game):
        split = game.over(group.names)
        sign = _sign(split.added)
        if not sign:
            sentences.append(
                f"Under {group.name} the two are not shown to {unequally} "
                f"({points(split.added)} points)."
            )
            continue
        better, worse = (first, second) if sign < 0 else (second, first)
        text = f"Under {group.name} {better} {beats} {worse}, by {_gap(split.added)} points"
        wins, pays = (
            [i for i in range(game.bands.shape[2]) if _sign(split.bands, i) == side]
            for side in (sign, -sign)
        )
        if wins:
            text += f": {less} in {band_list(wins)}"
        if pays:
            text += f"{' and' if wins else ':'} more in {band_list(pays)}"
        sentences.append(f"{text}.")
    return sentences


def _group_sentence(game: Contributions, group: _Group) -> str:
    weights = game.weights(group.names)
    added = game.weighted(weights).added
    lead = f"Under {group.name} this model"
    if _sign(added) < 0:
        return _gain_sentence(lead, game, weights)
    if not _sign(added):
        return f"{lead} is not shown to lose accuracy ({points(added)} points)."
    found = most_of(game, weights)
    if found is None:
        text = f"{lead} loses {points(added)} points; no few bands are shown to hold most of it"
    else:
        bands, cost = found
        text = f"{lead} loses {points(added)} points, {points(cost)} of them in {band_list(bands)}"
    removal = best_removal(game, weights)
    if removal is not None:
        bands, won = removal
        text += (
            f"; without the perturbation in {band_list(bands)} it would lose {points(won)} points "
            "fewer"
        )
    return f"{text}."


def _changed_sentence(game: Contributions, group: _Group) -> str:
    """Return what is said where labels are the model's own predictions: of accuracy nothing."""
    weights = game.weights(group.names)
    added = game.weighted(weights).added
    lead = f"Under {group.name} this model"
    if not _sign(added):
        return f"{lead} is not shown to change its predictions ({points(added)} %)."
    text = f"{lead} changes {points(added)} % of its predictions"
    if found := most_of(game, weights):
        text += f", {points(found[1])} points of that in {band_list(found[0])}"
    return f"{text}."


def _gain_sentence(lead: str, game: Contributions, weights: Array) -> str:
    """Return what is said of a perturbation that helps, and of the bands that hold most of that."""
    won = Contributions(game.conditions, -game.clean, -game.perturbed, -game.bands)
    text = f"{lead} errs less than on clean images, by {points(won.weighted(weights).added)}"
    text += " points"
    if found := most_of(won, weights):
        bands, part = found
        text += f", {points(part)} of them in {band_list(bands)}"
    return f"{text}."


def most_of(game: Contributions, weights: Array) -> tuple[list[int], Estimate] | None:
    """Return the fewest neighbouring bands that are shown to hold most of what is added.

    "Shown": the interval of their sum less half of what is added lies above 0. None where that
    takes more than half of the bands.

    Args:
        game: The game of errors.
        weights: Of the conditions (C,).
    """
    m = game.bands.shape[2]
    added = game.perturbed - game.clean
    for width in range(1, m // 2 + 1):
        sums = {
            start: game.bands[:, :, start : start + width].sum(axis=2)
            for start in range(m - width + 1)
        }
        best = max(sums, key=lambda start: float(weights @ sums[start].mean(axis=1)))
        if _sign(sum_over(sums[best] - MOST * added, weights)) > 0:
            return list(range(best, best + width)), sum_over(sums[best], weights)
    return None


def best_removal(game: Contributions, weights: Array) -> tuple[list[int], Estimate] | None:
    """Return the fewest bands, from one end, that are worth taking out of the perturbation.

    At most half of the bands; those that repair nearly as much as any such removal does, by the
    lower end of the interval. None where no removal is shown to repair more than a little, or where
    it was not measured.

    Args:
        game: The game of errors.
        weights: Of the conditions (C,).
    """
    if game.nested is None:
        return None
    m = game.bands.shape[2]
    little = MUCH * float(weights @ (game.perturbed - game.clean).mean(axis=1))
    won_each, found = game.won(), []
    for k in range(1, m):
        for place, bands in ((k - 1, list(range(k, m))), (m - 2 + k, list(range(k)))):
            won = sum_over(won_each[:, :, place], weights)
            if len(bands) <= m // 2 and won.interval[0] > max(little, 0):
                found.append((bands, won))
    if not found:
        return None
    enough = NEARLY * max(float(won.interval[0]) for _, won in found)
    return min((one for one in found if one[1].interval[0] >= enough), key=lambda one: len(one[0]))


def _groups(game: Contributions) -> Iterator[_Group]:
    """Yield the groups of the conditions: of corruptions, of readings, and every other alone."""
    names = list(dict.fromkeys(one.name for one in game.conditions))
    for group in dict.fromkeys(map(_group_of, names)):
        inside = tuple(name for name in names if _group_of(name) == group)
        if group is None:
            yield from (_Group(_words(name), (name,)) for name in inside)
        else:
            alone = len(inside) == 1
            yield _Group(_words(inside[0]) if alone else SPOKEN.get(group, group), inside)


def _group_of(name: str) -> str | None:
    return "systematic" if name in READINGS else CORRUPTION_GROUPS.get(name)


def _words(name: str) -> str:
    """Return a condition's name as part of a sentence."""
    return READINGS[name].words if name in READINGS else name.replace("_", " ")


def _sign(estimate: Estimate, place: int | None = None) -> int:
    """Return 1 or -1 where the interval lies above or below 0, else 0."""
    low, high = estimate.interval if place is None else estimate.interval[place]
    return int(low > 0) - int(high < 0)


def points(estimate: Estimate, place: int | None = None) -> str:
    """Return an estimate in points with its interval, for example "24.0 [19.5, 28.5]"."""
    value, ends = (estimate.value, estimate.interval)
    if place is not None:
        value, ends = value[place], ends[place]
    low, high = (100 * float(np.clip(end, -1, 1)) for end in ends)
    return f"{100 * float(value):.1f} {interval(low, high, spec='.1f')}".rstrip()


def _gap(difference: Estimate) -> str:
    """Return how far two models are apart, for "less by": with the sign of the one that loses."""
    if difference.value > 0:
        return points(difference)
    turned = replace(difference, value=-difference.value, interval=-difference.interval[::-1])
    return points(turned)
