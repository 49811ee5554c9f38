"""How numbers and tables look in text, for every command and page."""

from __future__ import annotations

import math
import os
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


def plural(n: int, noun: str) -> str:
    """Return a number with its noun: "1 condition", "2 conditions"."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


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
    """Return text no wider than the terminal; only a word longer than that, as a path, is.

    Args:
        text: Lines.
        width: Columns of the terminal, or None where nothing need fit.
    """
    if width is None:
        return text
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
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


def aligned(
    rows: Sequence[Sequence[str]], *, n_names: int = 1, indent: str = "", width: int | None = None
) -> list[str]:
    """Return rows as lines with columns of equal width.

    Where they are wider than the terminal, cells of the first row are wrapped, and columns that
    still do not fit follow below, behind the names of their rows again: nothing is left out.

    Args:
        rows: Of equal length, the first one being the header.
        n_names: Number of leading columns that name a row.
        indent: Begins every line.
        width: Greatest width of a line; by default the terminal's.
    """
    room = terminal_width() if width is None else width
    lines = _lines(rows, indent)
    if room is None or max(map(len, lines)) <= room:
        return lines
    columns = [list(column) for column in zip(*_with_narrow_head(rows), strict=True)]
    names, rest = columns[:n_names], columns[n_names:]
    lines = []
    while rest:
        fit = next(
            (k for k in range(len(rest), 1, -1) if _width([*names, *rest[:k]], indent) <= room), 1
        )
        part = [row for row in zip(*names, *rest[:fit], strict=True) if any(row)]
        lines += ([""] if lines else []) + _lines(part, indent)
        rest = rest[fit:]
    return lines


def _width(columns: Sequence[Sequence[str]], indent: str) -> int:
    """Return the width of lines of such columns."""
    return len(indent) + sum(max(map(len, column)) + 2 for column in columns) - 2


def _lines(rows: Sequence[Sequence[str]], indent: str) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [indent + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _with_narrow_head(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return rows whose first one is wrapped, over several rows, to the width of those below."""
    cells = []
    for head, *body in zip(*rows, strict=True):
        room = max([1, *map(len, body), *map(len, head.split())])
        cells.append(textwrap.wrap(head, room, break_on_hyphens=False))
    height = max(map(len, cells))
    padded = [[""] * (height - len(cell)) + cell for cell in cells]
    return [*zip(*padded, strict=True), *map(tuple, rows[1:])]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first one being the header, as a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
