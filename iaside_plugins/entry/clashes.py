"""Entries that cannot stand beside one another: the same run, id, protocol id or numbers twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from iaside_plugins.entry.schema import Entry, ProtocolGroup
from iaside_plugins.protocol import Protocol

EQUAL = 1e-9  # two models' means over images differ by far more, one model's by rounding alone
Clash = tuple[int, str]
Fingerprints = dict[tuple[str, int], list[tuple[int, tuple[float, ...]]]]


def clashes(entries: Iterable[Entry]) -> list[Clash]:
    """Return entries of one id, of the same weights, protocol and images, or of copied results.

    Protocols are compared by all their fields, as the short id can be made to agree.

    Returns:
        (position of the later of the two entries, problem).
    """
    held = list(entries)
    return sorted(_runs(held) + _protocols(held) + _copies(held), key=lambda clash: clash[0])


@lru_cache(maxsize=256)
def protocol_digest(group: ProtocolGroup) -> str:
    """Return the digest of the fields of an entry's protocol that change a number."""
    fields = group.model_dump(exclude={"protocol_id"})
    return Protocol.from_dict(fields).digest


def _digest(entry: Entry) -> str:
    try:
        return protocol_digest(entry.protocol)
    except ValueError:  # a problem of its own
        return entry.protocol.protocol_id


def _runs(entries: Sequence[Entry]) -> list[Clash]:
    problems: list[Clash] = []
    seen: dict[tuple[str, ...], str] = {}
    for k, entry in enumerate(entries):
        run = (
            entry.model.weights_sha256,
            _digest(entry),
            entry.data.image_ids_sha256,
            entry.benchmark_id or "",
        )
        name = ("id", entry.entry_id.casefold())  # one file, where a disk does not tell a from A
        if name in seen:
            problems.append(
                (k, f"/entry_id: expected unique ids, got {entry.entry_id!r} and {seen[name]!r}")
                if entry.entry_id != seen[name]
                else (k, f"/entry_id: expected unique ids, got {entry.entry_id!r} twice")
            )
        elif run in seen:
            problem = (
                f"/model/weights_sha256: expected one entry for weights, protocol and images; "
                f"{entry.entry_id!r} has those of {seen[run]!r}"
            )
            problems.append((k, problem))
        folder = ("data", entry.data.name.casefold())
        if seen.setdefault(folder, entry.data.name) != entry.data.name:
            problems.append(
                (k, f"/data/name: expected {seen[folder]!r} as others, got {entry.data.name!r}")
            )
        seen[name] = seen[run] = entry.entry_id
    return problems


def _protocols(entries: Sequence[Entry]) -> list[Clash]:
    """Return entries whose protocol has the short id of another one."""
    problems: list[Clash] = []
    seen: dict[str, tuple[str, Entry]] = {}
    for k, entry in enumerate(entries):
        digest = _digest(entry)
        first, other = seen.setdefault(entry.protocol.protocol_id, (digest, entry))
        if first != digest:
            fields = [
                name
                for name in ProtocolGroup.model_fields
                if getattr(entry.protocol, name) != getattr(other.protocol, name)
            ]
            problems.append(
                (
                    k,
                    f"/protocol/protocol_id: expected the id of one protocol; {other.entry_id!r} "
                    f"has {entry.protocol.protocol_id!r} with another {', '.join(fields)}",
                )
            )
    return problems


def _copies(entries: Sequence[Entry]) -> list[Clash]:
    """Return entries with results of another one under other weights."""
    found: Fingerprints = {}
    for k, entry in enumerate(entries):
        for place, numbers in _results(entry):
            if np.ptp(numbers) > EQUAL:  # of a constant model all values are 0
                found.setdefault((place, len(numbers)), []).append((k, numbers))
    problems: dict[int, str] = {}
    for (place, _), held in found.items():
        for first, later in _equal(held):
            k, other = max(first, later), entries[min(first, later)]
            if entries[k].model.weights_sha256 != other.model.weights_sha256:
                problems.setdefault(
                    k,
                    f"{place}: expected results of these weights, got those of {other.entry_id!r} "
                    "to the last digit, whose weights_sha256 is another; if it is one model "
                    "saved anew, replace that entry",
                )
    return list(problems.items())


def _results(entry: Entry) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the numbers of an entry that two models do not share, by their place."""
    yield "/spectral/shapley_values", entry.spectral.shapley_values
    for place, group in (
        ("/corruption/conditions", entry.corruption and entry.corruption.conditions),
        ("/adversarial/attacks", entry.adversarial and entry.adversarial.attacks),
    ):
        if group:
            yield place, tuple(part.probability_change.value for part in group)


def _equal(held: list[tuple[int, tuple[float, ...]]]) -> Iterator[tuple[int, int]]:
    """Yield pairs of positions whose numbers are equal: neighbours by their first number."""
    held = sorted(held, key=lambda item: item[1][0])
    rows = np.array([numbers for _, numbers in held])
    for at, (k, _) in enumerate(held):
        end = int(np.searchsorted(rows[:, 0], rows[at, 0] + EQUAL, side="right"))
        same = np.abs(rows[at + 1 : end] - rows[at]).max(axis=1, initial=0.0) <= EQUAL
        yield from ((k, held[at + 1 + int(j)][0]) for j in np.flatnonzero(same))
