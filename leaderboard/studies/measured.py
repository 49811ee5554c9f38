"""What studies read of a folder that `leaderboard/entries.mk` filled, beside what they had."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    nets = {**(known or {}), **{one["name"]: one for one in found}}
    return dict(sorted(nets.items(), key=lambda item: (item[1]["data"], item[0])))
