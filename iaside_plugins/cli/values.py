"""What the words on a command line stand for: batch sizes, protocols, numbers of channels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from iaside_plugins.errors import InputError, cut, shown
from iaside_plugins.protocol import CHOICES, Protocol
from iaside_plugins.storage.files import parse_json, read_json

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
IMAGES_AT_ONCE = 64  # read, and attacked under one seed, with --batch-size auto


def pick_batch_size(text: str) -> tuple[int | str, int]:
    """Return the rows of one forward pass, or "auto", and the images read and attacked together.

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
        raise InputError(
            f"batch_size must be 'auto' or an integer of at least 1, got {shown(text)}"
        )
    return rows, rows


def pick_channels(name: str, text: str | None) -> tuple[float, ...] | None:
    """Return the numbers per channel of "0.485,0.456,0.406", "0.5" or "imagenet".

    Args:
        name: "mean" or "std".
        text: As it was given, or None.

    Raises:
        InputError: For anything else.
    """
    if text is None:
        return None
    if text == "imagenet":
        return IMAGENET[name]
    try:
        return tuple(map(float, text.split(",")))
    except ValueError as error:
        raise InputError(
            f"{name} must be numbers, one a channel or one for all (0.485,0.456,0.406), or "
            f"imagenet, got {shown(text)}"
        ) from error


def pick_protocol(
    text: str | None, n_bands: int | None, seed: int, forwards: str | None = None
) -> Protocol:
    """Return a protocol from "default", "reference", a JSON file, or "field=value,field=value".

    Args:
        text: These, or an estimator's name alone, such as "exact", also several with commas; what
            is said here, and by the options below, goes before the fields of a file.
        n_bands: Number of bands, or None for the protocol's.
        seed: Where the protocol names none.
        forwards: Its ``forwards``; "auto" for "fast" where the protocol names none and takes it.

    Raises:
        InputError: For an unknown name or field, a value out of range, or two values of a field.
    """
    filed: dict[str, Any] = {}
    said: dict[str, Any] = {}
    make: Any = Protocol
    for part in (text or "default").split(","):
        key, equals, value = part.strip().partition("=")
        if equals:
            found: Any = value
            try:
                found = parse_json(value)
            except ValueError as error:
                if value.startswith(("[", "{")):
                    raise InputError(f"{key}={cut(value, 80)} is not JSON: {error}") from error
            _say(said, key, found)
        elif key == "reference":
            make = Protocol.reference
        elif key in CHOICES["estimator"]:
            _say(said, "estimator", key)
        elif Path(key).is_file() if key == "default" else _exists(key):
            try:
                filed.update(read_json(Path(key)))
            except (ValueError, TypeError) as error:
                raise InputError(f"{key} is not a JSON file of fields: {error}") from error
        elif key != "default":
            raise InputError(
                f"unknown protocol {shown(key)}: expected default, exact, permutation, "
                "regression, reference, a JSON file of fields, or field=value pairs such as "
                "'absence=gaussian,range_handling=clip'"
            )
    if n_bands is not None:
        _say(said, "n_bands", n_bands)
    if forwards not in (None, "auto"):
        _say(said, "forwards", forwards)
    given = {"seed": seed, **filed, **said}
    given.pop("protocol_id", None)
    try:
        protocol: Protocol = make(**given)
    except TypeError as error:
        known = ", ".join(field.name for field in dataclasses.fields(Protocol))
        raise InputError(f"unknown protocol field ({error}); known: {known}") from error
    if forwards == "auto" and "forwards" not in given and not protocol.is_script:
        return dataclasses.replace(protocol, forwards="fast")
    return protocol


def _say(said: dict[str, Any], field: str, value: Any) -> None:
    """Keep a field of a protocol; raise InputError if another value was said before."""
    if said.setdefault(field, value) != value:
        raise InputError(
            f"'{field}' of the protocol is said to be {shown(said[field])} and {shown(value)}: "
            "say one of them"
        )


def _exists(name: str) -> bool:
    """Return whether there is a file, or something else that cannot be read as one."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # the name is too long for one
        return False


def check_needs(needed: str, there: bool, **options: Any) -> None:
    """Raise InputError for options that would be ignored without another one.

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


def check_clash(other: str, there: bool, **options: Any) -> None:
    """Raise InputError for options that another one leaves no room for.

    Args:
        other: The other option, for the message.
        there: Whether it was given.
        options: By their names; None stands for one that was not given.

    Raises:
        InputError: For an option that was given with the other.
    """
    given = [name for name, value in options.items() if value is not None]
    if given and there:
        raise InputError(f"--{given[0].replace('_', '-')} and {other} exclude each other")
