"""What entries say of a model's accuracy, under corruption and under attack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iaside_plugins.budgets import format_budget, parse_budget
from iaside_plugins.errors import InputError

if TYPE_CHECKING:
    from iaside_plugins.entry.schema import Entry

STRONGEST = "autoattack"


def parse_files(files: Iterable[Path]) -> list[Entry]:
    """Parse the entries of files, or of all files in folders; they are not recomputed.

    Raises:
        InputError: For a file that is no sound entry.
    """
    from iaside_plugins.entry.parse import parse_entry
    from iaside_plugins.entry.read import read_bytes

    paths = [
        found
        for path in files
        for found in (sorted(path.rglob("*.json")) if path.is_dir() else [path])
    ]
    return [parse_entry(read_bytes(path), path.name) for path in paths]


def outcomes(entries: Sequence[Entry], weights_sha256: str, name: str) -> dict[str, float]:
    """Return clean accuracy, corruption error, and accuracy and retained share under attack.

    Of several entries of one model the first tells the clean accuracy and the corruption error;
    of a norm and budget the accuracy under AutoAttack counts, where there is one, or else the
    worst case of the entry's attacks. The retained share is accuracy under attack over the same
    entry's clean accuracy.

    Args:
        entries: Of any models.
        weights_sha256: Of the model's weights, which its entries name.
        name: Of the model, for the message.

    Raises:
        InputError: If no entry is of these weights, or they are of several data sets.
    """
    own = [entry for entry in entries if entry.model.weights_sha256 == weights_sha256]
    if not own:
        raise InputError(f"no entry is of the weights of {name}; leave entries=... out, or add it")
    if len(data := sorted({entry.data.name for entry in own})) > 1:
        raise InputError(
            f"the entries of {name} are of several data sets, {', '.join(data)}: give those of one"
        )
    own.sort(key=lambda entry: entry.benchmark is not None)  # the plain ones first
    out = {"clean accuracy": own[0].clean_accuracy.value}
    for entry in own:
        if entry.corruption is not None and "corruption error" not in out:
            out["corruption error"] = entry.corruption.unnormalised_mean_error.value
    found: dict[str, tuple[bool, float, float]] = {}
    for entry in own:
        for case in entry.adversarial.worst_case if entry.adversarial else ():
            budget = f"{case.norm} {format_budget(case.epsilon)}"
            strong = any(attack.startswith(STRONGEST) for attack in case.attacks)
            if budget not in found or (strong and not found[budget][0]):
                found[budget] = (strong, case.accuracy.value, entry.clean_accuracy.value)
    for budget, (_, robust, clean) in sorted(found.items(), key=_by_budget):
        out[f"accuracy {budget}"] = robust
        if clean > 0:
            out[f"retained {budget}"] = robust / clean
    return out


def _by_budget(item: tuple[str, tuple[bool, float, float]]) -> tuple[str, float]:
    norm, _, text = item[0].partition(" ")
    return norm, parse_budget(text)
