"""A Sphinx extension: makes the pages, tables and figures that come from code and measured files.

They lie in `docs/generated` and `docs/reference/cli`, which git ignores, and are written anew by
every build.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_pages
import concept_figures
import entry_page
import study_tables

if TYPE_CHECKING:
    from sphinx.application import Sphinx


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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", make)
    app.config.myst_substitutions = study_tables.facts()
    return {"parallel_read_safe": True, "parallel_write_safe": True}
