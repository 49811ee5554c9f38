"""A Sphinx extension: makes the pages, tables and figures that come from code and measured files.

They lie in `docs/generated` and `docs/reference/cli`, which git ignores, and are written anew by
every build. The board's own page and files go to `board/` of the site.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_pages
import concept_figures
import entry_page
import outside_links
import study_tables

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Of `leaderboard/`: code, and the studies, which have pages here.
NOT_OF_THE_BOARD = (
    *("*.py", "__pycache__", "render", "statistics", "studies", "table"),
    *("adversarial", "attributions", "criteria", "decomposition", "quantised"),
    *("sensitivity", "spectra", "temperature", "training"),
)


def make(app: Sphinx) -> None:
    """Write everything that is made, before Sphinx looks for pages."""
    docs = Path(app.srcdir)
    generated = docs / "generated"
    for folder in (generated, docs / "reference" / "cli"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    cli_pages.write(docs / "reference" / "cli")
    entry_page.write(generated / "entry.md")
    study_tables.write(generated)
    concept_figures.write(generated)


def add_board(app: Sphinx, exception: Exception | None) -> None:
    """Copy the board to the built site."""
    if exception is None:
        target = Path(app.outdir) / outside_links.BOARD
        shutil.rmtree(target, ignore_errors=True)
        ignore = shutil.ignore_patterns(*NOT_OF_THE_BOARD)
        shutil.copytree(outside_links.ROOT / "leaderboard", target, ignore=ignore)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", make)
    app.connect("build-finished", add_board)
    app.config.myst_substitutions = study_tables.facts()
    return {"parallel_read_safe": True, "parallel_write_safe": True}
