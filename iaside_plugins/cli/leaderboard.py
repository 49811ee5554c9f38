"""The `iaside leaderboard` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.cli.examples import epilog
from iaside_plugins.cli.outputs import tell
from iaside_plugins.errors import InputError

board = typer.Typer(help="Check entries and build the tables.", rich_markup_mode=None)


@board.command(epilog=epilog("leaderboard validate"))
def validate(files: Annotated[list[Path], typer.Argument(help="Entry files")]) -> None:
    """Check entries by recomputing what can be recomputed; problems end with exit 2."""
    from iaside_plugins.leaderboard.build import validate as check

    problems = check(files)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise InputError(f"{len(problems)} problems in {len(files)} files")
    tell(f"{len(files)} valid")


FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder that holds entries/", show_default="the checkout's"),
]


@board.command(epilog=epilog("leaderboard build"))
def build(
    folder: FolderOption = None,
    check: Annotated[bool, typer.Option("--check", help="Compare only; stale: exit 2")] = False,
) -> None:
    """Build the board's tables, statistics and schema from the entries."""
    from iaside_plugins.leaderboard.build import build as make
    from iaside_plugins.leaderboard.build import default_folder

    stale = make(folder or default_folder(), check=check)
    if check and stale:
        raise InputError(f"stale: {', '.join(stale)}; run iaside leaderboard build")
    tell("up to date" if check else f"built {folder or default_folder()}")


@board.command(epilog=epilog("leaderboard add"))
def add(
    files: Annotated[list[Path], typer.Argument(help="Entry files: all are added, or none")],
    folder: FolderOption = None,
    reason: Annotated[
        str | None, typer.Option(help="Why entries of the board are replaced")
    ] = None,
    supersedes: Annotated[
        str | None,
        typer.Option(help="Id of the one that is replaced", show_default="that of the same id"),
    ] = None,
) -> None:
    """Check entries and put them where the board reads them."""
    from iaside_plugins.leaderboard.build import add_all, default_folder

    places = add_all(files, folder or default_folder(), supersedes=supersedes, reason=reason)
    tell(f"added {', '.join(p.name for p in places)}; now run iaside leaderboard build")


@board.command(epilog=epilog("leaderboard rename"))
def rename(
    old: Annotated[str, typer.Argument(help="Name of a model, in its entries or as shown")],
    new: Annotated[str, typer.Argument(help="Name to show; the entries keep theirs")],
    folder: FolderOption = None,
) -> None:
    """Show a model under another name: written into board.toml, no entry changes."""
    from iaside_plugins.leaderboard.build import default_folder
    from iaside_plugins.leaderboard.build import rename as change

    shown = change(folder or default_folder(), old, new)
    tell(f"shown as {new}: {', '.join(shown)}; now run iaside leaderboard build")


@board.command(epilog=epilog("leaderboard space"))
def space(
    out: Annotated[Path, typer.Argument(help="Folder to write; it holds nothing else")],
    folder: FolderOption = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="Also write a GitHub workflow that publishes it")
    ] = False,
) -> None:
    """Write the board as a static Hugging Face Space, or for GitHub Pages; nothing is uploaded."""
    from iaside_plugins.leaderboard.build import default_folder
    from iaside_plugins.leaderboard.publish import write_pages, write_space

    n = write_space(folder or default_folder(), out)
    tell(f"{n} files in {out}; its page is {out / 'index.html'}")
    if pages:
        tell(f"{write_pages(out)} publishes it once both are committed")


@board.command(epilog=epilog("leaderboard schema"))
def schema() -> None:
    """Print the JSON Schema (2020-12) of an entry."""
    from iaside_plugins.entry.parse import entry_schema

    typer.echo(entry_schema(), nl=False)


@board.command(epilog=epilog("leaderboard submission"))
def submission(
    commit: Annotated[str, typer.Argument(help="Merge commit of a pull request: fetched, not run")],
    repository: Annotated[Path, typer.Option(help="Clone that has the commit")] = Path(),
    folder: FolderOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder for its entries and its board")
    ] = None,
    maintainer: Annotated[
        bool, typer.Option("--maintainer", help="Its author may set 'reproduced'")
    ] = False,
) -> None:
    """Check what a pull request does to the entries of this board; problems end with exit 2."""
    from iaside_plugins.leaderboard.build import default_folder
    from iaside_plugins.leaderboard.submission import check_commit

    found = check_commit(
        repository, commit, folder or default_folder(), out=out, maintainer=maintainer
    )
    for problem in found.problems:
        typer.echo(problem, err=True)
    if found.problems:
        raise InputError(f"{len(found.problems)} problems: {found.summary()}")
    tell(found.summary())


@board.command(epilog=epilog("leaderboard export"))
def export(
    entry: Annotated[Path, typer.Argument(help="Entry file")],
    to: Annotated[str, typer.Option("--to", help="robustbench, model-card, bibtex or hf")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File; for hf a folder", show_default="the screen")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="For hf: the images on the Hub, OWNER/NAME")
    ] = None,
    split: Annotated[str, typer.Option(help="For hf: split of that data set")] = "test",
) -> None:
    """Write one entry as RobustBench's JSON, a model card's evaluation, a BibTeX record or for hf.

    For hf these are files for the Hugging Face Hub: a model's .eval_results and model-index, and
    the eval.yaml of the benchmark that they are results of. Nothing is uploaded.
    """
    from iaside_plugins.entry.exports import export as text_of
    from iaside_plugins.entry.hub import files
    from iaside_plugins.entry.read import load_entries
    from iaside_plugins.storage.files import write_atomic

    one = load_entries([entry])[0]
    if to == "hf":
        if out is None or benchmark is None:
            raise InputError("--to hf needs --out DIR and --benchmark OWNER/NAME")
        for name, text in files(one, benchmark, split=split).items():
            write_atomic(out / name, text.encode())
            typer.echo(out / name)
    elif out is None:
        typer.echo(text_of(one, to), nl=False)
    else:
        write_atomic(out, text_of(one, to).encode())
