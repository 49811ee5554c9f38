"""Result of a sensitivity study: profiles, scores, rankings and associations by variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.sensitivity.design import AXES, Design, Variant, neighbours
from iaside_plugins.sensitivity.statistics import (
    association,
    half_reliability,
    main_effect,
    matched,
    over_resampled_models,
    partial_rank_correlation,
    stability,
    without_each,
)
from iaside_plugins.stats.correlation import (
    NEARLY_ONE,
    kendall_matrix,
    profile_distance,
    rank_correlation,
    spearman_matrix,
)
from iaside_plugins.stats.intervals import percentile_interval
from iaside_plugins.storage.files import jsonable, rounded

Array = npt.NDArray[np.float64]
RETAINED = "retained "  # begins the outcomes that the association is a mean over
N_RESAMPLES = 2000
FORMAT = 1  # of `to_dict`
DIGITS = 5  # significant ones in `to_dict`
BANDS = AXES.index("n_bands")
Record = dict[str, Any]


@dataclass(frozen=True)
class StudiedModel:
    """One model of a study.

    Attributes:
        name: Its name.
        results: One a variant.
        temperature: Fitted on the clean images; None where none was needed.
        outcomes: Accuracies and errors of its entries, by name; empty without entries.
        info: Its description, JSON values.
    """

    name: str
    results: tuple[SpectralImportance, ...]
    temperature: float | None = None
    outcomes: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SensitivityReport:
    """Result of a sensitivity study of V variants and N models.

    Attributes:
        design: What was varied.
        models: The models, on the same images.
        off_range: For every variant the share of coalition pixels outside [0, 1] before range
            handling, or None.
        info: Further JSON values of the report.
        seed: Of resamples and halvings.
    """

    design: Design
    models: tuple[StudiedModel, ...]
    off_range: tuple[float, ...] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("a sensitivity study needs at least one model")
        if len({one.name for one in self.models}) < len(self.models):
            raise InputError("two models of one name: give each its own with name=...")
        ids = self.models[0].results[0].ids
        for model in self.models:
            if len(model.results) != len(self.variants):
                raise InputError(f"{model.name} lacks some of the {len(self.variants)} variants")
            if any(result.ids != ids for result in model.results):
                raise InputError(f"{model.name} was studied on other images than the first model")

    @cached_property
    def variants(self) -> list[Variant]:
        """The variants, in the order of all arrays."""
        return self.design.variants()

    @property
    def base(self) -> int:
        """Index of the base among the variants."""
        return self.variants.index(self.design.base_variant)

    @cached_property
    def signed_scores(self) -> Array:
        """Signed scores (V, N)."""
        return self._of("signed_score")

    @cached_property
    def scores(self) -> Array:
        """Scores (V, N): absolute values."""
        return self._of("score")

    @cached_property
    def reliability(self) -> Array:
        """`half_reliability` (V,) of each variant."""
        found = [
            half_reliability(
                [model.results[k].per_image for model in self.models],
                variant.protocol.beta,
                self.seed,
            )
            for k, variant in enumerate(self.variants)
        ]
        return np.array(found)

    @cached_property
    def spearman(self) -> Array:
        """Rank correlation of the models' signed scores between variants, (V, V)."""
        return spearman_matrix(self.signed_scores)

    @cached_property
    def kendall(self) -> Array:
        """Kendall's tau-b of the models' signed scores between variants, (V, V)."""
        return kendall_matrix(self.signed_scores)

    @cached_property
    def stability(self) -> Array:
        """Mean of `spearman` (V,) with the variants that differ on one axis only."""
        return stability(self.spearman, neighbours(self.variants))

    def outcome(self, name: str) -> Array:
        """Return an outcome of every model (N,); NaN where its entries do not have it."""
        return np.array([model.outcomes.get(name, np.nan) for model in self.models])

    @property
    def outcome_names(self) -> list[str]:
        """Outcomes that every model has, beside clean accuracy."""
        names = self.models[0].outcomes
        return [
            name
            for name in names
            if name != "clean accuracy" and all(name in model.outcomes for model in self.models)
        ]

    @property
    def clean(self) -> Array:
        """Clean accuracy (N,): of the entries, or of the studied images without them."""
        own = [model.results[self.base].clean_accuracy for model in self.models]
        said = self.outcome("clean accuracy")
        return np.where(np.isnan(said), own, said)

    def association_of(self, places: npt.NDArray[np.int64]) -> Array:
        """Return `association` (V, B) of the signed score with the retained shares.

        Args:
            places: Indices of models (B, n).
        """
        outcomes = [self.outcome(n) for n in self.outcome_names if n.startswith(RETAINED)]
        if not outcomes:
            return np.full((len(self.variants), len(places)), np.nan)
        chosen = np.moveaxis(np.stack(outcomes)[:, places], 0, 1)  # (B, Q, n)
        return association(self.signed_scores[:, places], chosen, self.clean[places])

    @cached_property
    def association(self) -> Array:
        """`association` (V,) over all models."""
        return self.association_of(np.arange(len(self.models))[None])[:, 0]

    @cached_property
    def set_to_zero(self) -> Array:
        """Share of resamples (V,) whose `association` is 0 by convention: see `statistics`.

        The score ranks their models as clean accuracy does, or the other way round. Where these
        reach an end of the interval, that end is 0 and no bound of a correlation.
        """

        def without_news(places: npt.NDArray[np.int64]) -> Array:
            against = rank_correlation(self.signed_scores[:, places], self.clean[places])
            return np.asarray((np.abs(against) >= NEARLY_ONE).astype(np.float64))

        n = len(self.models)
        return np.asarray(
            over_resampled_models(without_news, n, self.seed, N_RESAMPLES).mean(axis=0)
        )

    @cached_property
    def association_interval(self) -> Array:
        """Percentile interval (V, 2) of `association` over resampled models."""
        drawn = over_resampled_models(self.association_of, len(self.models), self.seed, N_RESAMPLES)
        return percentile_interval(drawn)

    def _of(self, attribute: str) -> Array:
        """Return an attribute of all results (V, N)."""
        return np.array(
            [
                [getattr(m.results[k], attribute) for m in self.models]
                for k in range(len(self.variants))
            ]
        )


def to_dict(report: SensitivityReport) -> Record:
    """Return a report as rounded JSON values, without those of single images."""
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
    """Return one record a variant: how far it is from the base, means over models.

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
    """Return the half-width of intervals over images, also relative to the models' spread."""
    width = float(np.mean([np.diff(result.signed_score_interval)[0] / 2 for result in own]))
    spread = float(scores.std(ddof=1)) if len(own) > 1 else 0.0
    return {
        "half_width": width,
        "half_width_over_spread": width / spread if spread > 0 else float("nan"),
        "tied_bands": float(np.mean([len(result.tied_bands) for result in own])),
    }


def associations(report: SensitivityReport) -> list[Record]:
    """Return plain and partial rank correlations over models by variant, outcome and score."""
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
    """Return one record for each axis and level other than the base's: its mean effect.

    The mean is over all pairs of variants that differ on this axis alone, the base's level there
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
        "association_set_to_zero": report.set_to_zero[k],
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
