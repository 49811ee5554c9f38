"""All pages of the board, by the names of their files."""

from __future__ import annotations

from iaside_plugins.entry.command import command
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.render import evidence, page
from iaside_plugins.leaderboard.render.html import render
from iaside_plugins.leaderboard.render.model_page import model_pages
from iaside_plugins.leaderboard.table.presentation import heading

FILES = {
    "leaderboard.csv": "the tables of the board, one row a model",
    "leaderboard.json": "the same with errors by corruption, every attack and provenance",
    "results.csv": "every number in a row of its own, with its interval",
    "models.csv": "one row an entry: the model, its weights, its images, its provenance",
    "data-dictionary.md": "what every column of these two means",
    "results-imagenet-c.csv": "results under the corruptions in the form of timm's tables",
    "stats.json": "every correlation with intervals and verdict",
    "stats.schema.json": "its JSON Schema",
    "entry.schema.json": "the JSON Schema of an entry",
    "scatter.vl.json": "the plots of the evidence page for Vega-Lite",
    "leaderboard.tex": "all tables for papers in one document; each is a file of latex/",
    "README.md": "the tables in Markdown",
}  # of the board's folder, without the pages


def pages(board: Board) -> dict[str, str]:
    """Return every HTML file of the board."""
    return {
        "index.html": page.to_html(board),
        "evidence.html": evidence.to_html(board),
        "downloads.html": _downloads(board),
        "add.html": _add(board),
        **model_pages(board),
    }


def _add(board: Board) -> str:
    """Return the page that says how a model of one's own comes onto the board."""
    tables = []
    for section in board.sections:
        entry = section.table.models[0].entries[0]
        notes = [entry.data.note] if entry.data.note else []
        if entry.corruption is not None and entry.corruption.mce is not None:
            reference = entry.corruption.mce.reference
            notes.append(f"{reference}.json is the entry of {reference}, the reference of the mCE.")
        tables.append(
            {"heading": heading(section.table), "command": command(entry, "MODEL"), "notes": notes}
        )
    return render("add.html", board, here="add.html", tables=tables)


def _downloads(board: Board) -> str:
    entries = sorted(entry.board_file for entry in board.entries)
    return render(
        "downloads.html", board, here="downloads.html", files=FILES.items(), entries=entries
    )
