"""What an entry says of systematic noise: a table of readings, and one sentence about the worst."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from iaside_plugins.corruptions.systematic import READINGS
from iaside_plugins.display.text import aligned, number
from iaside_plugins.stats.intervals import paired_change


def systematic_lines(group: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Return accuracy under every reading, what it costs, their mean, and the conclusion.

    Args:
        group: The entry's ``systematic`` group.
        width: Greatest width of a line; by default the terminal's.
    """
    cells = group["conditions"]
    rows = [[group["own"], _accuracy(group["own_accuracy"], is_error=False), "", "", ""]]
    rows += [
        [
            cell["condition"],
            _accuracy(cell["error"], is_error=True),
            _points(cell["added"]),
            f"{cell['probability_change']['value']:.3f}",
            f"{cell['changed']['value']:.1%}",
        ]
        for cell in cells
    ]
    mean = _accuracy(group["mean_error"], is_error=True)
    rows.append([f"mean of {len(cells)}", mean, _points(group["mean_added"]), "", ""])
    lines = [
        f"systematic noise: the same files read otherwise ({group['n_images']} images)",
        "  accuracy (first with the model's own reading); points of error added; mean |change of",
        "  p(true class)|; answers changed",
        *aligned(rows, indent="  ", width=width),
    ]
    alike = [cell["condition"] for cell in cells if not _differs(cell)]
    if alike:
        lines.append(f"  no answer and no probability changes: {', '.join(alike)}")
    lines += [f"  left out: {what}" for what in group["left_out"]]
    room = min(width or shutil.get_terminal_size().columns, 100) - 2
    return [*lines, *(f"  {line}" for line in textwrap.wrap(systematic_sentence(group), room))]


def systematic_sentence(group: Mapping[str, Any]) -> str:
    """Return what the worst reading costs, and what the best one would spare, where that is shown.

    Both are chosen after the fact, so their intervals are wider, by Bonferroni's rule: 95 % for all
    readings together.

    Args:
        group: The entry's ``systematic`` group.
    """
    cells = group["conditions"]
    if not any(map(_differs, cells)):
        return (
            "Other readings of the same files change nothing here: the files have the size that "
            "the model resizes to, or are decoded alike."
        )
    worst = next(cell for cell in cells if cell["condition"] == group["worst"])
    best = min(cells, key=lambda cell: float(cell["error"]["value"]))
    value, low, high = _change(worst, len(cells))
    words = READINGS[worst["condition"]].words
    among = f", the worst of {len(cells)} readings" if len(cells) > 1 else ""
    if low > 0:
        cost = number(value, low, high, spec=".1f")
        text = f"Reading the same files with {words} costs this model {cost} points{among}"
    else:
        text = (
            "No other reading of the same files is shown to cost this model accuracy: "
            f"{number(value, low, high, spec='+.1f')} points of error with {words}{among}"
        )
    value, low, high = _change(best, len(cells))
    if high < 0:
        text += (
            f"; with {READINGS[best['condition']].words} it errs less than with its own reading, "
            f"by {number(-value, -high, -low, spec='.1f')} points"
        )
    return f"{text}."


def _change(cell: Mapping[str, Any], n_readings: int) -> tuple[float, float, float]:
    """Return the points of error that a reading, chosen among several, adds, with its interval."""
    z = NormalDist().inv_cdf(1 - 0.025 / n_readings)
    value, low, high = paired_change(cell["n_lost"], cell["n_gained"], cell["error"]["n"], z)
    return 100 * value, 100 * low, 100 * high


def _accuracy(share: Mapping[str, Any], *, is_error: bool) -> str:
    """Return an accuracy in percent with its interval, from an accuracy or an error."""
    if not is_error:
        return number(share["value"], *share["interval"], spec=".1%")
    # A mean's normal interval may leave [0, 1].
    ends = (None if e is None else min(1, max(0, 1 - e)) for e in reversed(share["interval"]))
    return number(1 - share["value"], *ends, spec=".1%")


def _points(difference: Mapping[str, Any]) -> str:
    ends = [None if end is None else 100 * end for end in difference["interval"]]
    return number(100 * difference["value"], *ends, spec="+.1f")


def _differs(cell: Mapping[str, Any]) -> bool:
    """Whether a reading changes any probability or answer."""
    return bool(cell["probability_change"]["value"] or cell["changed"]["value"])
