"""What a pull request may do to the board, and that nothing in it is run or trusted."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from board_entries import Make, parsed

from iaside_plugins.entry.read import load_entries
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.build import BUILT, HOW_TO_ADD, add, board_files, is_built
from iaside_plugins.leaderboard.settings import FILE, BoardSettings
from iaside_plugins.leaderboard.submission import check_commit, check_submission, extract

git_needed = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def write(board: Path, raw: dict[str, Any]) -> Path:
    file = board / "entries" / raw["data"]["name"] / f"{raw['entry_id']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(raw), encoding="utf-8")
    return file


def supersedes(raw: dict[str, Any], old: Path, reason: str = "wrong images") -> dict[str, Any]:
    digest = hashlib.sha256(old.read_bytes()).hexdigest()
    claim = {"entry_id": old.stem, "sha256": digest, "reason": reason}
    return {**raw, "submission": {**raw["submission"], "supersedes": claim}}


@pytest.fixture
def boards(make_entry: Make, tmp_path: Path) -> tuple[Path, Path]:
    """The board with entries a and b, and a candidate with the same."""
    base, candidate = tmp_path / "base", tmp_path / "candidate"
    for k, name in enumerate("ab"):
        write(base, make_entry(name, k))
    shutil.copytree(base, candidate)
    return base, candidate


def file_of(board: Path, name: str) -> Path:
    return next((board / "entries").rglob(f"*--{name}--*.json"))


def test_nothing_changed(boards: tuple[Path, Path]) -> None:
    base, candidate = boards
    found = check_submission(candidate, base)
    assert (found.added, found.changed, found.removed, found.problems) == ((), (), (), ())
    assert found.summary() == "no entry is added, changed or removed"


def test_a_new_entry_is_welcome(make_entry: Make, boards: tuple[Path, Path]) -> None:
    base, candidate = boards
    file = write(candidate, make_entry("c", 2))
    found = check_submission(candidate, base)
    assert found.problems == ()
    assert found.added == (f"cifar10/{file.name}",)
    assert found.summary() == f"1 added (cifar10/{file.name})"


def test_a_wrong_number_is_named_with_file_and_pointer(
    make_entry: Make, boards: tuple[Path, Path]
) -> None:
    base, candidate = boards
    raw = make_entry("c", 2)
    raw["spectral"]["score"] += 0.01
    file = write(candidate, raw)
    (problem,) = check_submission(candidate, base).problems
    assert problem.startswith(f"cifar10/{file.name}: /spectral/score: expected")
    file.write_text("{")
    (problem,) = check_submission(candidate, base).problems
    assert problem.startswith(f"cifar10/{file.name}: expected JSON")


def test_reproduced_is_a_maintainers_word(make_entry: Make, boards: tuple[Path, Path]) -> None:
    base, candidate = boards
    raw = make_entry("c", 2)
    raw["submission"]["status"] = "reproduced"
    write(candidate, raw)
    (problem,) = check_submission(candidate, base).problems
    assert "/submission/status: expected 'self-reported'" in problem
    assert check_submission(candidate, base, maintainer=True).problems == ()
    # an entry that is on the board as reproduced may stay so
    write(base, raw)
    assert check_submission(candidate, base).problems == ()


def test_a_changed_entry_needs_the_replaced_file_and_a_reason(
    make_entry: Make, boards: tuple[Path, Path]
) -> None:
    base, candidate = boards
    old, new = file_of(base, "a"), make_entry("a", 5)
    name = f"cifar10/{old.name}"
    write(candidate, new)
    found = check_submission(candidate, base)
    assert (found.changed, len(found.problems)) == ((name,), 1)
    assert found.problems[0].startswith(f"{name}: /submission/supersedes: expected")
    assert hashlib.sha256(old.read_bytes()).hexdigest() in found.problems[0]
    write(candidate, supersedes(new, old))
    assert check_submission(candidate, base).problems == ()
    write(candidate, supersedes(new, file_of(base, "b")))  # another file than the one replaced
    assert any("supersedes" in problem for problem in check_submission(candidate, base).problems)
    empty = supersedes(new, old)
    empty["submission"]["supersedes"]["reason"] = ""
    write(candidate, empty)
    assert "/submission/supersedes/reason" in check_submission(candidate, base).problems[0]


def test_a_removed_entry_needs_one_in_its_place(
    make_entry: Make, boards: tuple[Path, Path]
) -> None:
    base, candidate = boards
    old = file_of(candidate, "a")
    old.unlink()
    found = check_submission(candidate, base)
    assert found.removed == (f"cifar10/{old.name}",)
    assert found.problems[0].startswith(f"cifar10/{old.name}: /submission/supersedes: expected")
    renamed = make_entry("renamed", 0)
    renamed["model"]["weights_sha256"] = make_entry("a", 0)["model"]["weights_sha256"]
    write(candidate, supersedes(renamed, file_of(base, "a")))
    assert check_submission(candidate, base).problems == ()


def test_a_claim_to_replace_must_be_true(make_entry: Make, boards: tuple[Path, Path]) -> None:
    base, candidate = boards
    write(candidate, supersedes(make_entry("c", 2), file_of(base, "a")))
    (problem,) = check_submission(candidate, base).problems
    assert "/submission/supersedes: expected an entry that this submission replaces" in problem


def test_the_same_run_twice_and_a_wrong_folder_are_named(
    make_entry: Make, boards: tuple[Path, Path]
) -> None:
    base, candidate = boards
    again = make_entry("again", 0)
    again["model"]["weights_sha256"] = make_entry("a", 0)["model"]["weights_sha256"]
    file = write(candidate, again)
    (problem,) = check_submission(candidate, base).problems
    assert problem.startswith(f"cifar10/{file.name}: /model/weights_sha256: expected one entry")
    (candidate / "entries" / "imagenet").mkdir()
    file.rename(candidate / "entries" / "imagenet" / file.name)
    assert any(
        problem.startswith(f"imagenet/{file.name}: /data/name: expected the folder's name")
        for problem in check_submission(candidate, base).problems
    )


def test_a_broken_board_is_no_fault_of_a_submission(boards: tuple[Path, Path]) -> None:
    base, candidate = boards
    for board in boards:
        file_of(board, "a").write_text("{}")
    with pytest.raises(InputError, match="Field required"):
        check_submission(candidate, base)
    with pytest.raises(InputError, match="is not a folder of entries"):
        check_submission(candidate / "nowhere", base)


# ---- through git ---------------------------------------------------------------------------
def git(repository: Path, *arguments: str) -> str:
    options = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(repository), *options, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(make_entry: Make, tmp_path: Path) -> Path:
    """A repository whose main branch holds a board with one entry, and a branch `pull`."""
    root = tmp_path / "repository"
    (root / "leaderboard").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    write(root / "leaderboard", make_entry("a"))
    (root / "leaderboard" / "entries" / ".gitkeep").touch()
    (root / "leaderboard" / "README.md").write_text("built")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "board")
    git(root, "checkout", "-q", "-b", "pull")
    return root


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "change")
    git(root, "checkout", "-q", "main")


@git_needed
def test_a_pull_request_is_read_and_not_checked_out(
    make_entry: Make, repository: Path, tmp_path: Path
) -> None:
    new = write(repository / "leaderboard", make_entry("b", 1))
    (repository / ".gitattributes").write_text("*.json filter=evil\n")
    (repository / "leaderboard" / "checks.py").write_text("raise SystemExit('run')")
    commit(repository)
    ran = tmp_path / "ran"
    git(repository, "config", "filter.evil.smudge", f"touch {ran}")
    out = tmp_path / "out"
    board = repository / "leaderboard"
    found = check_commit(repository, "pull", board, out=out, maintainer=True)
    assert found.problems == ()
    assert found.others == (".gitattributes", "leaderboard/checks.py")
    assert found.added == (f"cifar10/{new.name}",)
    assert not ran.exists()
    assert not new.exists()  # the working tree is still main's
    assert (repository / "leaderboard" / "README.md").read_text() == "built"
    built = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    entries = {f"entries/{path.parent.name}/{path.name}" for path in out.rglob("cifar10--*.json")}
    expected = board_files(load_entries(out / "entries"))
    assert any(name.startswith("latex/") for name in expected)
    assert built == {*expected, *entries, HOW_TO_ADD}
    assert len(entries) == 2


@git_needed
@pytest.mark.parametrize(
    "path",
    [
        "leaderboard/checks.py",
        ".github/workflows/entries.yml",
        "leaderboard/entries.mk",
        "README.md",
        "leaderboard/attributions/README.md",
        "a\nb",
    ],
)
def test_an_entry_comes_alone(make_entry: Make, repository: Path, path: str) -> None:
    write(repository / "leaderboard", make_entry("b", 1))
    other = repository / path
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("return []")
    commit(repository)
    found = check_commit(repository, "pull", repository / "leaderboard")
    (problem,) = found.problems
    assert problem.startswith("expected only files of leaderboard/entries beside an entry")
    assert problem.endswith(f"open another pull request for {path!r}")
    assert found.summary().endswith(f"; other files: {path!r}")
    assert found.others == (path,)


@git_needed
def test_code_without_an_entry_is_no_submission(repository: Path) -> None:
    (repository / "leaderboard" / "checks.py").write_text("")
    commit(repository)
    found = check_commit(repository, "pull", repository / "leaderboard")
    assert (found.problems, found.others) == ((), ("leaderboard/checks.py",))


@git_needed
def test_built_files_may_come_with_an_entry_if_they_are_its_own(
    make_entry: Make, repository: Path
) -> None:
    board = repository / "leaderboard"
    write(board, make_entry("b", 1))
    (board / "README.md").write_text(board_files(load_entries(board / "entries"))["README.md"])
    commit(repository)
    assert check_commit(repository, "pull", board).problems == ()
    git(repository, "checkout", "-q", "pull")
    (board / "README.md").write_text("b is the best")
    commit(repository)
    (problem,) = check_commit(repository, "pull", board).problems
    assert problem.startswith("leaderboard/README.md: expected what the entries give")


def test_the_names_of_built_files_are_known(make_entry: Make) -> None:
    assert set(board_files([])) == BUILT
    assert all(map(is_built, board_files(parsed(make_entry()))))
    assert not any(map(is_built, ("build.py", "latex", "latex/a/b.tex", "table/frame.py")))


@git_needed
def test_built_files_are_those_of_the_commits_board_toml(
    make_entry: Make, repository: Path
) -> None:
    board = repository / "leaderboard"
    write(board, make_entry("b", 1))
    (board / FILE).write_text("title = 'Mine'")
    (board / "latex").mkdir()
    (board / "latex" / "other.tex").write_text("left by a former table")
    files = board_files(load_entries(board / "entries"), BoardSettings(title="Mine"))
    (board / "README.md").write_text(files["README.md"])
    commit(repository)
    found = check_commit(repository, "pull", board)
    assert found.others == ("leaderboard/board.toml", "leaderboard/latex/other.tex")
    (problem,) = found.problems  # a contributor's entry comes alone
    assert "open another pull request for 'leaderboard/board.toml'" in problem
    assert check_commit(repository, "pull", board, maintainer=True).problems == ()


def test_a_stranger_replaces_nobodys_entry(make_entry: Make, boards: tuple[Path, Path]) -> None:
    base, candidate = boards
    old = file_of(base, "a")
    file_of(candidate, "a").unlink()
    write(candidate, supersedes(make_entry("c", 2), old))
    (problem,) = check_submission(candidate, base).problems
    assert "/submission/supersedes: expected an entry of the same model" in problem
    assert check_submission(candidate, base, maintainer=True).problems == ()
    other = supersedes(make_entry("c", 2), old, reason=" ")
    write(candidate, other)
    problems = check_submission(candidate, base, maintainer=True).problems
    assert any("/submission/supersedes/reason: expected text that" in p for p in problems)


def test_nor_one_of_another_submitter(make_entry: Make, boards: tuple[Path, Path]) -> None:
    base, candidate = boards
    new = supersedes(make_entry("a", 5), file_of(base, "a"))
    new["submission"]["submitter"] = "somebody else"
    write(candidate, new)
    (problem,) = check_submission(candidate, base).problems
    assert "expected an entry of submitter 'somebody else', got one of None" in problem
    assert check_submission(candidate, base, maintainer=True).problems == ()


@git_needed
def test_what_is_no_entry_is_named_and_not_written(
    make_entry: Make, repository: Path, tmp_path: Path
) -> None:
    home = repository / "leaderboard" / "entries"
    (home / "cifar10" / "run.sh").write_text("exit 1")
    (home / "cifar10" / "deep").mkdir()
    (home / "cifar10" / "deep" / "x.json").write_text("{}")
    (home / "cifar10" / "a b.json").write_text("{}")
    (home / "cifar10" / "link.json").symlink_to("/etc/hostname")
    large = home / "cifar10" / "large.json"
    large.write_bytes(b" " * 5_000_001)
    runnable = write(repository / "leaderboard", make_entry("b", 1))
    runnable.chmod(0o755)
    commit(repository)
    found = check_commit(repository, "pull", repository / "leaderboard")
    assert {problem.split(":")[0] for problem in found.problems} == {
        "'cifar10/run.sh'",
        "'cifar10/deep/x.json'",
        "'cifar10/a b.json'",
        "'cifar10/link.json'",
        "'cifar10/large.json'",
        f"'cifar10/{runnable.name}'",
    }
    target = tmp_path / "target"
    extract(repository, "pull", target)
    written = [path.name for path in target.rglob("*") if path.is_file()]
    assert written == [file_of(repository / "leaderboard", "a").name]


@git_needed
def test_unknown_commits_and_full_folders_are_refused(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "-q", "main")
    board = repository / "leaderboard"
    for name in ("nothing", "--upload-pack=x", "main:leaderboard"):
        with pytest.raises(InputError, match="git rev-parse"):
            check_commit(repository, name, board)
    with pytest.raises(InputError, match="git rev-parse"):
        check_commit(tmp_path / "absent", "main", board)
    with pytest.raises(InputError, match="is not empty"):
        extract(repository, "main", repository)


# ---- the same rules for `iaside leaderboard add` --------------------------------------------
def test_add_replaces_with_a_reason(make_entry: Make, boards: tuple[Path, Path]) -> None:
    base, _ = boards
    old = file_of(base, "a")
    digest = hashlib.sha256(old.read_bytes()).hexdigest()
    file = old.parents[2] / "new.json"
    file.write_text(json.dumps(make_entry("a", 5)))
    with pytest.raises(InputError, match=r"give a reason \(reason=\.\.\.\)"):
        add(file, base)
    with pytest.raises(InputError, match="give a reason why x is replaced"):
        add(file, base, supersedes="x")
    with pytest.raises(InputError, match="no such entry on the board"):
        add(file, base, supersedes="x", reason="y")
    assert add(file, base, reason="wrong images") == old
    claim = json.loads(old.read_text())["submission"]["supersedes"]
    assert claim == {"entry_id": old.stem, "sha256": digest, "reason": "wrong images"}


def test_add_replaces_an_entry_of_another_name(make_entry: Make, boards: tuple[Path, Path]) -> None:
    base, candidate = boards
    old = file_of(candidate, "a")
    renamed = make_entry("renamed", 0)
    renamed["model"]["weights_sha256"] = make_entry("a", 0)["model"]["weights_sha256"]
    file = candidate / "new.json"
    file.write_text(json.dumps(renamed))
    with pytest.raises(InputError, match="expected one entry for weights"):
        add(file, candidate)
    new = add(file, candidate, supersedes=old.stem, reason="named after its training")
    assert not old.exists()
    assert new.is_file()
    assert check_submission(candidate, base).problems == ()
