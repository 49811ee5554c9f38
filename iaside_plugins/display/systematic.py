"""What an entry says of systematic noise: a table of readings, and one sentence about the worst."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from iaside_plugins.corruptions.systematic import READINGS
from iaside_plugins.display.text import aligned, interval, number, proportion
from iaside_plugins.stats.intervals import paired_change


def systematic_lines(group: Mapping[str, Any]) -> list[str]:
    """Return accuracy under every reading, what it costs, their mean, and the conclusion.

    Args:
        group: The entry's ``systematic`` group.
    """
    rows = [["reading", "accuracy", "error added, points", "|change of p|", "answers changed"]]
    rows.append([group["own"], proportion(group["own_accuracy"]).strip(), "", "", ""])
    for cell in group["conditions"]:
        low, high = (1 - end for end in reversed(cell["error"]["interval"]))
        rows.append(
            [
                cell["condition"],
                f"{1 - cell['error']['value']:.1%}  {interval(low, high, spec='.1%')}",
                _points(cell["added"]),
                f"{cell['probability_change']['value']:.4f}",
                f"{cell['changed']['value']:.1%}",
            ]
        )
    mean = group["mean_error"]
    rows.append(
        [
            f"mean of {len(group['conditions'])}",
            f"{1 - mean['value']:.1%}",
            _points(group["mean_added"]),
            "",
            "",
        ]
    )
    lines = [
        f"systematic noise: the same files read otherwise ({group['n_images']} images; first the "
        "model's own reading)",
        *(f"  {line}" for line in aligned(rows)),
    ]
    alike = [cell["condition"] for cell in group["conditions"] if not _differs(cell)]
    if alike:
        lines.append(f"  no answer and no probability changes: {', '.join(alike)}")
    lines += [f"  left out: {what}" for what in group["left_out"]]
    return [*lines, f"  {systematic_sentence(group)}"]


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


def _points(difference: Mapping[str, Any]) -> str:
    ends = [None if end is None else 100 * end for end in difference["interval"]]
    return number(100 * difference["value"], *ends, spec="+.1f")


def _differs(cell: Mapping[str, Any]) -> bool:
    """Whether a reading changes any probability or answer."""
    return bool(cell["probability_change"]["value"] or cell["changed"]["value"])
