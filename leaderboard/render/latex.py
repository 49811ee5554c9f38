r"""The board in LaTeX: tables to ``\input`` into a paper (booktabs), and a document of all of them.

A fragment is one table, at most 15 cm wide in the class article at 10pt. Its numbers are those of
the other renderers, at the same rounding, with their intervals small beside them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.board import Board, Section
from iaside_plugins.leaderboard.render.page import short_id
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import CORRUPTION_ERROR
from iaside_plugins.leaderboard.table.presentation import (
    Column,
    conclusions,
    facts,
    heading,
    main_attacks,
)

FOLDER = "latex"
PREAMBLE = r"""% Built from entries/ by `iaside leaderboard build`; do not edit.
% Each table is a file, for \input in a paper that uses [T1]{fontenc} and booktabs.
\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[a4paper,margin=2.5cm]{geometry}
\usepackage{booktabs}
\begin{document}
\pagestyle{empty}
\raggedright
"""
MACRO = r"\providecommand{\iasidebar}[2]{\rule[#1pt]{2pt}{#2pt}\kern0.5pt}"
BAR = 8.0  # points, of the greatest value
ZERO_LINE = r"\iasidebar{0}{0.3}"
NAME, TEXT, NUMBER = 90, 70, 54  # points that a column takes at most, without the space around it
ROOM = 425 - NAME  # points of 15 cm for the columns beside the name
GAP = 6  # points between columns
_SHOWN = re.compile(r"([^ ]+)( %)?(?: \[(.+), (.+)\])?( †)?")
# Where a text may be broken: after a sign, and within 16 letters and more without one.
_BREAKS = re.compile(r"(?<=[-_./])|(?<=[^\x00-\x7f])|(?<=[^-_./\s]{10})(?=[^-_./\s]{6})")


@dataclass(frozen=True)
class _Drawn:
    """One column of a fragment: its head, its width in points, and its cells in LaTeX."""

    head: str
    width: float
    cells: tuple[str, ...]
    kind: str = "r"


def to_latex(board: Board, parts: Collection[str] | None = None) -> str:
    """Return a document that compiles with pdfLaTeX: facts, fragments and findings of each table.

    Args:
        board: What it shows.
        parts: Names of the board's fragments, if they are made already; it reads the files.
    """
    names = fragments(board) if parts is None else parts
    body = [
        _section(section, [name for name in names if name.startswith(_stem(section))])
        for section in board.sections
    ]
    return PREAMBLE + ("".join(body) or "There are no entries yet.\n") + "\\end{document}\n"


def fragments(board: Board) -> dict[str, str]:
    """Return every table as a file, by its path in the board's folder."""
    return {name: text for section in board.sections for name, text in _fragments(section).items()}


def _stem(section: Section) -> str:
    return f"{FOLDER}/{short_id(section.statistics['id'])}-"


def _section(section: Section, names: Iterable[str]) -> str:
    table = section.table
    lines = [
        rf"\section*{{{fmt.latex(heading(table))}}}",
        *(rf"\par {fmt.latex(line)}" for line in [*facts(table), *conclusions(section.statistics)]),
        *(rf"\par\bigskip\input{{{name}}}" for name in names),
        r"\clearpage",
    ]
    return "\n".join(lines) + "\n"


def _fragments(section: Section) -> dict[str, str]:
    """Return the main table, the other columns, and the Shapley values by band."""
    main = _main(section)
    rest = [c for c in section.columns if c not in main and c.name != "model"]
    table = section.table
    bands = [
        _Drawn(f"band {k}", NUMBER, tuple(_nats(one, k) for one in table.evidence))
        for k in range(table.entries[0].protocol.n_bands)
    ]
    parts = {"main": [_drawn(section, column) for column in main]}
    for name, some in (("more", [_drawn(section, c) for c in rest]), ("bands", bands)):
        parts |= {f"{name}-{k}": part for k, part in enumerate(_narrow(some), start=1)}
    return {f"{_stem(section)}{name}.tex": _fragment(section, part) for name, part in parts.items()}


def _main(section: Section) -> list[Column]:
    """Return clean accuracy, mCE or else the mean error, robust accuracies and signed score."""
    by_name = {column.name: column for column in section.columns}
    attacks = [a.column for a in main_attacks(section.table) if a.column in by_name]
    error = "mce" if "mce" in by_name else CORRUPTION_ERROR
    wanted = ["clean_accuracy", error, *sorted(attacks, key=list(by_name).index)]
    return [by_name[name] for name in [*wanted, "signed_score"] if name in by_name]


def _narrow(columns: Sequence[_Drawn]) -> Iterator[list[_Drawn]]:
    """Yield the columns in groups that fit beside the names."""
    group: list[_Drawn] = []
    for column in columns:
        if group and sum(one.width + GAP for one in [*group, column]) > ROOM:
            yield group
            group = []
        group.append(column)
    if group:
        yield group


def _fragment(section: Section, columns: Sequence[_Drawn]) -> str:
    """Return one table, with what its numbers are of as comments."""
    about = [heading(section.table), *facts(section.table)]
    names = tuple(_broken(entry.model.name) for entry in section.table.entries)
    shown = [_Drawn("model", NAME, names, _paragraph(NAME)), *columns]
    lines = [
        *(f"% {fmt.latex(line)}" for line in about),
        "% Small numbers: 95 % interval over images.",
        MACRO,
        rf"{{\small\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}\renewcommand{{\arraystretch}}{{1.2}}%",
        rf"\begin{{tabular}}{{@{{}}{''.join(one.kind for one in shown)}@{{}}}}",
        r"\toprule",
        _line([one.head for one in shown]),
        r"\midrule",
        *(_line(cells) for cells in zip(*(one.cells for one in shown), strict=True)),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    return "\n".join(lines) + "\n"


def _drawn(section: Section, column: Column) -> _Drawn:
    """Return a column of the board in LaTeX."""
    table = section.table
    header = column.header.replace("unnormalised, ", "")
    if column.kind == "profile":
        cells = tuple(_bars(one, table.greatest) for one in table.evidence)
        return _Drawn(_head(header), max(NUMBER, 2.5 * len(table.evidence[0].nats)), cells)
    texts = [column.cell(row) for row in table.rows]
    if column.is_number:
        unit = [r"(\%)"] if any(" %" in text for text in texts) else []
        return _Drawn(_head(header, unit), NUMBER, tuple(map(_number, texts)))
    return _Drawn(_head(header), TEXT, tuple(map(_broken, texts)), _paragraph(TEXT))


def _paragraph(width: float) -> str:
    return f"p{{{width:g}pt}}"


def _head(header: str, unit: Sequence[str] = ()) -> str:
    """Return a column's head in short lines."""
    words = textwrap.wrap(header, 12, break_long_words=False, break_on_hyphens=False)
    lines = r"\\".join([*map(fmt.latex, words), *unit])
    return rf"\shortstack[r]{{{lines}}}"


def _number(text: str) -> str:
    """Return a number as formatted for all renderers, its interval small, its unit in the head."""
    found = _SHOWN.fullmatch(text)
    if found is None or found[3] is None:
        return fmt.latex_number(text.replace(" %", ""))
    mark = fmt.latex_number(found[5] or "")
    return f"${found[1]}_{{{found[3]}}}^{{{found[4]}}}$" + mark


def _nats(evidence: Evidence, band: int) -> str:
    return _number(fmt.signed_interval(evidence.nats[band], *evidence.intervals[band]))


def _broken(text: str) -> str:
    """Return a text whose long words may be broken too."""
    pieces = filter(None, _BREAKS.split(fmt.plain(text)))
    return r"\raggedright " + r"\hspace{0pt}".join(map(fmt.latex, pieces))


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \tabularnewline"


def _bars(evidence: Evidence, top: float) -> str:
    """Return a bar up or down from the zero line for each band whose interval excludes 0."""
    bars = [ZERO_LINE] * len(evidence.nats)
    for band in evidence.excludes_zero:
        height = BAR * abs(float(evidence.nats[band])) / top
        depth = 0.0 if evidence.nats[band] > 0 else -height
        bars[band] = rf"\iasidebar{{{depth:.1f}}}{{{height:.1f}}}"
    return "".join(bars)
