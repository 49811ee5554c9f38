"""Spectral importance and entries as a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.error_rates import CORRUPTIONS_3DCC
from iaside_plugins.display.masking import masking_reasons
from iaside_plugins.display.systematic import systematic_lines
from iaside_plugins.display.text import (
    interval,
    number,
    plural,
    proportion,
    rounded_to_sum,
    terminal_width,
)
from iaside_plugins.importance.chance import warning_line
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.importance.result import PREDICTED, SpectralImportance
from iaside_plugins.spectral.range_handling import RANGE_HANDLINGS
from iaside_plugins.stats.intervals import wilson

BAR = 24  # characters of the longest bar, fewer on a narrow terminal
ERROR_LINE = 63  # characters of a row of errors


def spectral_report(result: SpectralImportance) -> str:
    """Return range and Shapley value of each band with its interval; then the scores.

    An accuracy at chance is said first, and none where labels are the model's own predictions.
    """
    warning = warning_line(int(result.correct.sum()), result.n_images, result.n_classes)
    return "\n".join([*warning, *_spectral_lines(result)])


def _spectral_lines(result: SpectralImportance) -> list[str]:
    evidence, edges = result.evidence, result.band_edges()
    rows = [
        f"  {band:>4}  {edges[band]:5.1f}-{edges[band + 1]:<6.1f}  {psi:+8.3f} "
        f"{interval(*ends, spec='+.3f') or '(no interval from one image)':<18} "
        for band, (psi, ends) in enumerate(zip(evidence.nats, evidence.intervals, strict=True))
    ]
    lines = [
        f"spectral importance: {result.n_images} images of {result.image_size[0]} x "
        f"{result.image_size[1]}, protocol {result.protocol.protocol_id}",
        "  band  cycles/image   Shapley value (nats) and 95 % interval; bars where it excludes 0",
    ]
    width = terminal_width()
    room = np.inf if width is None else width - max(map(len, rows))
    lines += [f"{row}{bar}".rstrip() for row, bar in zip(rows, _bars(evidence, room), strict=True)]
    lines.append(f"  {evidence.sentence}")
    lines += [
        f"  score        {result.score:+.3f}  {_ends(result.score_interval)} (95 %)",
        f"  signed score {result.signed_score:+.3f}  {_ends(result.signed_score_interval)} "
        "(positive leans to low frequencies, negative to high)",
    ]
    if result.protocol.n_bands == 2:
        lines.append("  with 2 bands the scores say only which has the greater value")
    if len(result.tied_bands) > 1:
        names = ", ".join(map(str, sorted(result.tied_bands)))
        lines.append(
            f"  bands {names} tie for the least Shapley value: scores are biased towards 0 there "
            f"(estimated bias of the signed score {result.signed_score_bias:+.3f})"
        )
    if result.label_space == PREDICTED:  # accuracy is 1 by construction
        return lines
    hits = int(result.correct.sum())
    low, high = wilson(hits, result.n_images)
    rescaled = RANGE_HANDLINGS[result.protocol.range_handling].changes_images
    which = "rescaled images" if rescaled else "these images"
    share = hits / result.n_images
    lines.append(f"  accuracy on {which} {share:.1%}  {interval(low, high, spec='.1%')}")
    return lines


def _bars(evidence: Evidence, room: float) -> list[str]:
    """Return bars from 0 of the bands whose interval excludes it, the longest of at most `BAR`.

    Args:
        evidence: The bands.
        room: Greatest width of a line.
    """
    shown = np.zeros_like(evidence.nats)
    shown[evidence.excludes_zero] = evidence.nats[evidence.excludes_zero]
    low, high = min(float(shown.min()), 0), max(float(shown.max()), 0)
    most = max(float(np.abs(evidence.nats).max()), 1e-12)
    # 2: the line of 0, and what rounding adds
    longest = max(min(BAR, (room - 2) * most / max(high - low, 1e-12)), 0)
    lengths = np.rint(np.abs(shown) * (longest / most)).astype(int)
    left = max(lengths[shown < 0], default=0)
    return [
        f"{'█' * n:>{left}}|" if value < 0 else f"{'':>{left}}|{'█' * n}"
        for n, value in zip(lengths, shown, strict=True)
    ]


def _ends(ends: Any) -> str:
    return interval(*ends, spec="+.3f") or "(no interval from one image)"


def entry_report(entry: Mapping[str, Any], result: SpectralImportance) -> str:
    """Return the spectral report, then accuracies: clean, corrupted, under attack."""
    clean = entry["clean_accuracy"]
    hits = round(clean["value"] * clean["n"])
    lines = [
        *warning_line(hits, clean["n"], result.n_classes),
        *_spectral_lines(result),
        f"clean accuracy   {proportion(clean)}",
    ]
    corruption, adversarial = entry["corruption"], entry["adversarial"]
    if corruption is not None:
        lines += _corruption_lines(corruption)
    if entry.get("systematic") is not None:
        lines += systematic_lines(entry["systematic"])
    if adversarial is not None:
        lines.append(f"accuracy under attack ({adversarial['n_images']} images)")
        lines += [f"  may be too high: {reason}" for reason in masking_reasons(adversarial)]
        lines += [
            f"  {cell['name']:<7} {cell['norm']:<4} eps {format_budget(cell['epsilon']):<8} "
            f"{proportion(cell['accuracy'])}"
            for cell in adversarial["attacks"]
        ]
        lines += [
            f"  worst case {cell['norm']} eps {format_budget(cell['epsilon']):<8} "
            f"{proportion(cell['accuracy'])}"
            for cell in adversarial["worst_case"]
            if len(cell["attacks"]) > 1
        ]
    if entry.get("decomposition") is not None:
        lines += _decomposition_lines(entry["decomposition"])
    for profile in (entry.get("benchmark") or {}).get("profiles", ()):
        lines.append(
            f"signed score under {profile['condition']} {profile['signed_score']:+.3f}  "
            f"{_ends(profile['signed_score_interval'])}, "
            f"n = {profile['n_images']}"
        )
    return "\n".join(lines)


def _decomposition_lines(decomposition: Mapping[str, Any]) -> list[str]:
    """Return the mean error split over bands, and the bands whose interval excludes 0."""
    mean = decomposition["mean"]
    clean, *bands, error = rounded_to_sum(mean["clean"], mean["bands"], mean["perturbed"])
    shown = " ".join(f"{value:+.1f}" for value in bands)
    costly = [
        f"band {k} {interval(100 * low, 100 * high, spec='+.1f')}"
        for k, (low, high) in enumerate(mean["bands_interval"])
        if low > 0 or high < 0
    ]
    return [
        f"mean error of {plural(len(decomposition['conditions']), 'condition')} "
        f"({decomposition['n_images']} images), split over the bands that were perturbed, points:",
        f"  clean {clean:.1f}, bands {shown}, error {error:.1f}",
        f"  interval excludes 0: {', '.join(costly) or 'none'}",
    ]


def _corruption_lines(corruption: Mapping[str, Any]) -> list[str]:
    """Return errors by corruption at severities 1 to 5, then the mean error and mCE."""
    errors: dict[str, list[float]] = {}
    changes: dict[str, list[float]] = {}
    for cell in corruption["conditions"]:
        errors.setdefault(cell["corruption"], []).append(cell["error"]["value"])
        changes.setdefault(cell["corruption"], []).append(cell["probability_change"]["value"])
    lines = [
        f"error under corruption ({corruption['source']}, {corruption['n_images']} images), "
        "severities 1 to 5; mean |change of p(true class)|"
    ]
    narrow = (terminal_width() or ERROR_LINE) < ERROR_LINE
    name_width, gap = (17, " ") if narrow else (18, "   ")
    lines += [
        f"  {name:<{name_width}} "
        + " ".join(f"{e:6.1%}" for e in row)
        + f"{gap}{np.mean(changes[name]):.3f}"
        for name, row in errors.items()
    ]
    total = corruption["unnormalised_mean_error"]
    n = len(CORRUPTIONS_3DCC) if set(errors) & set(CORRUPTIONS_3DCC) else 15
    lines.append(
        f"  mean error over {total['n_corruptions']} of {n} corruptions (unnormalised, not an mCE) "
        f"{number(total['value'], *total['interval'], spec='.1%')}"
    )
    if corruption["missing"]:
        lines.append(f"  not evaluated: {', '.join(corruption['missing'])}")
    if corruption["mce"] is not None:
        mce = corruption["mce"]
        lines.append(f"  mCE {mce['value']:.1%} (reference {mce['reference']}, same images)")
    if corruption["error_over_published"] is not None:
        over = corruption["error_over_published"]
        lines.append(
            f"  errors over published {over['reference']} (other images, not an mCE): "
            f"{over['value']:.1%}"
        )
    return lines
