"""How numbers and tables look in text, for every command and page."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NOTHING = "–"  # a figure that does not exist


def number(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    spec: str = "+.2f",
    unit: str = "",
) -> str:
    """Return a number with its interval, for example "+0.60 [-0.24, +0.97]"; a dash for none.

    Args:
        value: The number; None or NaN where there is none.
        low: Lower end of its interval, None or NaN without one.
        high: Upper end.
        spec: Format of all three.
        unit: Follows the number.
    """
    if _missing(value):
        return NOTHING
    ends = interval(low, high, spec=spec)
    return f"{value:{spec}}{unit}" + (f" {ends}" if ends else "")


def interval(low: float | None, high: float | None, *, spec: str = "+.2f") -> str:
    """Return an interval, for example "[-0.24, +0.97]"; nothing where an end is missing."""
    return "" if _missing(low) or _missing(high) else f"[{low:{spec}}, {high:{spec}}]"


def row_number(row: Any, name: str, spec: str) -> str:
    """Return the number in a column of a row with the interval in `name_low` and `name_high`."""
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    return number(value, low, high, spec=spec)


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def proportion(share: Mapping[str, Any]) -> str:
    """Return a proportion of an entry in percent, with its interval and number of images."""
    ends = interval(*share["interval"], spec=".1%")
    return f"{share['value']:6.1%}  {ends}, n = {share['n']}"


def rounded_to_sum(start: float, parts: Sequence[float], total: float) -> list[float]:
    """Return start, parts and total in points with one decimal: as shown, start + parts = total.

    Start and total are rounded; of the parts those with the largest remainders are rounded up, as
    many as it takes, so that each is less than 0.2 from its value.

    Args:
        start: A share of 1.
        parts: Shares of 1.
        total: ``start + sum(parts)``.
    """
    tenths = 1000 * np.asarray(parts, dtype=np.float64)
    shown = np.floor(tenths + 1e-9)
    first, last = round(1000 * start), round(1000 * total)
    order = np.argsort(shown - tenths, kind="stable")  # the largest remainder first
    left = last - first - int(shown.sum())
    for k in range(abs(left)):
        shown[order[k % len(order)] if left > 0 else order[-1 - k % len(order)]] += np.sign(left)
    return [first / 10, *(shown / 10 + 0.0).tolist(), last / 10]


def fitted(text: str, width: int | None) -> str:
    """Return text whose prose is no wider than the terminal; rows of tables stay as they are.

    A row of a table is a line with two spaces or more between words.

    Args:
        text: Lines.
        width: Columns of the terminal, or None where nothing need fit.
    """
    if width is None:
        return text
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    if len(line) <= width or re.search(r"\S {2,}\S", line):
        return line
    lines = textwrap.wrap(
        line,
        width,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def terminal_width() -> int | None:
    """Return the columns of stdout's terminal, or of COLUMNS; None where there is neither."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    if not is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        return None
    return shutil.get_terminal_size().columns


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of equal width."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first one being the header, as a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
