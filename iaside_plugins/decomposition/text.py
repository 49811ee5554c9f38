"""An error decomposition as text: its conclusion, and a table whose rows add up as shown."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from iaside_plugins.budgets import format_budget
from iaside_plugins.decomposition.comparison import DecompositionDifference
from iaside_plugins.decomposition.contributions import Condition, Contributions
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.sentences import conclusion, points, versus_conclusion
from iaside_plugins.display.text import plural, rounded_to_sum
from iaside_plugins.importance.chance import warning_line

Array = npt.NDArray[np.float64]
NAME_WIDTH = 17  # of the longest corruption
END_WIDTH, BAND_WIDTH = 7, 6  # of the columns of the table
N_COSTLIEST = 3


def decomposition_text(result: ErrorDecomposition, width: int | None = None) -> str:
    """Return the conclusion, the table of conditions by bands, and what is costliest.

    An accuracy at chance is said first.

    Args:
        result: The decomposition.
        width: Greatest width of a line; by default the terminal's.
    """
    hits = int((result.error.clean == 0).sum())
    lines = warning_line(hits, result.n_images, result.n_classes)
    lines += ["", *_wrapped(conclusion(result), width)]
    lines += ["", *decomposition_table(result.error, width, "clean", "error")]
    notes = [_bands_line(result), "", *_costliest(result.error)]
    if result.error.nested is not None:
        notes += _repairs(result.error)
    lines += _wrapped(notes, width)
    return "\n".join(lines)


def versus_text(
    found: DecompositionDifference, first: str, second: str, width: int | None = None
) -> str:
    """Return the difference of two models: its conclusion, and its table.

    Args:
        found: First minus second.
        first: Name of the first model.
        second: Name of the second.
        width: Greatest width of a line; by default the terminal's.
    """
    lines = ["", *_wrapped(versus_conclusion(found, first, second), width), ""]
    if found.predicted:
        note = (
            f"Above and below: predictions that {first} changes less those that {second} changes, "
            f"in points (negative: {first} changes fewer)."
        )
    else:
        note = (
            "Above: what is added to the clean errors. Below: "
            f"errors of {first} less those of {second}, in points (negative: {first} is better)."
        )
    lines += [*_wrapped([note], width), ""]
    lines += decomposition_table(found.error, width, "clean", "error")
    return "\n".join(lines)


def decomposition_table(game: Contributions, width: int | None, first: str, last: str) -> list[str]:
    """Return a table in points: clean + bands = error, to the last digit shown.

    One row a corruption, the mean over its severities, then their mean; the same for readings of
    the files by other libraries, and then the attacks. Neighbouring bands are added up where the
    lines would be too long.

    Args:
        game: Errors, or their difference between two models.
        width: Greatest width of a line; by default the terminal's.
        first: Heading of the column without perturbation.
        last: Heading of the column under perturbation.
    """
    names = list(dict.fromkeys(one.name for one in game.conditions))
    rest, splits = names, []
    for conditions in (game.mean_conditions, game.systematic):
        own = [name for name in rest if name in {one.name for one in conditions}]
        rest = [name for name in rest if name not in own]
        splits += [(_shown(name), game.over([name])) for name in own]
        if len(own) > 1:
            splits.append((f"mean of {len(own)}", game.over(own)))
    splits += [(_shown(name), game.over([name])) for name in rest]
    m = game.bands.shape[2]
    room = (width or shutil.get_terminal_size().columns) - NAME_WIDTH - 2 * END_WIDTH
    step = next(k for k in range(1, m + 1) if -(-m // k) * BAND_WIDTH <= room or k == m)
    groups = [range(k, min(k + step, m)) for k in range(0, m, step)]
    heads = [str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups]
    lines = [
        f"{'points of error':<{NAME_WIDTH}}{first:>{END_WIDTH}}"
        + "".join(f"{h:>{BAND_WIDTH}}" for h in heads)
        + f"{last:>{END_WIDTH}}"
    ]
    for name, split in splits:
        if name.startswith("mean of "):
            lines.append("-" * len(lines[0]))
        parts = [split.bands.value[list(g)].sum() for g in groups]
        shown = rounded_to_sum(float(split.clean.value), parts, float(split.perturbed.value))
        lines.append(
            f"{name:<{NAME_WIDTH}}{shown[0]:>{END_WIDTH}.1f}"
            + "".join(f"{value:>{BAND_WIDTH}.1f}" for value in shown[1:-1])
            + f"{shown[-1]:>{END_WIDTH}.1f}"
        )
    return lines


def _shown(name: str) -> str:
    return name.replace("_", " ")


def condition_name(condition: Condition) -> str:
    """Return a condition as people write it: "fog 3", "pgd Linf 8/255"."""
    level = condition.level
    if level is None:
        return _shown(condition.name)
    return (
        f"{_shown(condition.name)} {level:g}"
        if level >= 1 and level == int(level)
        else (f"{_shown(condition.name)} {format_budget(level)}")
    )


def _bands_line(result: ErrorDecomposition) -> str:
    edges = result.band_edges()
    m = result.protocol.n_bands
    norm = "square" if result.protocol.band_norm == "chebyshev" else "round"
    return (
        f"bands 0 to {m - 1}: {norm} rings {edges[1] - edges[0]:.3g} cycles/image wide, from 0 to "
        f"{edges[-1]:g}; {result.n_images} images of {result.image_size[0]} x "
        f"{result.image_size[1]}, {plural(len(result.conditions), 'condition')}"
    )


def _costliest(game: Contributions) -> list[str]:
    """Return the bands and the conditions that cost most, with their intervals."""
    mean = game.over(game.mean_conditions)
    order = np.argsort(-mean.bands.value, kind="stable")[:N_COSTLIEST]
    bands = "; ".join(f"band {k} {points(mean.bands, int(k))}" for k in order)
    lines = [f"costliest bands of the mean, points [95 %]: {bands}"]
    if len(game.conditions) > 1:
        splits = [(one, game.over([one]).added) for one in game.conditions]
        splits.sort(key=lambda pair: -float(pair[1].value))
        most = "; ".join(
            f"{condition_name(c)} {'+' if a.value >= 0 else ''}{points(a)}"
            for c, a in splits[:N_COSTLIEST]
        )
        lines.append(f"costliest conditions: {most}")
    return lines


def _repairs(game: Contributions) -> list[str]:
    """Return what taking the perturbation out of the high, or the low, bands would repair."""
    high, low = game.repaired(game.mean_conditions)
    m = game.bands.shape[2]
    cuts = range(1, m)
    bands = [_range(k, m - 1) for k in cuts], [_range(0, k - 1) for k in cuts]
    cells = [
        ", ".join(
            f"{which}: {round(100 * v, 1) + 0.0:.1f}"
            for which, v in zip(each, won.value, strict=True)
        )
        for won, each in zip((high, low), bands, strict=True)
    ]
    return [
        f"points by which the mean error ({game.won().shape[1]} images) would be lower without the "
        "perturbation in bands "
        f"{cells[0]}; {cells[1]}"
    ]


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _wrapped(sentences: Sequence[str], width: int | None) -> list[str]:
    room = width or shutil.get_terminal_size().columns
    return [line for one in sentences for line in textwrap.wrap(one, min(room, 100)) or [""]]
