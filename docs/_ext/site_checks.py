"""A Sphinx extension: a dead link within the site, or anything loaded from elsewhere, is a warning.

Sphinx checks the links that it makes itself; this reads the pages as they were written.
"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from outside_links import BOARD
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """The links of a page, what can be linked to in it, and what it loads from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the links and anchors of one element."""
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
                if tag != "a" and urlsplit(value).netloc:
                    self.loaded.append(value)
            if value and name in ("id", "name"):
                self.anchors.add(value)


def problems(folder: Path) -> list[str]:
    """Return a line for every link to a file or an anchor that is not there, and every load.

    Pages of the board have tests of their own.
    """
    paths = [path for path in folder.rglob("*.html") if folder / BOARD not in path.parents]
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in paths}
    found = []
    for path, page in sorted(pages.items()):
        name = path.relative_to(folder).as_posix()
        found += [f"{name} loads {address}" for address in page.loaded]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            missing = anchor and target in pages and anchor not in pages[target].anchors
            if not target.is_file() or missing:
                found.append(f"{name} has a dead link: {link}")
    return found


def check(app: Sphinx, exception: Exception | None) -> None:
    """Warn of every problem of the built site."""
    if exception is None:
        for problem in problems(Path(app.outdir).resolve()):
            logger.warning("%s", problem)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, after the board is there."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
