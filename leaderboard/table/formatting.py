"""How numbers and text look on the board: rounded, with percent signs, escaped."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from iaside_plugins.display.text import NOTHING as NOTHING
from iaside_plugins.display.text import number
from iaside_plugins.importance.evidence import Evidence

BARS = "▁▂▃▄▅▆▇█"
BELOW, INCLUDES_ZERO = "▽", "·"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#!|~$^])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",  # after \\ they would be its argument
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    NOTHING: "--",
    "\N{ZERO WIDTH SPACE}": "{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"$\dagger$",
}
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"'}
_LIGATURE = re.compile(r"([-,])(?=\1)")  # two of them would become one other sign
_SIGN = re.compile(r"(?<![\w.])([-+])(?=\d)")
# Where a cell may begin, whatever separates cells (or a blank before = and @), and then a formula;
# wide signs too. Quotes and blanks before it are no help.
_FORMULA = re.compile("(^|[;,|:\t]| (?=[\"'=@＝＠][^ ]))(?=[ \"']*[=+\\-@＝＋－＠])")


def percent(value: float) -> str:
    """Format a proportion as a percentage with one decimal: "93.3 %"."""
    return number(100 * value, spec=".1f", unit=" %")


def percent_interval(value: float, low: float, high: float) -> str:
    """Format a proportion with its interval: "93.3 % [88.1, 96.3]"."""
    return number(100 * value, 100 * low, 100 * high, spec=".1f", unit=" %")


def signed_interval(value: float, low: float, high: float) -> str:
    """Format a signed number with its interval: "-0.142 [-0.180, -0.104]"."""
    return number(value, low, high, spec="+.3f")


def number_interval(value: float, low: float, high: float) -> str:
    """Format an unsigned number with its interval: "0.142 [0.104, 0.180]"."""
    return number(value, low, high, spec=".3f")


def signed(value: float) -> str:
    """Format a signed number: "-0.142"."""
    return number(value, spec="+.3f")


def ratio(value: float, reference: str | None) -> str:
    """Format a fraction of a reference model's error: "0.764 of AlexNet"."""
    return NOTHING if math.isnan(value) else f"{value:.3f} of {plain(reference)}"


def correlation(estimate: Mapping[str, Any]) -> str:
    """Format a correlation with its interval over models: "+0.60 [-0.24, +0.97]"."""
    return number(estimate["value"], *(estimate.get("interval") or ()))


def p_value(value: float | None) -> str:
    """Format a p-value with two significant digits."""
    return NOTHING if value is None else f"{value:.2g}"


def percent_tick(value: float) -> str:
    """Format a proportion on an axis: "40 %"."""
    return f"{100 * value:.3g} %"


def signed_tick(value: float) -> str:
    """Format a signed number on an axis: "+0.2"."""
    return "0" if abs(value) < 1e-12 else f"{value:+.3g}"


def ratio_tick(value: float) -> str:
    """Format a ratio on an axis: "0.8"."""
    return f"{value:.3g}"


def count(value: float) -> str:
    """Format a large count with three figures: "11.7 M"."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def sparkline(evidence: Evidence, top: float) -> str:
    """Draw one sign a band, low bands first: a bar on the table's scale 0 to `top` in nats.

    `BELOW` stands for a value below 0, `INCLUDES_ZERO` for an interval that does.
    """
    steps = len(BARS) - 1
    signs = [INCLUDES_ZERO] * len(evidence.nats)
    for band in evidence.below:
        signs[band] = BELOW
    for band in evidence.above:
        signs[band] = BARS[min(steps, round(steps * float(evidence.nats[band]) / top))]
    return "".join(signs)


def plain(text: str | None) -> str:
    """Return text of an entry on one line, or a dash if missing; renderers escape it."""
    return _one_line(text or "") or NOTHING


def markdown(text: str | None) -> str:
    """Escape text for a Markdown table cell: no markup, no HTML, no link, one line."""
    escaped = _MARKDOWN.sub(r"\\\1", html.escape(plain(text), quote=False))
    return re.sub(
        r"(?i)(://|www\.|@)", lambda found: f"{found[0][:-1]}&#{ord(found[0][-1])};", escaped
    )


def csv_text(text: str) -> str:
    """Escape text that a spreadsheet would run as a formula by an apostrophe before it.

    A spreadsheet may be set to another separator than the file's, so a cell of it may begin within
    a text.
    """
    return _FORMULA.sub(r"\1'", _one_line(text))


def latex(text: str | None) -> str:
    """Escape text for LaTeX (T1 encoding): no command, no argument, one line.

    A character that pdfLaTeX cannot set without further packages shows as its code point.
    """
    apart = _LIGATURE.sub("\\1\N{ZERO WIDTH SPACE}", plain(text))
    return "".join(_LATEX.get(c) or _latex_letter(c) for c in apart)


def latex_number(text: str) -> str:
    """Format a number as the functions above do, with a minus sign instead of a hyphen."""
    return _SIGN.sub(r"$\1$", text.replace("%", r"\%").replace(NOTHING, _LATEX[NOTHING])).replace(
        "†", _LATEX["†"]
    )


def _latex_letter(letter: str) -> str:
    """Return one character: ASCII as it is, a letter with one accent as a command, or U+XXXX."""
    if letter.isascii():
        return letter
    base, *accents = list(unicodedata.normalize("NFD", letter))
    if base.isascii() and len(accents) == 1 and accents[0] in _ACCENTS:
        return f"\\{_ACCENTS[accents[0]]}{{{base}}}"
    return f"\\texttt{{U+{ord(letter):04X}}}"


def _one_line(text: str) -> str:
    """Replace control, format and separator characters, and runs of blanks, by one blank."""
    visible = (c if unicodedata.category(c)[0] not in "CZ" else " " for c in text)
    return " ".join("".join(visible).split())
