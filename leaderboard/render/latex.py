"""The board as one LaTeX document whose tables can be copied into a paper (booktabs)."""

from __future__ import annotations

from collections.abc import Sequence

from iaside_plugins.leaderboard.board import Board, Section
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import Row
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
\newcommand{\iasidebar}[1]{\rule{2pt}{#1pt}\kern0.5pt}
\begin{document}
\pagestyle{empty}
\raggedright
"""
BAR = 8.0  # points, of the greatest share


def to_latex(board: Board) -> str:
    """Return a document that compiles with pdfLaTeX: facts, table and sentence of each table."""
    body = [_section(section) for section in board.sections]
    return PREAMBLE + ("".join(body) or "There are no entries yet.\n") + "\\end{document}\n"


def _section(section: Section) -> str:
    table, shown = section.table, section.columns
    bands, top = table.shares, table.top_share
    kinds = "".join("r" if column.kind == "number" else "l" for column in shown)
    lines = [
        rf"\section*{{{fmt.latex(heading(table))}}}",
        *(rf"\par {fmt.latex(line)}" for line in [*facts(table), *conclusions(section.statistics)]),
        r"\par\medskip",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        _line([fmt.latex(column.header) for column in shown]),
        r"\midrule",
        *(_line([_cell(c, row, bands, top) for c in shown]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\clearpage",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(column: Column, row: Row, bands: Sequence[str], top: float) -> str:
    if column.kind == "profile":
        return "".join(rf"\iasidebar{{{BAR * row[name] / top:.1f}}}" for name in bands)
    text = column.cell(row)
    return fmt.latex_number(text) if column.kind == "number" else fmt.latex(text)
