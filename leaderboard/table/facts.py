"""What a reader must know before comparing two rows of a table, as sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from iaside_plugins.budgets import format_budget
from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import AttackColumn, Table

Escape = Callable[[str | None], str]  # words of an entry to the renderer's own text


def heading(table: Table, escape: Escape = fmt.plain) -> str:
    """Data set (how many images, if not all), protocol, the benchmark that entries were made in."""
    first = table.entries[0]
    made, data = first.benchmark, first.data
    part = "" if data.n_images == data.n_available else f", {data.n_images} images"
    through = "" if made is None else f", RobustBench evaluation ({made.threat_model})"
    return f"{escape(data.name)}{part}, protocol {escape(first.protocol.protocol_id)}{through}"


def facts(table: Table, escape: Escape = fmt.plain) -> list[str]:
    """One sentence or two on images, protocol, corruptions and each threat.

    Args:
        table: Of the board.
        escape: What the renderer does to text of an entry; the rest needs no escape in Markdown.
    """
    first = table.entries[0]
    data, protocol, spectral = first.data, first.protocol, first.spectral
    notes = sorted({entry.data.note for entry in table.entries if entry.data.note})
    sizes = sorted({"x".join(map(str, e.spectral.image_size)) for e in table.entries})
    seeds = sorted({entry.protocol.seed for entry in table.entries})
    drawn = ", ".join(sorted({str(entry.data.seed) for entry in table.entries}))
    found = [
        f"Images: {escape(data.name)}, n = {data.n_images} (spectral: n = "
        f"{spectral.n_images}), seed {drawn}, ids {data.image_ids_sha256[:12]}."
        + "".join(f" Note: {escape(note)}" for note in notes),
        f"Protocol: {protocol.n_bands} bands, {escape(protocol.band_norm)}, absence "
        f"{escape(protocol.absence)}, range {escape(protocol.range_handling)}, "
        f"{escape(protocol.estimator)}, beta {protocol.beta:g}, temperature "
        f"{protocol.temperature:g}, seed {', '.join(map(str, seeds))}.",
        _corruption_fact(first, escape),
    ]
    found += [_attack_fact(threat, escape) for threat in table.threats]
    if len(sizes) > 1:
        found.append(
            f"Not comparable: bands in cycles/image, as input sizes differ ({', '.join(sizes)}); a "
            "band is a share of each model's own Nyquist frequency."
        )
    return found + _tie_fact(table, escape)


def conclusions(found: Mapping[str, Any]) -> list[str]:
    """What the statistics say of the comparison to look at first; plain text of entries in it."""
    said = [one["sentence"] for one in found["comparisons"] if one["id"] == found["primary"]]
    return said or [f"n = {found['n_models']}: too few models to compare scores with errors."]


def _tie_fact(table: Table, escape: Escape) -> list[str]:
    """Which intervals of scores are known to be too narrow: see `importance.ties`."""
    narrow = [
        escape(entry.model.name)
        for entry in table.entries
        if entry.spectral.score_intervals == "jackknife" and len(entry.spectral.tied_bands) > 1
    ]
    if not narrow:
        return []
    return [
        "Intervals of scores: the jackknife alone, which under ties at the least band covers less "
        f"than 95 %, for {', '.join(narrow)}; entries made since also reach over the ties."
    ]


def _corruption_fact(entry: Entry, escape: Escape) -> str:
    corruption = entry.corruption
    if corruption is None:
        return "Corruptions: not evaluated."
    size = "" if corruption.size is None else f" at {corruption.size} pixels"
    constants = "" if corruption.constants is None else f", constants of {corruption.constants}"
    missing = ", ".join(escape(name) for name in sorted(corruption.missing))
    generated = corruption.source == "generated"
    return (
        f"Corruptions: {'generated here' if generated else 'as distributed'}{size}{constants}, "
        f"JPEG {'on' if corruption.jpeg else 'off'}, seed {corruption.seed}, "
        f"n = {corruption.n_images}."
        + (" Not comparable with errors on the published files." if generated else "")
        + (f" Missing: {missing}; a mean over the others is not an mCE." if missing else "")
    )


def _attack_fact(threat: AttackColumn, escape: Escape) -> str:
    return (
        f"Attacks within {threat.norm} {format_budget(threat.epsilon)}: "
        f"{escape(', '.join(threat.attacks))}; n = {threat.n_images}."
    )
