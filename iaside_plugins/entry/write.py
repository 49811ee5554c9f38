"""TODO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iaside_plugins.errors import InputError
from iaside_plugins.storage.files import write_json


def check_texts(model: dict[str, Any], data: dict[str, Any]) -> None:
    """Refuse names and notes that an entry may not hold, before the work and not after it."""
    from iaside_plugins.entry.check_text import faults
    from iaside_plugins.entry.schema import DataGroup, ModelGroup, ValidationError

    counts = {"n_images": 1, "n_unreadable": 0, "image_ids_sha256": "0" * 64}
    try:
        ModelGroup.model_validate_json(json.dumps(model))
        DataGroup.model_validate_json(json.dumps({**data, **counts}))
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(map(str, first["loc"]))
        raise InputError(f"{where} of the entry: {first['msg']}, got {first['input']!r}") from error
    for key, text in (*model.items(), *data.items()):
        if isinstance(text, str) and (wanted := faults(text)):
            raise InputError(f"{key} of the entry: expected {wanted[0]}, got {text!r}")


def write_entry(path: Path, entry: dict[str, Any]) -> Path:
    """Validate an entry by recomputation and write it; a folder gets it under its entry_id.

    Raises:
        InputError: If the file cannot be written, or a check fails (which would be a defect of
            this package: please report it).
    """
    from iaside_plugins.entry.checks import check_entry
    from iaside_plugins.entry.parse import parse_entry

    if path.is_dir():
        path = path / f"{entry['entry_id']}.json"
    parsed = parse_entry(json.dumps(entry), path.name)
    problems = check_entry(parsed, entry["entry_id"])
    if problems:
        raise InputError(f"the entry does not pass its own checks: {problems[0]}")
    write_json(path, entry)
    return path
