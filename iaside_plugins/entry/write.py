"""Entries on their way out: JSON values to a typed entry, checked and written to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaside_plugins.errors import InputError, shown
from iaside_plugins.storage.files import write_json

if TYPE_CHECKING:
    from iaside_plugins.entry.schema import Entry


def check_texts(model: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Refuse names and notes that an entry may not hold, before the work and not after it.

    Args:
        model: The entry's ``model`` group.
        data: Its ``data`` group without what only the run tells: counts and the images' digest.

    Raises:
        InputError: A text is too long, or holds a path, a host's name or a hidden character.
    """
    from iaside_plugins.entry.schema import DataGroup, ModelGroup, ValidationError
    from iaside_plugins.entry.texts import faults

    counts = {"n_images": 1, "n_unreadable": 0, "image_ids_sha256": "0" * 64}
    try:
        ModelGroup.model_validate_json(json.dumps(model))
        DataGroup.model_validate_json(json.dumps({**data, **counts}))
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(map(str, first["loc"]))
        raise InputError(
            f"{where} of the entry: {first['msg']}, got {shown(first['input'])}"
        ) from error
    for key, text in (*model.items(), *data.items()):
        if isinstance(text, str) and (wanted := faults(text, lines=key == "note")):
            raise InputError(f"{key} of the entry: expected {wanted[0]}, got {shown(text)}")


def typed_entry(values: Mapping[str, Any]) -> Entry:
    """Return the entry that JSON values make, with types, ranges and lengths checked.

    Raises:
        InputError: If the values are no entry (a defect of this package: please report it).
    """
    from iaside_plugins.entry.parse import parse_entry

    return parse_entry(json.dumps(values), f"{values['entry_id']}.json")


def write_entry(path: Path, entry: Entry) -> Path:
    """Check an entry by recomputation and write it; a folder gets it under its entry_id.

    Raises:
        InputError: If the file cannot be written, or a check fails (which would be a defect of
            this package: please report it).
    """
    from iaside_plugins.entry.checks import check_entry

    if path.is_dir():
        path = path / f"{entry.entry_id}.json"
    if problems := check_entry(entry, entry.entry_id):
        raise InputError(f"the entry does not pass its own checks: {problems[0]}")
    write_json(path, entry.model_dump(mode="json", exclude_unset=True))
    return path
