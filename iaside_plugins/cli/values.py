"""What a user's words on the command line stand for: devices, protocols, budgets, folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from iaside_plugins.display.plots import figure_format
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import check_writable

IMAGES_AT_ONCE = 64  # read, and attacked under one seed, with --batch-size auto


def pick_batch_size(text: str) -> tuple[int | str, int]:
    """Rows in one forward pass (or "auto"), and images that are read and attacked together.

    Raises:
        InputError: For anything else.
    """
    if text == "auto":
        return text, IMAGES_AT_ONCE
    try:
        rows = int(text)
    except ValueError:
        rows = 0
    if rows < 1:
        raise InputError(f"batch_size must be 'auto' or an integer of at least 1, got {text!r}")
    return rows, rows


def pick_protocol(
    text: str | None, n_bands: int | None, seed: int, forwards: str | None = None
) -> Protocol:
    """A protocol from "default", "reference", a JSON file, or "field=value,field=value".

    Raises:
        InputError: For an unknown name or field, or a value out of range.
    """
    given: dict[str, Any] = {}
    make: Any = Protocol
    for part in (text or "default").split(","):
        key, equals, value = part.strip().partition("=")
        if equals:
            try:
                given[key] = json.loads(value)
            except ValueError:
                given[key] = value
        elif key == "reference":
            make = Protocol.reference
        elif Path(key).is_file():
            try:
                given.update(json.loads(Path(key).read_text()))
            except (ValueError, TypeError) as error:
                raise InputError(f"{key} is not a JSON file of fields: {error}") from error
        elif key != "default":
            raise InputError(
                f"unknown protocol {key!r}: expected default, reference, a JSON file of fields, "
                "or field=value pairs such as absence=gaussian,range_handling=clip"
            )
    given.setdefault("seed", seed)
    if n_bands is not None:
        given["n_bands"] = n_bands
    if forwards is not None:
        given["forwards"] = forwards
    given.pop("protocol_id", None)
    try:
        protocol: Protocol = make(**given)
    except TypeError as error:
        known = ", ".join(field.name for field in dataclasses.fields(Protocol))
        raise InputError(f"unknown protocol field ({error}); known: {known}") from error
    return protocol


def check_needs(needed: str, there: bool, **options: Any) -> None:
    """Refuse options that would be ignored without another one.

    Args:
        needed: The other option, for the message.
        there: Whether it was given.
        options: By their names; None stands for one that was not given.

    Raises:
        InputError: For an option that was given where the other was not.
    """
    given = [name for name, value in options.items() if value is not None]
    if given and not there:
        raise InputError(f"--{given[0].replace('_', '-')} needs {needed}")


def check_outputs(
    save: Path | None = None,
    plot: Path | None = None,
    json_file: str | None = None,
    out: Path | None = None,
) -> None:
    """Refuse outputs that could not be written, before the work and not after it.

    Raises:
        InputError: For a path that cannot be written, or a plot of another format.
        MissingExtraError: For a plot without matplotlib.
    """
    if plot is not None:
        figure_format(plot)
    json_path = None if json_file in (None, "-") else Path(str(json_file))
    for path in (save, plot, json_path, out):
        if path is not None and not (path is out and path.is_dir()):
            check_writable(path)
