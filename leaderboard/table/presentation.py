"""What every renderer shows of a table, as plain text: heading, facts and columns.

Renderers escape text; they neither round numbers nor rename columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from iaside_plugins.budgets import format_budget
from iaside_plugins.display.masking import masking_reasons
from iaside_plugins.entry.schema import Entry
from iaside_plugins.importance.chance import chance
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import CORRUPTION_ERROR, GROUPS, Row, Table
from iaside_plugins.leaderboard.table.rows import AttackColumn
from iaside_plugins.leaderboard.table.splits import corruption_split

Escape = Callable[[str | None], str]  # words of an entry to the renderer's own text
OVERVIEW, ROBUSTBENCH, SPECTRUM = "overview", "robustbench", "spectrum"
VIEWS = (OVERVIEW, ROBUSTBENCH, SPECTRUM)  # choices of columns; "all" is one more
AT_CHANCE = "At chance: the clean accuracy is not above that of guessing (exact binomial test)"
FEW = 3  # corruptions that a heading names
MARK = "†"  # at a robust accuracy that may be too high


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        header: Plain text, with an arrow where more (↑) or less (↓) is better.
        name: Column of the frame that it shows; it sorts by it, and is left out without a value.
        cell: Plain text of a row.
        kind: "text" and "ratio" (a number, then a name) hold words of an entry, to be escaped;
            "number" does not; "share" and "lean" are numbers that may also be drawn as a bar from
            0 to 1 and as a point on an axis; "profile" and "split" say one thing of every band,
            and may be drawn too.
        views: Of `VIEWS`, in which the page shows it.
        has_interval: Whether the frame has an interval beside the number.
    """

    header: str
    name: str
    cell: Callable[[Row], str]
    kind: Literal["text", "number", "ratio", "share", "lean", "profile", "split"] = "number"
    views: tuple[str, ...] = ()
    has_interval: bool = False

    @property
    def is_number(self) -> bool:
        """Whether its text is a number, which needs no escape."""
        return self.kind in ("number", "share", "lean")


def columns(table: Table) -> list[Column]:
    """Return the columns that have a value in any row of the table."""
    return [c for c in _all(table) if bool(table.frame[c.name].notna().any())]


def _all(table: Table) -> list[Column]:
    top = table.greatest
    by_id = dict(zip((entry.entry_id for entry in table.entries), table.evidence, strict=True))
    splits = {entry.entry_id: corruption_split(entry.decomposition) for entry in table.entries}
    return [
        Column("model", "model", lambda row: fmt.plain(row["model"]), "text", VIEWS),
        Column("training", "training", lambda row: fmt.plain(row["training"]), "text", VIEWS),
        *_attack_columns(table),
        *_group_columns(table),
        *_mean_error_columns(table),
        _estimate("clean accuracy ↑", "clean_accuracy", fmt.percent_interval, "number", VIEWS),
        Column(
            "error by band, low to high (clean + bands = error, %)",
            "error_by_band_clean",
            lambda row: str(splits[row["entry_id"]] or fmt.NOTHING),
            "split",
            (OVERVIEW, SPECTRUM),
        ),
        Column(
            f"evidence by band, low to high (full bar: {top:.2f} nats)",
            "shapley_value_0",
            lambda row: fmt.sparkline(by_id[row["entry_id"]], top),
            "profile",
            (OVERVIEW, SPECTRUM),
        ),
        _estimate(
            "signed score (+ low, - high bands)",
            "signed_score",
            fmt.signed_interval,
            "lean",
            (OVERVIEW, SPECTRUM),
        ),
        _estimate("score", "score", fmt.number_interval, "number", (SPECTRUM,)),
        Column(
            "mean change of p(true) ↓",
            "mean_probability_change",
            lambda row: fmt.percent(row["mean_probability_change"]),
            "number",
            (SPECTRUM,),
        ),
        Column(
            "parameters",
            "n_parameters",
            lambda row: fmt.count(row["n_parameters"]),
            "number",
            (ROBUSTBENCH,),
        ),
        Column("status", "status", lambda row: fmt.plain(row["status"]), "text"),
    ]


def _estimate(
    header: str,
    name: str,
    show: Callable[[float, float, float], str],
    kind: Literal["number", "share", "lean"],
    views: tuple[str, ...],
) -> Column:
    def cell(row: Row) -> str:
        return show(row[name], row[f"{name}_low"], row[f"{name}_high"])

    return Column(header, name, cell, kind, views, has_interval=True)


def _mean_error_columns(table: Table) -> list[Column]:
    corruption = table.entries[0].corruption
    if corruption is None:
        return []
    k = corruption.unnormalised_mean_error.n_corruptions
    has_mce = bool(table.frame["mce"].notna().all())
    both, mce = (ROBUSTBENCH, SPECTRUM), (OVERVIEW, ROBUSTBENCH)
    return [
        _estimate(
            f"mean corruption error (unnormalised, {k} of 15) ↓",
            CORRUPTION_ERROR,
            fmt.percent_interval,
            "number",
            both if has_mce else VIEWS,
        ),
        Column(
            "mCE ↓", "mce", lambda row: fmt.ratio(row["mce"], row["mce_reference"]), "ratio", mce
        ),
    ]


def _group_columns(table: Table) -> list[Column]:
    corruption = table.entries[0].corruption
    if corruption is None:
        return []
    found, views = [], (SPECTRUM,)
    for group, members in GROUPS.items():
        present = len(set(members) - set(corruption.missing))
        part = "" if present == len(members) else f" ({present} of {len(members)})"
        name = f"error_{group}"
        found.append(
            _estimate(f"{group} error{part} ↓", name, fmt.percent_interval, "number", views)
        )
    return found


def _attack_columns(table: Table) -> list[Column]:
    """Return the columns of robust accuracy, in the order of their strength and budget."""
    leading = main_attacks(table)
    return [
        _attack_column(table, attack, VIEWS if attack in leading else (ROBUSTBENCH,))
        for attack in sorted(table.attack_columns, key=_strongest_first)
    ]


def _strongest_first(
    attack: AttackColumn,
) -> tuple[bool, str, tuple[str, ...], float, AttackColumn]:
    weak = not any(label.startswith("autoattack") for label in attack.attacks)
    return weak, attack.norm, attack.attacks, attack.epsilon, attack


def main_attacks(table: Table) -> list[AttackColumn]:
    """Return the one or two columns of robust accuracy that say most, the first to sort by.

    Of the strongest attacks with most models, the budget at which models differ most (standard
    deviation), and the next greater budget of the same attacks, or else the next smaller.
    """
    frame = table.frame

    def key(attack: AttackColumn) -> tuple[bool, int, float]:
        values = frame[attack.column].dropna()
        spread = float(values.std(ddof=0)) if len(values) else 0.0
        return _strongest_first(attack)[0], -len(values), -spread

    ordered = sorted(table.attack_columns, key=lambda attack: (key(attack), attack))
    if not ordered:
        return []
    first = ordered[0]
    alike = [
        attack
        for attack in table.attack_columns
        if (attack.norm, attack.attacks, attack.n_images)
        == (first.norm, first.attacks, first.n_images)
    ]
    above = [attack for attack in alike if attack.epsilon > first.epsilon]
    below = [attack for attack in alike if attack.epsilon < first.epsilon]
    return [first, *(above[:1] or below[-1:])]


def _attack_column(table: Table, attack: AttackColumn, views: tuple[str, ...]) -> Column:
    some = "" if attack.seed is None else f", {attack.n_images} images"
    header = f"robust accuracy ({attack.budget}, {attack.words}{some}) ↑"
    plain = _estimate(header, attack.column, fmt.percent_interval, "share", views)
    marked = _doubtful(table, attack)

    def cell(row: Row) -> str:
        return plain.cell(row) + (f" {MARK}" if row["entry_id"] in marked else "")

    return replace(plain, cell=cell)


def _doubtful(table: Table, attack: AttackColumn) -> dict[str, tuple[str, list[str]]]:
    """Return name and reasons of entries whose figure in a column may be too high, by entry."""
    found = {}
    for model in table.models:
        if attack not in model.cases:
            continue
        case, group = model.cases[attack]
        reasons = masking_reasons(group.model_dump(), attack.norm, attack.epsilon)
        if reasons and case.accuracy.value > 0:  # 0 cannot be too high
            found[model.entry.entry_id] = (model.entry.model.name, reasons)
    return found


def doubts(table: Table, entry_id: str) -> list[str]:
    """Return why robust accuracies of one model may be too high, a sentence each."""
    found: dict[str, None] = {}
    for attack in table.attack_columns:
        _, reasons = _doubtful(table, attack).get(entry_id, ("", []))
        found |= dict.fromkeys(f"May be too high: {reason}." for reason in reasons)
    return list(found)


def _doubtful_facts(table: Table, escape: Escape) -> list[str]:
    """Explain the mark at figures that may be too high, model by model."""
    said: dict[str, dict[str, None]] = {}
    for attack in table.attack_columns:
        for name, reasons in _doubtful(table, attack).values():
            said.setdefault(name, {}).update(dict.fromkeys(reasons))
    if not said:
        return []
    models = [f"{escape(name)}: {escape('; '.join(reasons))}" for name, reasons in said.items()]
    return [f"{MARK} This robust accuracy may be too high. {'. '.join(models)}."]


def heading(table: Table, escape: Escape = fmt.plain) -> str:
    """Return data set, images and corruptions (if not all), protocol and host benchmark."""
    first = table.entries[0]
    benchmark, data = first.benchmark, first.data
    part = "" if data.n_images == data.n_available else f", {data.n_images} images"
    through = "" if benchmark is None else f", RobustBench evaluation ({benchmark.threat_model})"
    part += some_corruptions(first, escape)
    return f"{escape(data.name)}{part}, protocol {escape(first.protocol.protocol_id)}{through}"


def some_corruptions(entry: Entry, escape: Escape = fmt.plain) -> str:
    """Return how many of the corruptions an entry has, with the names of few; "" for all."""
    group = entry.corruption
    if group is None:
        return ", no corruptions"
    names = list(group.errors)
    if len(names) >= len(group.names):
        return ""
    few = f" ({escape(', '.join(names))})" if len(names) <= FEW else ""
    return f", {len(names)} of {len(group.names)} corruptions{few}"


def facts(table: Table, escape: Escape = fmt.plain) -> list[str]:
    """Return sentences on images, protocol, corruptions and attacks.

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
    found += [_attack_fact(attack, escape) for attack in table.attack_columns]
    counts = sorted({e.decomposition.n_images for e in table.entries if e.decomposition})
    if counts:
        found.append(
            f"Error by band: mean over the corruptions, n = {' or '.join(map(str, counts))}."
        )
    found += _doubtful_facts(table, escape)
    if len(sizes) > 1:
        found.append(
            f"Not comparable: bands in cycles/image, as input sizes differ ({', '.join(sizes)}); a "
            "band is a share of each model's own Nyquist frequency."
        )
    return found + _chance_fact(table, escape) + _tie_fact(table, escape)


def conclusions(found: Mapping[str, Any]) -> list[str]:
    """Return the primary comparison in plain words, then its numbers; with text of entries."""
    said = [
        one[part]
        for one in found["comparisons"]
        if one["id"] == found["primary"]
        for part in ("in_words", "sentence")
    ]
    return said or [f"n = {found['n_models']}: too few models to compare scores with errors."]


def _chance_fact(table: Table, escape: Escape) -> list[str]:
    """Name the models whose clean accuracy is not above that of guessing."""
    named = [escape(entry.model.name) for entry in table.entries if at_chance(entry)]
    if not named:
        return []
    return [
        f"{AT_CHANCE}, for {', '.join(named)}; no other number of theirs says what they do where "
        "they work."
    ]


def at_chance(entry: Entry) -> bool:
    """Return whether the clean accuracy is not above that of guessing."""
    clean, n_classes = entry.clean_accuracy, entry.model.n_classes
    return n_classes is not None and not chance(clean.count, clean.n, n_classes)["above"]


def _tie_fact(table: Table, escape: Escape) -> list[str]:
    """Name the models whose score intervals are too narrow: see `importance.ties`."""
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


def _attack_fact(attack: AttackColumn, escape: Escape) -> str:
    return (
        f"Attacks within {attack.norm} {format_budget(attack.epsilon)}: "
        f"{escape(', '.join(attack.attacks))}; n = {attack.n_images}."
    )
