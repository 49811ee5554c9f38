"""What studies read of a folder that `leaderboard/entries.mk` filled, beside what they had."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from iaside_plugins.errors import InputError
from iaside_plugins.storage.files import read_json

CRITERIA = Path(__file__).resolve().parents[1] / "criteria"
FAMILIES, PHOTOGRAPHS = "families.json", "photographs.json"  # of CIFAR-10 and of ImageNet


def run(main: Callable[[list[str]], None]) -> None:
    """Run a study with the arguments of its command; end with one line on an InputError."""
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(str(error))


def family_of(name: str) -> str:
    """Return a network's family, by `FAMILIES` or `PHOTOGRAPHS`.

    Raises:
        InputError: If neither names it.
    """
    cifar, photographs = (read_json(CRITERIA / file) for file in (FAMILIES, PHOTOGRAPHS))
    found = cifar.get(name) or photographs.get(name, {}).get("family")
    if found is None:
        raise InputError(f"{CRITERIA}: expected a family of {name} in {FAMILIES} or {PHOTOGRAPHS}")
    return str(found)


def folder_of(argument: str) -> Path:
    """Return a folder that was given on a command line; end with one line if it is none."""
    folder = Path(argument)
    if not folder.is_dir():
        sys.exit(f"{argument}: expected the folder that leaderboard/entries.mk wrote (OUT=...)")
    return folder


def networks(folder: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the JSON files of a folder say of networks, by name, those of CIFAR-10 first.

    Args:
        folder: Holds a file a network, with `name` and `data`.
        known: Of other folders, by name: networks that this one lacks.
    """
    found = [read_json(file) for file in folder.glob("*.json")]
    nets = {**(known or {}), **{one["name"]: one for one in found}}
    return dict(sorted(nets.items(), key=lambda item: (item[1]["data"], item[0])))
