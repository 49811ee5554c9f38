"""A sensitivity study as text for a terminal, and as rows of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from iaside_plugins.display.text import aligned, number
from iaside_plugins.sensitivity.design import AXES
from iaside_plugins.sensitivity.report import RETAINED

Row = Sequence[str]
CONVENTION = "0 by convention"  # an end of an interval
EXPLORATORY = 30  # fewer models cannot settle a partial correlation
TITLES = {
    "range_handling": "range handling",
    "absence": "absence",
    "band_norm": "partition",
    "n_bands": "bands",
    "temperature": "temperature",
    "beta": "beta",
}


def sensitivity_text(data: Mapping[str, Any]) -> str:
    """Return the summary of a report's `to_dict` for a terminal."""
    n, variants = len(data["models"]), data["variants"]
    base = next(v for v in variants if v["name"] == data["base"])
    lines = [
        f"{n} models, {data['n_images']} images, {len(variants)} variants; base: {data['base']}",
        f"ranking of models: reliability over halves of the images {number(base['reliability'])}, "
        f"agreement with variants that differ in one choice {number(base['stability'])}",
        "",
        *aligned(effect_rows(data), n_names=2),
        "ranking: rank correlation of the models' signed scores with those before the change",
    ]
    if retained := retained_names(data):
        lines += [
            "association: partial rank correlation of the signed score with "
            f"{', '.join(retained)}, given clean accuracy (mean); {caution(n)}",
            f"at the base: {association_text(base)}",
        ]
        if CONVENTION in lines[-1]:
            lines.append(convention(base))
    shown = one_at_a_time(data)
    head, *rows = movement_rows(data)
    moved = [[label, *rows[k][1:]] for k, label in shown]
    lines += ["", *aligned([head, *moved])]
    if len(variants) > len(shown):
        lines.append(f"({len(variants) - len(shown)} more variants: --json FILE)")
    return "\n".join(lines)


def association_text(variant: Mapping[str, Any]) -> str:
    """Return the association of a variant with its interval over models.

    An end that lies among resamples that are set to 0 by convention is called that: it is no bound
    of a correlation. No mean of partial correlations is 0 to the last digit otherwise.
    """
    text = number(variant["association"])
    ends = variant["association_interval"]
    if variant["association"] is None or None in ends or np.isnan(ends).any():
        return text
    return f"{text} [{', '.join(CONVENTION if end == 0 else number(end) for end in ends)}]"


def convention(variant: Mapping[str, Any] | None = None) -> str:
    """Return what `CONVENTION` means, with its share of a variant's resamples if that is known."""
    share = (variant or {}).get("association_set_to_zero")
    how_many = "at least 2.5 %" if share is None else f"{share:.0%}"
    return (
        f"{CONVENTION}: in {how_many} of the resamples the score ranks the models as clean "
        "accuracy does; they count as 0, so that this end of the interval is no bound of a "
        "correlation"
    )


def effect_rows(data: Mapping[str, Any], n_bands: int | None = None) -> list[Row]:
    """Return one row an axis and level: changes averaged over matched variants."""
    rows: list[Row] = [
        [
            "axis",
            "level instead of the base's",
            "variants",
            "association",
            "one model left out",
            "at the base",
            "stability",
            "reliability",
            "signed score",
            "ranking",
        ]
    ]
    effects = data["effects"] if n_bands is None else data["effects_by_bands"][str(n_bands)]
    for e in effects:
        low, high = (number(end) for end in e["association_left_out"])
        rows.append(
            [
                TITLES[e["axis"]],
                level_text(e["level"]),
                str(e["n_pairs"]),
                number(e["association"]),
                low if low == high else f"{low} to {high}",
                number(e["association_at_base"]),
                number(e["stability"]),
                number(e["reliability"]),
                number(e["signed_score"]),
                number(e["ranking"]),
            ]
        )
    return rows


def movement_rows(data: Mapping[str, Any]) -> list[Row]:
    """Return one row a variant: how far profile, scores and ranking are from the base's."""
    rows: list[Row] = [
        [
            "variant",
            "profile distance",
            "profile ranks",
            "signed score",
            "score",
            "ranks of models",
            "half-width",
            "tied bands",
            "below 0",
        ]
    ]
    rows += [
        [
            one["variant"],
            number(one.get("profile_distance"), spec=".3f"),
            number(one.get("profile_rank_correlation")),
            number(one.get("signed_score_change")),
            number(one.get("score_change")),
            number(one["spearman_with_base"]),
            number(one["half_width"], spec=".3f"),
            number(one["tied_bands"], spec=".1f"),
            str(one["negative"]),
        ]
        for one in data["movements"]
    ]
    return rows


def association_rows(
    data: Mapping[str, Any],
    variants: Sequence[str],
    score: str = "signed_score",
    outcomes: Sequence[str] | None = None,
) -> list[Row]:
    """Return plain and partial rank correlations, one row a variant, one column an outcome."""
    names = [
        name
        for name in dict.fromkeys(one["outcome"] for one in data["associations"])
        if outcomes is None or name in outcomes
    ]
    found = {(one["variant"], one["outcome"], one["score"]): one for one in data["associations"]}
    rows: list[Row] = [["variant", *names]]
    for variant in variants:
        cells = []
        for name in names:
            one = found[variant, name, score]
            given = number(one["partial"], *one["partial_interval"])
            cells.append(f"{number(one['spearman'])}; {given}")
        rows.append([variant, *cells])
    return rows


def retained_names(data: Mapping[str, Any]) -> list[str]:
    """Return the outcomes that the association is a mean over."""
    names = dict.fromkeys(one["outcome"] for one in data["associations"])
    return [name for name in names if name.startswith(RETAINED)]


def one_at_a_time(data: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return index and text of the base and of the variants that differ from it on one axis."""
    variants = data["variants"]
    base = next(one for one in variants if one["name"] == data["base"])
    out = [(variants.index(base), "base")]
    for k, one in enumerate(variants):
        changed = [axis for axis in AXES if one[axis] != base[axis]]
        if len(changed) == 1:
            word = level_text(one[changed[0]])
            out.append((k, f"{TITLES[changed[0]]} {word}"))
    return out


def caution(n_models: int) -> str:
    """Return how far a correlation over so many models can be trusted."""
    word = "exploratory" if n_models < EXPLORATORY else "sufficient"
    return f"n = {n_models} models: {word}"


def level_text(level: Any) -> str:
    """Return a level as a word."""
    return f"{level:g}" if isinstance(level, (int, float)) else str(level)
