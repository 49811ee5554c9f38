"""What a user's words on the command line stand for: devices, protocols, budgets, folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from iaside_plugins.display.plots import figure_format
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.row_store import check_writable

IMAGES_AT_ONCE = 64  # read, and attacked under one seed, with --batch-size auto


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" is the first GPU if there is one, else the CPU.

    Raises:
        InputError: For an unknown device, or a GPU where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device must be auto, cpu or cuda[:i], got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda[:i], got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={name}: this computer has {torch.cuda.device_count()} CUDA GPUs")
    return device


def pick_devices(text: str) -> tuple[torch.device, str | None]:
    """Where the model is, and the devices among which images are shared, if there are several.

    Raises:
        InputError: As `pick_device`, for any of them.
    """
    devices = [pick_device(name.strip()) for name in text.split(",")]
    return devices[0], ",".join(map(str, devices)) if len(devices) > 1 else None


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


def budgets(text: str | None) -> list[float] | None:
    """Budgets of a list such as "2/255,8/255" or "0.1,0.5", each once; None for no text.

    Raises:
        InputError: For anything that is not a number or a fraction.
    """
    if text is None:
        return None
    found = []
    for part in text.split(","):
        above, slash, below = part.strip().partition("/")
        try:
            found.append(float(above) / (float(below) if slash else 1.0))
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"budgets are numbers or fractions such as 2/255,8/255; got {part.strip()!r}"
            ) from error
    return list(dict.fromkeys(found))


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
    save: Path | None = None, plot: Path | None = None, json_file: str | None = None,
    out: Path | None = None,
) -> None:  # fmt: skip
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
