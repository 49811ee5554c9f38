"""One page a model: what was measured of it on every set of images, and how to measure it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.display.text import number
from iaside_plugins.entry.command import command, unrecorded
from iaside_plugins.entry.schema import Entry, OtherReading, Split, SplitCondition
from iaside_plugins.leaderboard.board import Board, Section
from iaside_plugins.leaderboard.render.html import render
from iaside_plugins.leaderboard.render.page import band_values, model_file, short_id
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.presentation import AT_CHANCE, at_chance, doubts, heading
from iaside_plugins.leaderboard.table.rows import ModelRow
from iaside_plugins.leaderboard.table.splits import MeanSplit, corruption_split, normalised_split

SCRIPTS = ("dom.js", "profile_chart.js", "model.js")
STEPS = 8  # shades of a heat map
BudgetPoint = tuple[float, float, float, float]  # budget, accuracy, interval
LABEL = 32  # pixels that a label of the axis takes
CHART = {"width": 560, "height": 230, "left": 52, "right": 12, "top": 12, "bottom": 40}


def model_pages(board: Board) -> dict[str, str]:
    """Return the pages by the names of their files."""
    found: dict[str, list[tuple[Section, int]]] = {}
    for section in board.sections:
        for k, entry in enumerate(section.table.entries):
            found.setdefault(model_file(entry), []).append((section, k))
    return {
        file: _page(board, file, sorted(places, key=_most_images_first))
        for file, places in found.items()
    }


def _most_images_first(place: tuple[Section, int]) -> int:
    section, k = place
    return -section.table.entries[k].data.n_images


def _page(board: Board, file: str, places: Sequence[tuple[Section, int]]) -> str:
    first = places[0][0].table.entries[places[0][1]]
    return render(
        "model.html",
        board,
        here=file,
        scripts=SCRIPTS,
        name=fmt.plain(first.model.name),
        about=_about(first),
        sources=board.settings.links(first.model.name),
        results=[_result(section, k) for section, k in places],
        chart=CHART,
    )


def _about(entry: Entry) -> list[tuple[str, str]]:
    model, steps = entry.model, entry.model.preprocessing
    sizes = (("resize", steps.resize), ("crop", steps.crop))
    size = ", ".join(f"{name} {value}" for name, value in sizes if value)
    return [
        ("training", fmt.plain(model.training)),
        ("architecture", fmt.plain(model.architecture)),
        ("parameters", fmt.count(model.n_parameters)),
        ("licence", fmt.plain(model.licence)),
        ("source", fmt.plain(model.source)),
        ("weights", fmt.plain(model.weights)),
        ("weights sha256", model.weights_sha256[:12]),
        ("preprocessing", f"{size or 'none'}; {fmt.plain(steps.interpolation)}"),
    ]


def _result(section: Section, k: int) -> dict[str, Any]:
    table = section.table
    model, entry, row = table.models[k], table.entries[k], table.rows[k]
    evidence = table.evidence[k]
    numbers = [
        (column.header, column.cell(row))
        for column in section.columns
        if column.kind in ("number", "share", "lean", "ratio")
    ]
    return {
        "id": short_id(section.statistics["id"]),
        "heading": heading(table),
        "at_chance": f"{AT_CHANCE}; no other number says what it does where it works."
        if at_chance(entry)
        else "",
        "doubts": doubts(table, entry.entry_id),
        "numbers": [(name, text) for name, text in numbers if text != fmt.NOTHING],
        "bands": band_values(evidence),
        "profile": [
            fmt.signed_interval(value, *ends)
            for value, ends in zip(evidence.nats, evidence.intervals, strict=True)
        ],
        "split": _heat_map(entry),
        "errors": _errors(entry),
        "severities": SEVERITIES,
        "attacks": _budgets(model),
        "systematic": _systematic(entry),
        "sources": [_source(one) for one in model.entries],
    }


def _heat_map(entry: Entry) -> dict[str, Any] | None:
    """Return rows of error points by condition and band, each with a shade by its size."""
    found = entry.decomposition
    if found is None:
        return None
    conditions: dict[str, list[Split]] = {}
    for one in found.conditions:
        conditions.setdefault(_condition(one), []).append(one)
    rows = [(fmt.plain(name), MeanSplit.of(splits).points) for name, splits in conditions.items()]
    if (mean := corruption_split(found)) is not None:
        rows.insert(0, ("mean over the corruptions", mean.points))
    most = max(abs(point) for _, points in rows for point in points[1:-1]) or 1.0
    normalised = normalised_split(entry)
    return {
        "n_images": found.n_images,
        "normalised": None
        if normalised is None
        else fmt.plain(f"{normalised[0]}: {normalised[1]}"),
        "rows": [
            (name, points, [round(STEPS * point / most) for point in points[1:-1]])
            for name, points in rows
        ],
    }


def _condition(one: SplitCondition) -> str:
    """Return a corruption's name for all its severities, an attack's with its budget."""
    if one.condition in CORRUPTIONS or one.level is None:
        return one.condition.replace("_", " ")
    return f"{one.condition} {format_budget(one.level)}"


def _errors(entry: Entry) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return the error by corruption and severity in %, each with a shade."""
    if entry.corruption is None:
        return []
    return [
        (
            name.replace("_", " "),
            [
                (f"{100 * by[s]:.0f}", round(STEPS * by[s])) if s in by else (fmt.NOTHING, 0)
                for s in SEVERITIES
            ]
            + [(f"{100 * sum(by.values()) / len(by):.1f}", 0)],
        )
        for name, by in entry.corruption.errors.items()
    ]


def _budgets(model: ModelRow) -> dict[str, Any] | None:
    """Return accuracies by budget, as rows, and as lines of a chart for the first norm."""
    if not model.cases:
        return None
    norm = max(column.norm for column in model.cases)  # Linf where there is one
    lines: dict[str, list[BudgetPoint]] = {}
    rows = []
    for column, (case, _) in sorted(model.cases.items(), key=lambda item: item[0]):
        value = case.accuracy
        words = f"{column.words} on {column.n_images} images"
        shown = fmt.percent_interval(value.value, *value.interval)
        rows.append((column.budget, words, shown))
        if column.norm == norm:
            lines.setdefault(words, []).append((column.epsilon, value.value, *value.interval))
    scale, unit = (255, "Linf, in 255ths") if norm == "Linf" else (1, norm)
    return {"rows": rows, "unit": unit, "lines": _lines(model.entry, lines, scale)}


def _lines(entry: Entry, lines: Mapping[str, Sequence[BudgetPoint]], scale: int) -> dict[str, Any]:
    """Return the chart's paths: accuracy from the clean one to the greatest budget."""
    area = CHART
    budgets = sorted({epsilon for line in lines.values() for epsilon, *_ in line})
    most = budgets[-1] or 1.0
    clean = entry.clean_accuracy

    def x(epsilon: float) -> int:
        return round(area["left"] + (area["width"] - area["left"] - area["right"]) * epsilon / most)

    def y(share: float) -> int:
        tall = area["height"] - area["top"] - area["bottom"]
        return round(area["height"] - area["bottom"] - tall * share)

    drawn = []
    for label, line in lines.items():
        points = [(0.0, clean.value, *clean.interval), *line]
        path = "L".join(f"{x(epsilon)} {y(value)}" for epsilon, value, _, _ in points)
        ends = (f"M{x(epsilon)} {y(low)}V{y(high)}" for epsilon, _, low, high in points)
        drawn.append((label, f"M{path}", "".join(ends)))
    return {
        "lines": drawn,
        "x": _apart([(x(epsilon), f"{scale * epsilon:.3g}") for epsilon in (0, *budgets)]),
        "y": [(y(share), f"{100 * share:.0f} %") for share in (0, 0.5, 1)],
    }


def _apart(labels: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the labels of an axis that do not lie on another's; the ends are among them."""
    found, last = [labels[0]], labels[-1]
    for place, text in labels[1:-1]:
        if place - found[-1][0] >= LABEL and last[0] - place >= LABEL:
            found.append((place, text))
    return [*found, last]


def _systematic(entry: Entry) -> list[tuple[str, str, str]]:
    """Return how other ways of reading the same files change the error."""
    if entry.systematic is None:
        return []
    return [
        (
            fmt.plain(one.condition),
            fmt.percent_interval(one.error.value, *one.error.interval),
            _added(one),
        )
        for one in entry.systematic.conditions
    ]


def _added(reading: OtherReading) -> str:
    points = [None if end is None else 100 * end for end in reading.added.interval]
    return number(100 * reading.added.value, *points, spec="+.1f")


def _source(entry: Entry) -> dict[str, Any]:
    return {
        "file": entry.board_file,
        "id": entry.entry_id,
        "status": fmt.plain(entry.submission.status),
        "note": fmt.plain(entry.data.note),
        "origin": _origin(entry),
        "command": command(entry),
        "unrecorded": fmt.plain(unrecorded(entry)),
    }


def _origin(entry: Entry) -> list[tuple[str, str]]:
    """Return where an entry comes from: name and text."""
    provenance = entry.provenance
    commit = fmt.NOTHING if provenance.git_commit is None else provenance.git_commit[:12]
    torch = provenance.versions.get("torch")
    made = [
        *([f"torch {fmt.plain(torch)}"] if torch else []),
        fmt.plain(provenance.device),
        fmt.plain(provenance.machine),
    ]
    return [
        ("date", provenance.date[:10]),
        ("package", fmt.plain(provenance.iaside_plugins)),
        ("commit", commit + (" + changes" if provenance.git_dirty else "")),
        ("made with", ", ".join(made)),
        ("submitter", fmt.plain(entry.submission.submitter)),
    ]
