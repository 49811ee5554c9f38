"""The board as text: Markdown for people, CSV with raw numbers; same rows, same order."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from iaside_plugins.leaderboard import formatting as fmt
from iaside_plugins.leaderboard.entry import Entry
from iaside_plugins.leaderboard.frame import (
    TEXTS,
    Row,
    Table,
    Threat,
    concatenated,
    records,
    tables,
)
from iaside_plugins.leaderboard.perturbed import GROUPS

Column = tuple[str, str, Callable[[Row], str]]  # header, frame column it needs, cell

INTRODUCTION = """\
# Leaderboard

Built from `entries/` by `iaside leaderboard build`; do not edit. Raw numbers: `leaderboard.csv`.
How to add a model: `CONTRIBUTING.md`.

- One table holds one data set, one protocol and the same images. Numbers of different tables are
  not comparable, nor with published numbers on other images.
- Rows stand by clean accuracy, highest first, then by name. The order ranks nothing else.
- Brackets are 95 % intervals over images (Wilson for proportions, jackknife for scores). They say
  nothing about other training runs of a model. ↑ more is better, ↓ less is better.
- The signed score is above 0 where importance leans to low frequencies, below 0 where it leans to
  high ones. The score is its absolute value (Luo et al., TMLR 2024), which cannot tell the two
  apart. Compare neither across numbers of bands.
- Importance: share of each band, lowest frequency first; one scale a table.
- Robust accuracy is the worst case: an image counts where it survives every attack named. Gradient
  attacks of fixed steps bound robustness from above.
"""
NO_ENTRIES = "\nThere are no entries yet.\n"


def to_csv(entries: Sequence[Entry]) -> str:
    """All entries, one row each, at full precision; the keys of the table are its columns."""
    frame = concatenated(tables(entries))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([fmt.csv_text(name) for name in frame.columns])
    for row in records(frame):
        writer.writerow([_raw(name, value) for name, value in row.items()])
    return file.getvalue()


def _raw(name: Any, value: Any) -> str:
    """A cell of the CSV file: text made safe, numbers as Python writes them, nothing if missing."""
    if value is None or pd.isna(value):
        return ""
    return fmt.csv_text(str(value)) if name in TEXTS else repr(value)


def to_markdown(entries: Sequence[Entry]) -> str:
    """The board's README: what its numbers mean, then one section a table."""
    parts = tables(entries)
    sections = [_section(table) for table in parts]
    return INTRODUCTION + ("".join(sections) if parts else NO_ENTRIES)


def _section(table: Table) -> str:
    first = table.entries[0]
    columns = [column for column in _columns(table) if bool(table.frame[column[1]].notna().any())]
    made = first.benchmark
    through = "" if made is None else f", RobustBench evaluation ({made.threat_model})"
    lines = [
        "",
        f"## {fmt.markdown(first.data.name)}, protocol "
        f"{fmt.markdown(first.protocol.protocol_id)}{through}",
        "",
        *(f"- {line}" for line in _facts(table)),
        "",
        _line([header for header, _, _ in columns]),
        _line(["---"] * len(columns)),
        *(_line([cell(row) for _, _, cell in columns]) for row in records(table.frame)),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _facts(table: Table) -> list[str]:
    """What the reader must know before comparing two rows."""
    first = table.entries[0]
    data, protocol, spectral = first.data, first.protocol, first.spectral
    notes = sorted({entry.data.note for entry in table.entries if entry.data.note})
    sizes = sorted({"x".join(map(str, e.spectral.image_size)) for e in table.entries})
    seeds = sorted({entry.protocol.seed for entry in table.entries})
    drawn = ", ".join(sorted({str(entry.data.seed) for entry in table.entries}))
    facts = [
        f"Images: {fmt.markdown(data.name)}, n = {data.n_images} (spectral: n = "
        f"{spectral.n_images}), seed {drawn}, ids {data.image_ids_sha256[:12]}."
        + "".join(f" Note: {fmt.markdown(note)}" for note in notes),
        f"Protocol: {protocol.n_bands} bands, {fmt.markdown(protocol.band_norm)}, absence "
        f"{fmt.markdown(protocol.absence)}, range {fmt.markdown(protocol.range_handling)}, "
        f"{fmt.markdown(protocol.estimator)}, beta {protocol.beta:g}, temperature "
        f"{protocol.temperature:g}, seed {', '.join(map(str, seeds))}.",
        _corruption_fact(first),
    ]
    facts += [_attack_fact(threat) for threat in table.threats]
    if len(sizes) > 1:
        facts.append(
            f"Not comparable: bands in cycles/image, as input sizes differ ({', '.join(sizes)}); a "
            "band is a share of each model's own Nyquist frequency."
        )
    return facts + _rivals(len(table.entries))


def _corruption_fact(entry: Entry) -> str:
    corruption = entry.corruption
    if corruption is None:
        return "Corruptions: not evaluated."
    size = "" if corruption.size is None else f" at {corruption.size} pixels"
    constants = "" if corruption.constants is None else f", constants of {corruption.constants}"
    missing = ", ".join(fmt.markdown(name) for name in sorted(corruption.missing))
    generated = corruption.source == "generated"
    return (
        f"Corruptions: {'generated here' if generated else 'as distributed'}{size}{constants}, "
        f"JPEG {'on' if corruption.jpeg else 'off'}, seed {corruption.seed}, "
        f"n = {corruption.n_images}."
        + (" Not comparable with errors on the published files." if generated else "")
        + (f" Missing: {missing}; a mean over the others is not an mCE." if missing else "")
    )


def _attack_fact(threat: Threat) -> str:
    return (
        f"Attacks within {threat.norm} {fmt.epsilon(threat.epsilon)}: "
        f"{fmt.markdown(', '.join(threat.attacks))}; n = {threat.n_images}."
    )


def _rivals(n: int) -> list[str]:
    """A warning against reading a correlation off the table."""
    if n < 2:
        return []
    claim = "too few to compare" if n < 30 else "this page does not compare"
    return [
        f"n = {n} models: {claim} scores with errors; clean accuracy is the rival that such a "
        "comparison must beat."
    ]


def _columns(table: Table) -> list[Column]:
    """All columns a Markdown table may have; those without a value are left out."""
    n_bands = table.entries[0].protocol.n_bands
    shares = [f"share_{k}" for k in range(n_bands)]
    top = float(table.frame[shares].to_numpy().max())
    return [
        ("model", "model", lambda row: fmt.markdown(row["model"])),
        ("training", "training", lambda row: fmt.markdown(row["training"])),
        ("parameters", "n_parameters", lambda row: fmt.count(row["n_parameters"])),
        _estimate("clean accuracy ↑", "clean_accuracy", fmt.percent_interval),
        _estimate("signed score (+ low, - high bands)", "signed_score", fmt.signed_interval),
        _estimate("score", "score", fmt.number_interval),
        (
            "importance, low to high",
            "share_0",
            lambda row: fmt.sparkline([row[name] for name in shares], top),
        ),
        *_corruption_columns(table),
        *(_threat_column(threat) for threat in table.threats),
        ("status", "status", lambda row: fmt.markdown(row["status"])),
    ]


def _estimate(header: str, name: str, show: Callable[[float, float, float], str]) -> Column:
    return (header, name, lambda row: show(row[name], row[f"{name}_low"], row[f"{name}_high"]))


def _corruption_columns(table: Table) -> list[Column]:
    corruption = table.entries[0].corruption
    if corruption is None:
        return []
    k = corruption.unnormalised_mean_error.n_corruptions
    columns = [
        _estimate(
            f"mean corruption error (unnormalised, {k} of 15) ↓",
            "mean_corruption_error_unnormalised",
            fmt.percent_interval,
        ),
        ("mCE ↓", "mce", lambda row: fmt.ratio(row["mce"], row["mce_reference"])),
    ]
    for group, members in GROUPS.items():
        present = len(set(members) - set(corruption.missing))
        part = "" if present == len(members) else f" ({present} of {len(members)})"
        columns.append(_share(f"{group}{part} ↓", f"error_{group}"))
    return [*columns, _share("mean change of p(true) ↓", "mean_probability_change")]


def _share(header: str, name: str) -> Column:
    return (header, name, lambda row: fmt.percent(row[name]))


def _threat_column(threat: Threat) -> Column:
    header = f"robust accuracy {threat.norm} {fmt.epsilon(threat.epsilon)} ↑"
    return _estimate(header, threat.column, fmt.percent_interval)
