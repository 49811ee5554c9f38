"""The `iaside doctor` command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.adapters.robustbench_adapter.doctor import PROBLEM, diagnose
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.outputs import Outputs
from iaside_plugins.errors import InputError
from iaside_plugins.workflows.installation import check_installation


def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="Data folder, as RobustBench's; without one, the installation"
        ),
    ] = None,
    json_file: opt.JsonFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """What a data tree or the installation lacks, and how to mend it; problems end with exit 2."""
    findings = check_installation() if folder is None else diagnose(folder)
    lines = [str(f) for f in findings if not quiet or f.kind == PROBLEM]
    found = {"findings": [dataclasses.asdict(finding) for finding in findings]}
    Outputs(json_file, quiet=not lines).write(found, "\n".join(lines))
    problems = sum(finding.kind == PROBLEM for finding in findings)
    if problems:
        where = "the installation" if folder is None else folder.name or folder
        raise InputError(f"{problems} problems in {where}; each is named above")
