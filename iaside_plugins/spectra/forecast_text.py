"""Forecast errors as plain text: alone, and beside the measured ones."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from iaside_plugins.display.text import NOTHING, aligned, interval, number, row_number
from iaside_plugins.spectra.forecasts import NO_NOISE, misses

WORST = 5  # misses that are said
WIDTH = 88  # characters of a line


def forecast_text(data: Mapping[str, Any]) -> str:
    """Return the tables of `forecast_table`: a row a perturbation, the mean, what it cannot see."""
    rows = [["forecast error", "", "95 % over images", "not noise"]]
    rows.append(["  clean (measured)", *_error(data["clean"]), ""])
    rows += [
        [f"  {title(row['name'])}", *_error(row), _share(row["image_share"])]
        for row in data["names"]
    ]
    if len(data["names"]) > 1:
        mean = data["mean"]
        rows.append([f"  mean of {mean['n_names']}", *_error(mean), ""])
    lines = [
        "Errors forecast from clean images and the perturbations' spectra alone: no perturbed",
        f"image went through the model. {data['n_images']} images; means over severities.",
        *aligned(rows),
        *unseen(data["names"]),
    ]
    return "\n".join(lines)


def agreement_lines(group: str, check: Mapping[str, Any]) -> list[str]:
    """Return the lines of a forecast beside measured errors.

    Args:
        group: "corruptions" or "severities".
        check: Of `ForecastCheck.to_dict`.
    """
    over = "corruptions" if group == "corruptions" else "corruptions x severities"
    lines = [
        f"forecast error under {check['n_conditions']} {over}, from clean images and spectra alone "
        f"({check['n_images']} images, {check['status']})"
    ]
    if group == "corruptions":
        rows = [["  error", "forecast", "measured", "difference", "not noise"]]
        rows += [
            [
                f"  {title(row['name'])}",
                f"{row['forecast']:.0%}",
                row_number(row, "error", ".0%"),
                row_number(row, "difference", "+.0%"),
                _share(row["image_share"]),
            ]
            for row in check["conditions"]
        ]
        lines += aligned(rows)
    known = {row["predictor"]: row for row in check["predictors"]}
    own, clean, snr = (known[name] for name in ("forecast", "clean_error", "overall_snr"))
    lines += aligned(
        [
            ["  predictor", "mean absolute error", "rank correlation"],
            ["  forecast", *figures(own)],
            ["  clean error", *figures(clean)],
            ["  overall SNR alone", *figures(snr)],
        ]
    )
    lines.append(
        f"  the forecast is closer by {row_number(clean, 'advantage', '+.3f')} than the clean error"
    )
    wrong = misses(check)
    if wrong:
        worst = "; ".join(
            f"{title(row['name'], row['level'])} {row['difference']:+.0%}" for row in wrong[:WORST]
        )
        text = f"it misses {len(wrong)} of {check['n_conditions']}, most of all {worst}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
    if group == "corruptions":
        lines += unseen(check["conditions"])
    return lines


def figures(row: Mapping[str, Any]) -> list[str]:
    """Return a predictor's mean absolute error and rank correlation, a dash for none."""
    cells = (("mean_absolute_error", ".3f"), ("rank_correlation", "+.2f"))
    return [row_number(row, name, spec) for name, spec in cells]


def unseen(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return lines on the perturbations that are no additive noise, which a forecast cannot see.

    Args:
        rows: With "name" and "image_share".
    """
    names = [title(row["name"]) for row in rows if (row["image_share"] or 0) >= NO_NOISE]
    if not names:
        return []
    text = (
        "not noise: how much of what the forecast takes for lost is the image itself, scaled or "
        f"blurred away. {NO_NOISE:.0%} or more for {', '.join(names)}: these are no additive "
        "noise, and the forecast cannot see what else they do."
    )
    return textwrap.wrap(text, WIDTH)


def title(name: str, level: float | None = None) -> str:
    """Return the name of a perturbation, with its severity if it has one."""
    return name.replace("_", " ") + ("" if level is None else f" {level:g}")


def _error(row: Mapping[str, Any]) -> list[str]:
    low, high = row["error_low"], row["error_high"]
    return [number(row["error"], spec=".1%"), interval(low, high, spec=".1%")]


def _share(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.0%}"
