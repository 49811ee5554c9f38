"""What every command does with what it found: JSON where asked for, a summary for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from iaside_plugins.storage.row_store import write_json


def show(json_file: str | None, data: dict[str, Any], text: str, quiet: bool) -> None:
    """JSON where asked for, and the summary unless quiet or stdout is taken by the JSON.

    Raises:
        InputError: If the file cannot be written.
    """
    if json_file == "-":
        typer.echo(json.dumps(data, indent=1, allow_nan=False))
        return
    if json_file is not None:
        write_json(Path(json_file), data)
    if not quiet:
        typer.echo(text)
