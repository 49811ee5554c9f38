"""What must hold of a built site: its links lead somewhere, and it needs no network."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, what can be linked to in it, and what it loads from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
                if tag != "a" and urlsplit(value).netloc:
                    self.loaded.append(value)
            if value and name in ("id", "name"):
                self.anchors.add(value)


def dead_links(folder: Path, *, but: str = "") -> list[str]:
    """Return "page: link" for every link to a file or an anchor that is not there.

    Pages below the folder `but` have tests of their own.
    """
    paths = [path for path in folder.rglob("*.html") if not but or folder / but not in path.parents]
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in paths}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            missing = anchor and target in pages and anchor not in pages[target].anchors
            if not target.is_file() or missing:
                dead.append(f"{path.relative_to(folder)}: {link}")
    return dead


def loaded_from_elsewhere(folder: Path) -> set[str]:
    """Return the addresses of scripts, styles and pictures that are not part of the site."""
    pages = (Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html"))
    return {address for page in pages for address in page.loaded}
