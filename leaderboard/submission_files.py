"""A commit's entries as plain files in another folder: nothing of it is checked out or run.

Git objects are read by their names: no filter, hook or attribute of the commit has a say. Only
regular files ``leaderboard/entries/<dataset>/<name>.json`` of at most the size of an entry are
written; whatever else lies under ``leaderboard/entries`` is named as a problem.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from iaside_plugins.entry.parse import MAX_BYTES
from iaside_plugins.errors import InputError
from iaside_plugins.storage.row_store import write_atomic

PLACE = "leaderboard/entries"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.json")
MAX_FILES = 10_000
REGULAR = "100644"
TIMEOUT = 60  # seconds


def extract(repository: Path, commit: str, target: Path) -> list[str]:
    """Write a commit's entries under ``target/entries``.

    Args:
        repository: A clone that has the commit.
        commit: Any name of it, such as a branch.
        target: A folder that is new or empty.

    Returns:
        Problems, one line each: files that no entry can be.

    Raises:
        InputError: git is absent or does not know the commit, or the folder is not empty.
    """
    if target.exists() and any(target.iterdir()):
        raise InputError(f"{target} is not empty; give a new folder")
    sha = _git(repository, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
    listing = _git(repository, "ls-tree", "-r", "-l", "-z", "--full-tree", sha.decode().strip(),
                   "--", PLACE)  # fmt: skip
    problems: list[str] = []
    (target / "entries").mkdir(parents=True, exist_ok=True)
    records = [record for record in listing.split(b"\0") if record]
    if len(records) > MAX_FILES:
        raise InputError(f"{len(records):,} files, expected at most {MAX_FILES:,} entries")
    for record in records:
        about, _, raw = record.partition(b"\t")
        mode, _, blob, size = about.decode().split()
        name = raw.decode("utf-8", "backslashreplace").removeprefix(f"{PLACE}/")
        if name == ".gitkeep":
            continue
        if (problem := _problem(name, mode, size)) is not None:
            problems.append(f"{name!r}: {problem}")
            continue
        write_atomic(target / "entries" / name, _git(repository, "cat-file", "blob", blob))
    return problems


def _problem(name: str, mode: str, size: str) -> str | None:
    """Why a file of the commit is no entry."""
    if not NAME.fullmatch(name):
        return "expected only files <dataset>/<entry_id>.json"
    if mode != REGULAR:
        return f"expected a plain file, got git's mode {mode}"
    if int(size) > MAX_BYTES:
        return f"{int(size):,} bytes, expected an entry of at most {MAX_BYTES:,}"
    return None


def _git(repository: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"git {arguments[0]} did not run: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise InputError(f"git {arguments[0]}: {said[0] if said else 'failed'}")
    return done.stdout
