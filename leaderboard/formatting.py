"""How numbers and text look: the only place that rounds, adds percent signs and escapes."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Sequence

from iaside_plugins.report import epsilon as epsilon  # one notation on the board and screen

NOTHING = "–"  # what was not evaluated
BARS = "▁▂▃▄▅▆▇█"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#!|~$^])")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # wide ones too


def percent(value: float) -> str:
    """A proportion as a percentage with one decimal, for example "93.3 %"."""
    return NOTHING if math.isnan(value) else f"{100 * value:.1f} %"


def percent_interval(value: float, low: float, high: float) -> str:
    """A proportion with its interval, for example "93.3 % [88.1, 96.3]"."""
    return percent(value) + _bounds(low, high, 100, ".1f")


def signed_interval(value: float, low: float, high: float) -> str:
    """A number that has a sign, with its interval, for example "-0.142 [-0.180, -0.104]"."""
    return NOTHING if math.isnan(value) else f"{value:+.3f}" + _bounds(low, high, 1, "+.3f")


def number_interval(value: float, low: float, high: float) -> str:
    """A number that has no sign, with its interval, for example "0.142 [0.104, 0.180]"."""
    return NOTHING if math.isnan(value) else f"{value:.3f}" + _bounds(low, high, 1, ".3f")


def _bounds(low: float, high: float, factor: float, spec: str) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    return f" [{factor * low:{spec}}, {factor * high:{spec}}]"


def ratio(value: float, reference: str | None) -> str:
    """A fraction of a reference model's error, for example "0.764 of AlexNet"."""
    return NOTHING if math.isnan(value) else f"{value:.3f} of {markdown(reference)}"


def count(value: float) -> str:
    """A large count with three figures, for example "11.7 M"."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def sparkline(shares: Sequence[float], top: float) -> str:
    """One bar a share, low bands first, all of a table on the scale 0 to `top`."""
    steps = len(BARS) - 1
    return "".join(BARS[min(steps, round(steps * share / top))] for share in shares)


def markdown(text: str | None) -> str:
    """Text that shows as itself in a Markdown table cell: no markup, no HTML, no link, one line."""
    if not text:
        return NOTHING
    escaped = _MARKDOWN.sub(r"\\\1", html.escape(_one_line(text), quote=False))
    return re.sub(
        r"(?i)(://|www\.|@)", lambda found: f"{found[0][:-1]}&#{ord(found[0][-1])};", escaped
    )


def csv_text(text: str) -> str:
    """Text that a spreadsheet does not run as a formula: one gets a leading apostrophe."""
    line = _one_line(text)
    return f"'{line}" if line.startswith(_FORMULA) else line


def _one_line(text: str) -> str:
    """Control, format and separator characters, and runs of blanks, as one blank."""
    visible = (c if unicodedata.category(c)[0] not in "CZ" else " " for c in text)
    return " ".join("".join(visible).split())
