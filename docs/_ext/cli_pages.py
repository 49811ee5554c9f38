"""The pages of the commands, from their `--help`."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from iaside_plugins.cli.command import NAME, app


def write(folder: Path) -> None:
    """Write `COMMAND.md` for every command, and `index.md` with what each is for."""
    root = typer.main.get_command(app)
    rows = []
    for name, command in root.commands.items():
        text = get_docs_for_click(obj=command, ctx=typer.Context(command), call_prefix=NAME)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        rows.append(f"| [`{NAME} {name}`]({name}.md) | {command.get_short_help_str(200)} |")
    index = [
        "# Commands",
        "",
        "What `--help` says of each. Shared: [commands, models, images](../../commands.md).",
        "",
        "| command | what it does |",
        "|---|---|",
        *rows,
        "",
        "```{toctree}",
        ":hidden:",
        "",
        *root.commands,
        "```",
        "",
    ]
    (folder / "index.md").write_text("\n".join(index), encoding="utf-8")
