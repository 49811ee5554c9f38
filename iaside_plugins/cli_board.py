"""The `iaside leaderboard` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.errors import InputError

board = typer.Typer(help="Check entries and build the tables.", rich_markup_mode=None)


@board.command()
def validate(files: Annotated[list[Path], typer.Argument(help="Entry files")]) -> None:
    """Check entries by recomputing what can be recomputed; problems end with exit 2."""
    from iaside_plugins.leaderboard.build import validate as check

    problems = check(files)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise InputError(f"{len(problems)} problems in {len(files)} files")
    typer.echo(f"{len(files)} valid")


FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Folder that holds entries/; default the checkout's")
]


@board.command()
def build(
    folder: FolderOption = None,
    check: Annotated[bool, typer.Option("--check", help="Compare only; stale: exit 2")] = False,
) -> None:
    """Build README.md and leaderboard.csv from the entries."""
    from iaside_plugins.leaderboard.build import build as make
    from iaside_plugins.leaderboard.build import default_folder

    stale = make(folder or default_folder(), check=check)
    if check and stale:
        raise InputError(f"stale: {', '.join(stale)}; run iaside leaderboard build")
    typer.echo("up to date" if check else f"built {folder or default_folder()}")


@board.command()
def add(file: Path, folder: FolderOption = None) -> None:
    """Check one entry and put it where the board reads it."""
    from iaside_plugins.leaderboard.build import add as put
    from iaside_plugins.leaderboard.build import default_folder

    typer.echo(
        f"added {put(file, folder or default_folder()).name}; now run iaside leaderboard build"
    )
