"""The board as a folder that a host serves: a static Hugging Face Space, or GitHub Pages.

Both are written, none is uploaded. The folder holds the page, every file of the board and its
entries, so that all links of the page lead somewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

from iaside_plugins.entry.yaml import to_yaml
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.build import HOW_TO_ADD, board_files, entries_on, how_to_add
from iaside_plugins.leaderboard.settings import FILE, BoardSettings
from iaside_plugins.storage.files import write_atomic

SPACE = {"emoji": "📊", "colorFrom": "blue", "colorTo": "gray", "sdk": "static", "pinned": False}
MADE = "# Made by `iaside leaderboard space`: "  # how a folder of this command is known again
WORKFLOW = ".github/workflows/board-pages.yml"
_SAFE = re.compile(r"[A-Za-z0-9_./-]+")
PAGES = """\
# Written by `iaside leaderboard space --pages`: publishes the folder below on GitHub Pages, as it
# is committed. In the repository's settings, Pages must have "GitHub Actions" as its source.
name: board

on:
  push:
    branches: [main]
    paths: ["{folder}/**"]
  workflow_dispatch:

permissions:
  contents: read
  pages: write
  id-token: write

concurrency:
  group: pages
  cancel-in-progress: false

jobs:
  publish:
    runs-on: ubuntu-latest
    timeout-minutes: 10
    environment:
      name: github-pages
      url: ${{{{ steps.deployment.outputs.page_url }}}}
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
        with:
          persist-credentials: false
      - uses: actions/configure-pages@983d7736d9b0ae728b81ab479565c72886d7745b # v5.0.0
      - uses: actions/upload-pages-artifact@56afc609e74202658d3ffba0e8f6dda462b719fa # v3.0.1
        with:
          path: "{folder}"
      - id: deployment
        uses: actions/deploy-pages@d6db90164ac5ed86f2b6aed7e0febac5b3c0c03e # v4.0.5
"""


def write_space(folder: Path | str, out: Path | str) -> int:
    """Write a board as a static Space of the Hugging Face Hub.

    Args:
        folder: The board; its entries decide what is written, not files that were built before.
        out: A new folder, or one that this wrote: files that no longer belong to it are removed,
            but for those that begin with a dot, as git's.

    Returns:
        The number of files.

    Raises:
        InputError: The board has problems, or `out` holds other files.
    """
    folder, out = Path(folder), Path(out)
    before = _written(out)
    settings = BoardSettings.read(folder)
    entries = entries_on(folder, required=True)
    files = {name: text.encode() for name, text in board_files(entries, settings).items()}
    files["README.md"] = _front_matter(settings).encode() + files["README.md"]
    for entry in entries:
        files[entry.board_file] = (folder / entry.board_file).read_bytes()
    for name, default in ((HOW_TO_ADD, how_to_add()), (FILE, None)):
        data = (folder / name).read_bytes() if (folder / name).is_file() else default
        if data is not None:
            files[name] = data
    for name, data in files.items():
        write_atomic(out / name, data)
    for name in before - files.keys():
        (out / name).unlink()
    return len(files)


def _written(out: Path) -> set[str]:
    """Return the files of a folder that `write_space` may write to, but for hidden ones."""
    found = {
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if path.is_file() and not path.relative_to(out).parts[0].startswith(".")
    }
    readme = out / "README.md"
    if found and not (readme.is_file() and f"\n{MADE}" in readme.read_text(errors="replace")):
        raise InputError(f"{out} holds other files; give a new folder, or one of this command")
    return found


def _front_matter(settings: BoardSettings) -> str:
    """Return what a Space's README.md begins with: its title, and that it is served as it is."""
    about = to_yaml({"title": settings.title, **SPACE, "app_file": "index.html"})
    return f"---\n{MADE}change the board, not these files.\n{about}---\n"


def write_pages(out: Path | str) -> Path:
    """Write a GitHub workflow that publishes a folder of the repository on GitHub Pages.

    Args:
        out: The folder, inside a git repository.

    Returns:
        The workflow's file.

    Raises:
        InputError: The folder is in no repository, or its name needs quoting.
    """
    out = Path(out).resolve()
    root = next((parent for parent in out.parents if (parent / ".git").exists()), None)
    if root is None:
        raise InputError(f"{out} is in no git repository; run git init above it first")
    name = out.relative_to(root).as_posix()
    if not _SAFE.fullmatch(name):
        raise InputError(f"expected a folder's name of letters, digits and _.-, got {name!r}")
    write_atomic(root / WORKFLOW, PAGES.format(folder=name).encode())
    return root / WORKFLOW
