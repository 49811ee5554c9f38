"""What a submission may do to the board: add entries; replace its own with a reason.

A submission is the board's entries as they would be after it. Nothing of it is executed, and it
changes nothing else: no code, no workflow, no file that judges it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.parse import MAX_BYTES, parse_entry
from iaside_plugins.entry.read import clashes, load_entries, read_bytes
from iaside_plugins.entry.schema import Entry
from iaside_plugins.errors import InputError, shown
from iaside_plugins.leaderboard.build import board_files, build, is_built
from iaside_plugins.leaderboard.settings import FILE, BoardSettings
from iaside_plugins.storage.files import write_atomic

MAX_CHANGED = 50  # entries in one submission
MAX_FILES = 10_000
MAX_BUILT = 100_000_000  # bytes of a file that the board's build writes
MAX_LISTED = 10
BOARD_PLACE = "leaderboard"
PLACE = f"{BOARD_PLACE}/entries"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.json")
REGULAR = "100644"  # git's mode of a plain file
TIMEOUT = 60  # seconds of one git command


@dataclass(frozen=True)
class SubmissionCheck:
    """What a submission does, and what is wrong with it.

    Attributes:
        added: Files that the board has not, as ``<dataset>/<name>.json``.
        changed: Files with other content than the board's.
        removed: Files of the board that are gone.
        problems: One line each, with file and JSON pointer; empty if it may be merged.
        others: Files beside the entries that it changes, which only a maintainer may; built files
            of the board that are what its entries give are not named.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    problems: tuple[str, ...]
    others: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return what it does, in one line."""
        parts = [
            f"{len(names)} {what} ({', '.join(names)})"
            for what in ("added", "changed", "removed")
            if (names := getattr(self, what))
        ]
        said = ", ".join(parts) or "no entry is added, changed or removed"
        return f"{said}; other files: {_listed(self.others)}" if self.others else said


def check_commit(
    repository: Path, commit: str, base: Path, *, out: Path | None = None, maintainer: bool = False
) -> SubmissionCheck:
    """Check the entries of a commit, which is neither checked out nor run.

    Args:
        repository: A clone that has the commit.
        commit: The board's branch with the submission merged into it.
        base: The board's folder before it.
        out: New folder for the commit's entries, and the board built from them if there is no
            problem; None to keep nothing.
        maintainer: See `check_submission`.

    Raises:
        InputError: The commit cannot be read, or the board itself has problems.
    """
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "board" if out is None else out
        strange = extract(repository, commit, target)
        sha = _sha(repository, commit)
        if (said := _blob(repository, sha, f"{BOARD_PLACE}/{FILE}")) is not None:
            write_atomic(target / FILE, said)
        found = check_submission(target, base, maintainer=maintainer)
        found = replace(found, problems=(*strange, *found.problems))
        others, stale = _beside(repository, sha, None if found.problems else target)
        if others and not maintainer and (found.added or found.changed or found.removed):
            stale = [
                *stale,
                "expected only files of leaderboard/entries beside an entry, as these say what an "
                f"entry must be; open another pull request for {_listed(others)}",
            ]
        found = replace(found, problems=(*found.problems, *stale), others=tuple(others))
        if out is not None and not found.problems:
            build(out)
    return found


def check_submission(candidate: Path, base: Path, *, maintainer: bool = False) -> SubmissionCheck:
    """Check the entries of a submission against the board that they would replace.

    Every new or changed entry is checked as `iaside leaderboard validate` does, all entries
    together must be unique, and beyond that

    - a changed entry, or one whose board entry is removed, must say in ``submission/supersedes``
      which file it replaces (its id and SHA-256) and why;
    - the replaced entry is of the same submitter, and of the same weights or the same model's
      name, unless a maintainer replaces it;
    - "reproduced" is a maintainer's word: a new or changed entry is "self-reported".

    Args:
        candidate: A folder with ``entries/<dataset>/*.json``, all entries after the submission.
        base: The board's folder, before it.
        maintainer: Whether a maintainer submits, who may set "reproduced", replace anybody's
            entry and change other files too.

    Raises:
        InputError: A folder has no entries folder, or the board itself has problems.
    """
    before, after = _files(base), _files(candidate)
    added = tuple(name for name in after if name not in before)
    changed = {name: sha for name, sha in before.items() if after.get(name, sha) != sha}
    removed = {name: sha for name, sha in before.items() if name not in after}
    replaced = changed | removed
    entries, problems = _parsed(candidate, [name for name in after if name in (*added, *changed)])
    for name, entry in entries.items():
        problems += [f"{name}: {p}" for p in _own_problems(name, entry, maintainer)]
    problems += _unclaimed(entries, changed, removed)
    if not maintainer:
        held, _ = _parsed(base, sorted(replaced))
        problems += [
            f"{name}: {problem}"
            for name, entry in entries.items()
            for old, other in held.items()
            if _supersedes(entry, old, replaced[old])
            for problem in _not_own(entry, other)
        ]
    if len(entries) > MAX_CHANGED:
        problems.append(f"expected at most {MAX_CHANGED} entries at a time, got {len(entries)}")
    unchanged, faults = _parsed(base, [name for name in before if name not in replaced])
    if faults:
        raise InputError("\n".join(faults))
    together = unchanged | entries
    names = list(together)
    problems += [f"{names[k]}: {p}" for k, p in clashes(together.values())]
    return SubmissionCheck(added, tuple(changed), tuple(removed), tuple(problems))


def _files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of entry files by ``<dataset>/<name>.json``, sorted."""
    home = folder / "entries"
    if not home.is_dir():
        raise InputError(f"{home} is not a folder of entries")
    return {
        file.relative_to(home).as_posix(): hashlib.sha256(read_bytes(file)).hexdigest()
        for file in sorted(home.rglob("*.json"))
    }


def _parsed(folder: Path, names: list[str]) -> tuple[dict[str, Entry], list[str]]:
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for name in names:
        try:
            entries[name] = parse_entry(read_bytes(folder / "entries" / name), name)
        except InputError as error:
            problems.append(str(error))
    return entries, problems


def _own_problems(name: str, entry: Entry, maintainer: bool) -> list[str]:
    """Return the problems of one entry by itself."""
    place = Path(name)
    problems = check_entry(entry, place.stem)
    if place.parent.as_posix() != entry.data.name:
        problems.append(f"/data/name: expected the folder's name {place.parent.as_posix()!r}")
    if entry.submission.status != "self-reported" and not maintainer:
        problems.append(
            "/submission/status: expected 'self-reported'; a maintainer who has run it again sets "
            f"{entry.submission.status!r}"
        )
    return problems


def _unclaimed(
    entries: Mapping[str, Entry], changed: Mapping[str, str], removed: Mapping[str, str]
) -> list[str]:
    """Return what is replaced without a claim of its successor, and claims of what is not replaced.

    Args:
        entries: New and changed ones, by name.
        changed: Name of every changed entry -> SHA-256 of the board's file.
        removed: The same of removed ones.
    """
    problems = [
        f"{name}: {_wanted(name, sha, 'other content')}"
        for name, sha in changed.items()
        if name in entries and not _supersedes(entries[name], name, sha)
    ]
    new = [entry for name, entry in entries.items() if name not in changed]
    problems += [
        f"{name}: {_wanted(name, sha, 'been removed')}"
        for name, sha in removed.items()
        if not any(_supersedes(entry, name, sha) for entry in new)
    ]
    replaced = [*changed.items(), *removed.items()]
    for name, entry in entries.items():
        claim = entry.submission.supersedes
        if claim is not None and not any(_supersedes(entry, *old) for old in replaced):
            problems.append(
                f"{name}: /submission/supersedes: expected an entry that this submission replaces, "
                f"by its id and SHA-256, got {claim.entry_id!r}"
            )
    return problems


def _supersedes(entry: Entry, name: str, sha256: str) -> bool:
    claim = entry.submission.supersedes
    return claim is not None and (claim.entry_id, claim.sha256) == (Path(name).stem, sha256)


def _not_own(entry: Entry, old: Entry) -> list[str]:
    """Return why an entry may not replace another one; empty if it may."""
    place = "/submission/supersedes"
    if entry.submission.submitter != old.submission.submitter:
        return [
            f"{place}: expected an entry of submitter {shown(entry.submission.submitter)}, got one "
            f"of {shown(old.submission.submitter)}; ask a maintainer to replace it"
        ]
    own, other = entry.model, old.model
    if own.weights_sha256 != other.weights_sha256 and own.name != other.name:
        return [
            f"{place}: expected an entry of the same model by its weights or name, {own.name!r}, "
            f"got one of {other.name!r}; ask a maintainer to replace it"
        ]
    return []


def _wanted(name: str, sha256: str, what: str) -> str:
    """Return what an entry must say to replace one of the board."""
    return (
        f"/submission/supersedes: expected {{'entry_id': {Path(name).stem!r}, 'sha256': "
        f"{sha256!r}, 'reason': ...}} in the entry that replaces it, as it has {what}"
    )


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
    sha = _sha(repository, commit)
    listing = _git(repository, "ls-tree", "-r", "-l", "-z", "--full-tree", sha, "--", PLACE)
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


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(shown(name) for name in names[:MAX_LISTED]) + more


def _beside(repository: Path, sha: str, board: Path | None) -> tuple[list[str], list[str]]:
    """Compare the files of a commit with those of the branch that is checked out.

    Args:
        repository: A clone with the board's branch checked out.
        sha: Of the submission's commit.
        board: The board with the commit's entries; None if they have problems.

    Returns:
        Changed files that are neither entries nor what the board's build writes, and problems of
        built files that differ from what the entries give.
    """
    changed = [path for path in _changed(repository, sha) if not path.startswith(f"{PLACE}/")]
    built: dict[str, str] = {}
    names = {path.removeprefix(f"{BOARD_PLACE}/") for path in changed}
    if board is not None and any(map(is_built, names)):
        built = board_files(load_entries(board / "entries"), BoardSettings.read(board))
    others, problems = [], []
    for path in changed:
        name = path.removeprefix(f"{BOARD_PLACE}/")
        left = name not in built and _listed_at(repository, sha, path)  # of a former table, say
        if path == name or not is_built(name) or (built and left):
            others.append(path)
        elif name in built and _blob(repository, sha, path) != built[name].encode():
            problems.append(
                f"{path}: expected what the entries give (run iaside leaderboard build), or the "
                "board's file unchanged; got other content"
            )
    return others, problems


def _changed(repository: Path, sha: str) -> list[str]:
    """Return the paths that a commit changes since it left the branch that is checked out."""
    since = "HEAD"
    with contextlib.suppress(InputError):  # without one in common: against the branch itself
        since = _git(repository, "merge-base", "HEAD", sha).decode().strip()
    flags = ("--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv")
    listing = _git(repository, "diff-tree", "-r", *flags, since, sha)
    return [os.fsdecode(path) for path in listing.split(b"\0") if path]


def _blob(repository: Path, sha: str, path: str) -> bytes | None:
    """Return the bytes of a plain file of a commit; None for anything else."""
    about = _listed_at(repository, sha, path).split()
    if len(about) < 4 or about[0].decode() != REGULAR or int(about[3]) > MAX_BUILT:
        return None
    return _git(repository, "cat-file", "blob", about[2].decode())


def _listed_at(repository: Path, sha: str, path: str) -> bytes:
    """Return git's line on a path of a commit; empty if it has none."""
    return _git(repository, "ls-tree", "-l", "-z", "--full-tree", sha, "--", path)


def _sha(repository: Path, commit: str) -> str:
    """Return the SHA of a commit by any name of it."""
    found = _git(repository, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
    return found.decode().strip()


def _problem(name: str, mode: str, size: str) -> str | None:
    """Return why a file of the commit is no entry; None if it may be one."""
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
