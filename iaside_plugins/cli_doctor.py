"""The `iaside doctor` command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.errors import InputError
from iaside_plugins.options import JsonFile, Quiet


def doctor(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Data folder, as RobustBench's")],
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """What a data tree lacks, and how to mend it, one line each; problems end with exit 2."""
    from iaside_plugins.adapters.doctor import PROBLEM, diagnose
    from iaside_plugins.store import write_json

    findings = diagnose(folder)
    found = {"findings": [dataclasses.asdict(finding) for finding in findings]}
    if json_file == "-":
        typer.echo(json.dumps(found, indent=1))
    else:
        if json_file is not None:
            write_json(Path(json_file), found)
        for finding in findings:
            if not quiet or finding.kind == PROBLEM:
                typer.echo(str(finding))
    problems = sum(finding.kind == PROBLEM for finding in findings)
    if problems:
        raise InputError(f"{problems} problems in {folder.name or folder}; each is named above")
