"""Checks of what an entry claims: whatever its own numbers determine is computed again.

Every problem is one line: JSON pointer, what was expected, what the entry holds.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from iaside_plugins.entry.build import entry_id
from iaside_plugins.entry.check_benchmark import benchmark_problems
from iaside_plugins.entry.check_intervals import (
    TOLERANCE,
    close,
    interval_problems,
    spectral_interval_problems,
)
from iaside_plugins.entry.check_perturbed import adversarial_problems, corruption_problems
from iaside_plugins.entry.check_text import text_problems
from iaside_plugins.entry.parse import MAX_BYTES, parse_entry, pointer
from iaside_plugins.entry.schema import Entry, Spectral
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import band_edges
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.shapley.score import importance_distribution, score, signed_score

Problems = Iterator[str]


def load_entries(source: Path | str | Iterable[Path | str]) -> list[Entry]:
    """Checked entries, sorted by entry_id.

    Args:
        source: A folder (all .json files in it, at any depth; each must be named after its
            entry), or files, whose names are only checked inside an ``entries/<dataset>`` folder.

    Raises:
        InputError: The folder or a file cannot be read, or an entry has problems; all are listed.
    """
    entries, problems = read_entries(source)
    if problems:
        raise InputError("\n".join(problems))
    return entries


def read_entries(source: Path | str | Iterable[Path | str]) -> tuple[list[Entry], list[str]]:
    """Entries that can be parsed, sorted by entry_id, and all problems; as `load_entries`."""
    in_folder = isinstance(source, (str, Path))
    if isinstance(source, (str, Path)):
        if not Path(source).is_dir():
            raise InputError(f"{source} is not a folder of entries")
        source = sorted(Path(source).rglob("*.json"))
    entries: list[Entry] = []
    names: list[str] = []
    problems: list[str] = []
    for file in map(Path, source):
        try:
            entry = parse_entry(read_bytes(file), file.name)
        except InputError as error:
            problems.append(str(error))
            continue
        entries.append(entry)
        names.append(file.name)
        on_board = in_folder or file.absolute().parent.parent.name == "entries"
        found = check_entry(entry, file.stem if on_board else entry.entry_id)
        problems += [f"{file.name}: {problem}" for problem in found]
    problems += [f"{names[k]}: {problem}" for k, problem in clashes(entries)]
    return sorted(entries, key=lambda entry: entry.entry_id), problems


def read_bytes(file: Path) -> bytes:
    """Bytes of an entry's file; InputError for a link, no file, too large or not readable."""
    if file.is_symlink():
        raise InputError(f"{file.name}: expected a file, got a symbolic link")
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # a folder, a pipe, a device without end
            raise InputError(f"{file.name}: expected a file")
        if found.st_size > MAX_BYTES:
            raise InputError(f"{file.name}: expected an entry of at most {MAX_BYTES:,} bytes")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error


def check_entry(entry: Entry, stem: str) -> list[str]:
    """Problems of one entry, empty if there are none.

    Args:
        entry: As parsed.
        stem: Name of its file without ``.json``.
    """
    problems = [*text_problems(entry), *interval_problems(entry), *_counts(entry)]
    try:
        protocol = Protocol.from_dict(entry.protocol.model_dump())
    except InputError as error:
        return [*problems, f"{pointer('protocol')}: {error}"]
    problems += _identity(entry, protocol, stem)
    for home, spectral in entry.spectra.items():
        problems += _spectral(spectral, protocol, pointer(*home))
        problems += spectral_interval_problems(spectral, protocol, pointer(*home))
    if entry.corruption is not None:
        problems += corruption_problems(entry.corruption)
    if entry.adversarial is not None:
        problems += adversarial_problems(entry.adversarial)
    return [*problems, *benchmark_problems(entry)]


def check_entries(entries: Iterable[Entry]) -> list[str]:
    """Problems between entries: the same id, or the same weights, protocol and images, twice."""
    return [problem for _, problem in clashes(entries)]


def clashes(entries: Iterable[Entry]) -> list[tuple[int, str]]:
    """As `check_entries`, each with the position of the later of the two entries."""
    problems: list[tuple[int, str]] = []
    seen: dict[tuple[str, ...], str] = {}
    for k, entry in enumerate(entries):
        run = (
            entry.model.weights_sha256,
            entry.protocol.protocol_id,
            entry.data.image_ids_sha256,
            entry.benchmark_id or "",
        )
        if (entry.entry_id,) in seen:
            problems.append((k, f"/entry_id: expected unique ids, got {entry.entry_id!r} twice"))
        elif run in seen:
            problem = (
                f"/model/weights_sha256: expected one entry for weights, protocol and images; "
                f"{entry.entry_id!r} has those of {seen[run]!r}"
            )
            problems.append((k, problem))
        seen[entry.entry_id,] = seen[run] = entry.entry_id
    return problems


def _identity(entry: Entry, protocol: Protocol, stem: str) -> Problems:
    named = (entry.data.name, entry.model.name, protocol, entry.benchmark_id)
    taken = entry.data.n_images + entry.data.n_unreadable
    allowed = [entry_id(*named)]
    if taken < entry.data.n_available:  # a selection may say so, and leave its plain name free
        allowed.append(entry_id(*named, taken))
    if entry.entry_id not in allowed:
        expected = " or ".join(map(repr, allowed))
        yield f"/entry_id: expected {expected}, got {entry.entry_id!r}"
    if entry.entry_id != stem:
        yield f"/entry_id: expected the file's name {stem!r}, got {entry.entry_id!r}"
    try:
        datetime.strptime(entry.provenance.date, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        yield f"/provenance/date: expected a date in UTC, got {entry.provenance.date!r}"


def _spectral(spectral: Spectral, protocol: Protocol, home: str) -> Problems:
    """Everything that follows from the value table, or without one from the Shapley values."""
    exact = protocol.estimator == "exact"
    psi = np.array(spectral.shapley_values)
    distribution = importance_distribution(psi)
    computed = {
        "band_edges": band_edges(protocol, spectral.image_size),
        "distribution": distribution,
        "score": score(distribution, protocol.beta),
        "signed_score": signed_score(distribution, protocol.beta),
        "efficiency_residual": psi.sum() - (spectral.ends[1] - spectral.ends[0]),
    }
    if exact != (spectral.value_table is not None):
        wanted = f"2**{protocol.n_bands} numbers" if exact else "null"
        yield f"{home}/value_table: expected {wanted} for estimator {protocol.estimator!r}"
    if spectral.value_table is not None:
        table = np.array(spectral.value_table)
        computed = {"shapley_values": shapley_values(table), "ends": table[[0, -1]], **computed}
    for name, expected in computed.items():
        yield from close(f"{home}/{name}", getattr(spectral, name), expected)
    if abs(spectral.efficiency_residual) > TOLERANCE:  # float64 throughout, whatever the precision
        yield f"{home}/efficiency_residual: expected 0, got {spectral.efficiency_residual!r}"
    tied = spectral.tied_bands
    if len(set(tied)) < len(tied) or psi[tied[0]] > psi.min() + TOLERANCE:
        yield (
            f"{home}/tied_bands: expected different bands, the least ({psi.argmin()}) first, "
            f"got {list(tied)}"
        )


def _counts(entry: Entry) -> Problems:
    """Numbers of images that must be equal, or not above one another."""
    data = entry.data
    if data.n_images > data.n_available:
        yield f"/data/n_images: expected at most {data.n_available}, got {data.n_images}"
    pairs = [("/clean_accuracy/n", entry.clean_accuracy.n, data.n_images)]
    for parts, spectral in entry.spectra.items():
        home, n = pointer(*parts), spectral.n_images
        if n > data.n_images:
            yield f"{home}/n_images: expected at most {data.n_images}, got {n}"
        elif n != data.n_images and spectral.image_ids_sha256 == data.image_ids_sha256:
            yield f"{home}/image_ids_sha256: expected another for {n} of {data.n_images} images"
        pairs.append((f"{home}/clean_accuracy/n", spectral.clean_accuracy.n, n))
    if entry.adversarial is not None and entry.adversarial.n_images > data.n_images:
        got = entry.adversarial.n_images
        yield f"/adversarial/n_images: expected at most {data.n_images}, got {got}"
    for place, got, expected in pairs:
        if got != expected:
            yield f"{place}: expected {expected} images, got {got}"
