"""A spectrum report as plain text for a terminal and Markdown for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.budgets import format_budget
from iaside_plugins.display.text import NOTHING, aligned, markdown_table, number, row_number
from iaside_plugins.spectra.forecast_text import agreement_lines
from iaside_plugins.spectra.verdict import verdict

if TYPE_CHECKING:
    import pandas as pd


def spectrum_text(data: Mapping[str, Any]) -> str:
    """Return the tables of a report's `to_dict`: SNR by band, power laws, and the joined view."""
    import pandas as pd

    frame, bands = pd.DataFrame(data["conditions"]), pd.DataFrame(data["bands"])
    height, width = data["image_size"]
    lines = [
        f"SNR of perturbations in {data['n_bands']} bands ({data['band_norm']}), images of "
        f"{height} x {width}; 95 % intervals over images",
        *aligned(_snr_rows(frame, bands)),
        "",
        *aligned(_fit_rows(frame)),
        "slope: of log SNR over log frequency, without DC, one point a band of the same weight; "
        "bend: second order, 0 for a power law",
    ]
    if any(row["kind"] == "band attack" for row in data["conditions"]):
        lines += ["", *aligned(_band_attack_rows(data))]
    if data["importance"] is not None:
        lines += ["", *aligned(_match_rows(data))]
        lines.append("rank correlations, over bands, of Shapley values with the perturbation")
        for group, check in data["forecast"].items():
            lines += ["", *agreement_lines(group, check)]
    return "\n".join(lines)


def spectrum_summary(data: Mapping[str, Any]) -> str:
    """Return a report's `to_dict` in short: one row a perturbation, and what all of it says."""
    import pandas as pd

    frame, bands = pd.DataFrame(data["conditions"]), pd.DataFrame(data["bands"])
    height, width = data["image_size"]
    with_error = bool(frame["error"].notna().any())
    rows = [["SNR (dB) by band, band 0 with DC", *map(str, range(data["n_bands"])), "slope"]]
    rows[0] += ["error"] if with_error else []
    headlines = {}
    for row, cells in _snr_cells(frame, bands, round):
        name = label(row)
        headlines[name] = row
        rows.append([f"  {name}", *cells, number(row["slope"])])
        rows[-1] += [number(row["error"], spec=".0%")] if with_error else []
    lines = [
        f"SNR of perturbations in {data['n_bands']} bands ({data['band_norm']}), images of "
        f"{height} x {width}; --long for severities, fits, agreement and intervals",
        *aligned(rows),
    ]
    if any(row["kind"] == "band attack" for row in data["conditions"]):
        lines += ["", *aligned(_band_attack_rows(data))]
    return "\n".join([*lines, "", f"verdict: {verdict(data, headlines)}"])


def fit_table(data: Mapping[str, Any]) -> str:
    """Return the power laws of a report's `to_dict` as one Markdown table."""
    import pandas as pd

    return markdown_table(_fit_rows(pd.DataFrame(data["conditions"]), headline=True))


def label(row: Mapping[str, Any]) -> str:
    """Return the name of a condition with its severity or budget."""
    strength = row["strength"]
    absent = strength is None or np.isnan(strength)
    if row["kind"] == "corruption":
        return f"{row['title']}{'' if absent else f' {strength:g}'}"
    return f"{row['title']}, {'least' if absent else f'eps {format_budget(float(strength))}'}"


def is_headline(row: Mapping[str, Any]) -> bool:
    """Whether a condition is a corruption over all its severities, or an attack."""
    strength = row["strength"]
    if row["kind"] == "corruption":
        return strength is None or bool(np.isnan(strength))
    return bool(row["kind"] == "attack")


def _snr_rows(frame: pd.DataFrame, bands: pd.DataFrame) -> list[list[str]]:
    count = int(bands["band"].max()) + 1
    rows = [["SNR (dB) by band, band 0 with DC", *(str(k) for k in range(count))]]
    rows += [
        [f"  {label(row)}", *cells] for row, cells in _snr_cells(frame, bands, "{:.1f}".format)
    ]
    return rows


def _snr_cells(
    frame: pd.DataFrame, bands: pd.DataFrame, show: Callable[[float], object]
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield every headline, and its SNR by band in text."""
    import pandas as pd

    count = int(bands["band"].max()) + 1
    for k, row in enumerate(frame.to_dict("records")):
        named = {str(key): value for key, value in row.items()}
        if is_headline(named):
            part = bands.iloc[k * count : (k + 1) * count]
            yield named, [NOTHING if pd.isna(v) else str(show(v)) for v in part["snr_db"]]


def _fit_rows(frame: pd.DataFrame, headline: bool = False) -> list[list[str]]:
    with_error = bool(frame["error"].notna().any())
    head = ["power law", "slope", "bend", "R²", "misfit (dB)", "images (left out)"]
    rows = [[*head, "error"] if with_error else head]
    for row in frame.to_dict("records"):
        known = {str(key): value for key, value in row.items()}
        if known["kind"] == "band attack" or (headline and not is_headline(known)):
            continue
        out = int(known["n_failed"]) + int(known["n_unchanged"])
        cells = [
            ("" if headline else "  ") + label(known),
            row_number(known, "slope", "+.2f"),
            row_number(known, "curvature", "+.2f"),
            row_number(known, "r_squared", ".2f"),
            row_number(known, "residual_db", ".1f"),
            f"{known['n_images']} ({out})",
        ]
        rows.append([*cells, row_number(known, "error", ".0%")] if with_error else cells)
    return rows


def _band_attack_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Return the success of attacks confined to one band: a row per budget, a column per band."""
    by_budget: dict[float, dict[int, str]] = {}
    for row in data["conditions"]:
        if row["kind"] == "band attack":
            band = int(row["name"].rpartition("_")[2])
            by_budget.setdefault(row["strength"], {})[band] = number(row["success"], spec=".0%")
    bands = range(data["n_bands"])
    rows = [["success of PGD L2 inside one band", *map(str, bands)]]
    for budget, cells in by_budget.items():
        rows.append([f"  eps {format_budget(budget)}", *(cells.get(band, "–") for band in bands)])
    return rows


def _match_rows(data: Mapping[str, Any]) -> list[list[str]]:
    rows = [["where the model looks, and where it is perturbed", "total", "per frequency", "SNR"]]
    for row in data["matches"]:
        if is_headline(row):
            cells = [row_number(row, name, "+.2f") for name in ("energy", "density", "snr")]
            rows.append([f"  {label(row)}", *cells])
    return rows
