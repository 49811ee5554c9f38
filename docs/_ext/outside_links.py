"""A Sphinx extension: links from a page to files of the repository that are no page of the site.

On GitHub they lead to the file. Here they lead to the page of the site that holds its text, to the
repository where GitHub's workflow says which that is, and to a copy of the file otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
BOARD = "board"  # folder of the site with the board's page and files
PAGES = {
    "README.md": "index",
    "CONTRIBUTING.md": "contribute/code",
    "leaderboard/CONTRIBUTING.md": "contribute/entry",
    "leaderboard/attributions/README.md": "studies/attributions",
    "leaderboard/decomposition/README.md": "studies/decomposition",
    "leaderboard/quantised/README.md": "studies/quantised",
    "leaderboard/sensitivity/README.md": "studies/sensitivity",
    "leaderboard/spectra/README.md": "studies/spectra",
    "leaderboard/temperature/README.md": "studies/temperature",
}


def repository(environment: dict[str, str]) -> str | None:
    """Return the address under which GitHub shows the files of this build's commit, if any."""
    keys = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_SHA")
    if not all(environment.get(key) for key in keys):
        return None
    server, name, commit = (environment[key] for key in keys)
    return f"{server}/{name}/blob/{commit}"


def redirect(app: Sphinx, doctree: nodes.document) -> None:
    """Turn the links of one page that leave `docs/`."""
    here, address = Path(app.env.doc2path(app.env.docname)).parent, repository(dict(os.environ))
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link.get("refdomain") == "doc" and Path(link["reftarget"]).is_absolute():
            file = Path(link["reftarget"] + ".md")
            page = PAGES.get(file.relative_to(ROOT).as_posix())
            if page:
                link["reftarget"] = page
            else:
                link.replace_self(_link(link, file, here, address))
    for link in list(doctree.findall(addnodes.download_reference)):
        file = (here / link["reftarget"]).resolve()
        if Path(app.srcdir) not in file.parents:
            link.replace_self(_link(link, file, here, address))


def _link(old: nodes.Element, file: Path, here: Path, address: str | None) -> nodes.Element:
    """Return a link to the site's board, to the repository, or to a copy of the file."""
    new: nodes.Element
    if file == ROOT / "leaderboard" / "index.html":
        up = os.path.relpath(ROOT / "docs", here)
        new = nodes.reference(refuri=f"{up}/{BOARD}/index.html")
    elif address:
        new = nodes.reference(refuri=f"{address}/{file.relative_to(ROOT).as_posix()}")
    else:
        target = os.path.relpath(file, here)
        new = addnodes.download_reference(reftarget=target, refdoc=old["refdoc"], refexplicit=True)
    new += old.children
    return new


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, before it collects the files to copy."""
    app.connect("doctree-read", redirect, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
