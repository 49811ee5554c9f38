"""The board as one LaTeX document whose tables can be copied into a paper (booktabs)."""

from __future__ import annotations

from collections.abc import Sequence

from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.board import Board, Section
from iaside_plugins.leaderboard.render.grids import profiles
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import Row, Table
from iaside_plugins.leaderboard.table.presentation import (
    Column,
    conclusions,
    facts,
    heading,
)

PREAMBLE = r"""% Built from entries/ by `iaside leaderboard build`; do not edit.
% A table in a paper needs \usepackage[T1]{fontenc}, \usepackage{booktabs} and \iasidebar.
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[paperwidth=120cm,paperheight=80cm,margin=2cm]{geometry}
\usepackage{booktabs}
\newcommand{\iasidebar}[2]{\rule[#1pt]{2pt}{#2pt}\kern0.5pt}
\begin{document}
\pagestyle{empty}
\raggedright
"""
BAR = 8.0  # points, of the greatest value
ZERO_LINE = r"\iasidebar{0}{0.3}"


def to_latex(board: Board) -> str:
    """Return a document that compiles with pdfLaTeX: facts, table and sentence of each table."""
    body = [_section(section) for section in board.sections]
    return PREAMBLE + ("".join(body) or "There are no entries yet.\n") + "\\end{document}\n"


def _section(section: Section) -> str:
    table, shown = section.table, section.columns
    top = table.greatest
    kinds = "".join("r" if column.is_number else "l" for column in shown)
    lines = [
        rf"\section*{{{fmt.latex(heading(table))}}}",
        *(rf"\par {fmt.latex(line)}" for line in [*facts(table), *conclusions(section.statistics)]),
        r"\par\medskip",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        _line([fmt.latex(column.header) for column in shown]),
        r"\midrule",
        *(
            _line([_cell(c, row, one, top) for c in shown])
            for row, one in zip(table.rows, table.evidence, strict=True)
        ),
        r"\bottomrule",
        r"\end{tabular}",
        *_profile_lines(table),
        r"\clearpage",
    ]
    return "\n".join(lines) + "\n"


def _profile_lines(table: Table) -> list[str]:
    """Return the Shapley values with their intervals, one row a model."""
    grid = profiles(table)
    names = [entry.model.name for entry in table.entries]
    return [
        rf"\par\medskip {fmt.latex(grid.note)}\par\medskip",
        rf"\begin{{tabular}}{{l{'r' * len(grid.headers)}}}",
        r"\toprule",
        _line(["model", *grid.headers]),
        r"\midrule",
        *(
            _line([fmt.latex(name), *map(fmt.latex_number, cells)])
            for name, cells in zip(names, grid.rows, strict=True)
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(column: Column, row: Row, evidence: Evidence, top: float) -> str:
    if column.kind == "profile":
        return _bars(evidence, top)
    text = column.cell(row)
    return fmt.latex_number(text) if column.is_number else fmt.latex(text)


def _bars(evidence: Evidence, top: float) -> str:
    """Return a bar up or down from the zero line for each band that is told from 0."""
    bars = [ZERO_LINE] * len(evidence.nats)
    for band in evidence.told:
        height = BAR * abs(float(evidence.nats[band])) / top
        depth = 0.0 if evidence.nats[band] > 0 else -height
        bars[band] = rf"\iasidebar{{{depth:.1f}}}{{{height:.1f}}}"
    return "".join(bars)
