"""A sensitivity report as records: movements, associations, effects, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.sensitivity.design import AXES
from iaside_plugins.sensitivity.report import N_RESAMPLES, SensitivityReport
from iaside_plugins.sensitivity.statistics import (
    main_effect,
    matched,
    over_resampled_models,
    partial_rank_correlation,
    without_each,
)
from iaside_plugins.stats.correlation import profile_distance, rank_correlation
from iaside_plugins.stats.intervals import percentile_interval
from iaside_plugins.storage.files import jsonable, rounded

Array = npt.NDArray[np.float64]
Record = dict[str, Any]
FORMAT = 1
DIGITS = 5  # significant ones that `to_dict` keeps
BANDS = AXES.index("n_bands")


def to_dict(report: SensitivityReport) -> Record:
    """Everything that a report says, as rounded JSON values; nothing of single images."""
    design, models = report.design, report.models
    found = {
        "format": FORMAT,
        **report.info,
        "base": design.base_variant.name,
        "axes": {axis: list(design.levels[axis]) for axis in AXES},
        "crossed": list(design.crossed),
        "n_images": models[0].results[0].n_images,
        "models": [
            {
                "name": m.name,
                "clean_accuracy": clean,
                "temperature": m.temperature,
                "outcomes": dict(m.outcomes),
                "model": dict(m.info),
            }
            for m, clean in zip(models, report.clean, strict=True)
        ],
        "variants": [_variant(report, k) for k in range(len(report.variants))],
        "movements": movements(report),
        "associations": associations(report),
        "effects": effects(report),
        "effects_by_bands": {str(n): effects(report, n) for n in design.levels["n_bands"]},
        "spearman": report.spearman,
        "kendall": report.kendall,
    }
    out: Record = rounded(jsonable(found), DIGITS)
    return out


def movements(report: SensitivityReport) -> list[Record]:
    """One record a variant: how far it is from the base, means over models.

    Profiles and scores of another number of bands than the base's are not compared with it.
    """
    return [_movement(report, k) for k in range(len(report.variants))]


def _movement(report: SensitivityReport, k: int) -> Record:
    base, signed, scores = report.base, report.signed_scores, report.scores
    own = [model.results[k] for model in report.models]
    row = {"variant": report.variants[k].name, **_precision(own, signed[k])}
    if report.variants[k].protocol.n_bands == report.design.base.n_bands:
        others = [model.results[base] for model in report.models]
        shares = [np.stack([one.distribution for one in side]) for side in (own, others)]
        values = [np.stack([one.shapley_values for one in side]) for side in (own, others)]
        row |= {
            "profile_distance": float(profile_distance(*shares).mean()),
            "profile_rank_correlation": float(rank_correlation(*values).mean()),
            "signed_score_change": float((signed[k] - signed[base]).mean()),
            "score_change": float((scores[k] - scores[base]).mean()),
        }
    return row | {
        "negative": int((signed[k] < 0).sum()),
        "spearman_with_base": float(report.spearman[k, base]),
        "kendall_with_base": float(report.kendall[k, base]),
    }


def _precision(own: Sequence[SpectralImportance], scores: Array) -> Record:
    """How narrow the intervals over images are, for themselves and beside the models' spread."""
    width = float(np.mean([np.diff(result.signed_score_interval)[0] / 2 for result in own]))
    spread = float(scores.std(ddof=1)) if len(own) > 1 else 0.0
    return {
        "half_width": width,
        "half_width_over_spread": width / spread if spread > 0 else float("nan"),
        "tied_bands": float(np.mean([len(result.tied_bands) for result in own])),
    }


def associations(report: SensitivityReport) -> list[Record]:
    """One record a variant, outcome and score: plain and partial rank correlation over models."""
    return [
        record
        for outcome in report.outcome_names
        for name, scores in (("signed_score", report.signed_scores), ("score", report.scores))
        for record in _associations(report, outcome, name, scores)
    ]


def _associations(report: SensitivityReport, outcome: str, name: str, x: Array) -> list[Record]:
    y, clean = report.outcome(outcome), report.clean

    def both(at: npt.NDArray[np.int64]) -> Array:
        plain = rank_correlation(x[:, at], y[at])
        return np.stack([plain, partial_rank_correlation(x[:, at], y[at], clean[at])])

    found = both(np.arange(len(y))[None])[..., 0]
    drawn = over_resampled_models(both, len(y), report.seed, N_RESAMPLES)
    ends = percentile_interval(drawn)
    return [
        {
            "variant": variant.name,
            "outcome": outcome,
            "score": name,
            "spearman": found[0, k],
            "spearman_interval": ends[0, k],
            "partial": found[1, k],
            "partial_interval": ends[1, k],
        }
        for k, variant in enumerate(report.variants)
    ]


def effects(report: SensitivityReport, n_bands: int | None = None) -> list[Record]:
    """One record an axis and level other than the base's: what it changes, averaged.

    The mean over all pairs of variants that differ on this axis alone, the base's level there
    against the other one.

    Args:
        report: The study.
        n_bands: Only variants of so many bands, for the axes other than bands; all by default.
    """
    levels = [variant.levels for variant in report.variants]
    own = levels[report.base]
    left_out = without_each(report.association_of, len(report.models))  # (V, N)
    out = []
    for axis, name in enumerate(AXES):
        for level in report.design.levels[name]:
            if level == own[axis]:
                continue
            pairs = matched(levels, axis, level, own[axis])
            at_base = [pair for pair in pairs if pair[0] == report.base]
            if axis != BANDS and n_bands is not None:
                pairs = [pair for pair in pairs if levels[pair[0]][BANDS] == n_bands]
            changes = main_effect(left_out, pairs)
            out.append(
                {
                    "axis": name,
                    "level": level,
                    "n_pairs": len(pairs),
                    "association": main_effect(report.association, pairs),
                    "association_left_out": [changes.min(), changes.max()],
                    "association_at_base": main_effect(report.association, at_base),
                    "stability": main_effect(report.stability, pairs),
                    "reliability": main_effect(report.reliability, pairs),
                    "reliability_there": np.mean(
                        [report.reliability[j] for _, j in pairs] or [np.nan]
                    ),
                    "signed_score": main_effect(report.signed_scores, pairs).mean(),
                    "ranking": np.mean([report.spearman[pair] for pair in pairs] or [np.nan]),
                }
            )
    return out


def _variant(report: SensitivityReport, k: int) -> Record:
    variant = report.variants[k]
    return {
        "name": variant.name,
        **dict(zip(AXES, variant.levels, strict=True)),
        "reliability": report.reliability[k],
        "stability": report.stability[k],
        "association": report.association[k],
        "association_interval": report.association_interval[k],
        "off_range": None if report.off_range is None else report.off_range[k],
        "models": [
            {
                "model": model.name,
                "signed_score": model.results[k].signed_score,
                "signed_score_interval": model.results[k].signed_score_interval,
                "score": model.results[k].score,
                "distribution": model.results[k].distribution,
                "tied": len(model.results[k].tied_bands),
            }
            for model in report.models
        ],
    }
