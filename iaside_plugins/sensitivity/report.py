"""What a sensitivity study found: profiles, scores, rankings and associations by variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.sensitivity.design import Design, Variant, neighbours
from iaside_plugins.sensitivity.statistics import (
    association,
    half_reliability,
    over_resampled_models,
    stability,
)
from iaside_plugins.stats.correlation import kendall_matrix, spearman_matrix
from iaside_plugins.stats.intervals import percentile_interval

Array = npt.NDArray[np.float64]
RETAINED = "retained "  # begins the outcomes that the association is a mean over
N_RESAMPLES = 2000


@dataclass(frozen=True)
class StudiedModel:
    """One model of a study.

    Attributes:
        name: Its name.
        results: One a variant.
        temperature: Fitted on the clean images; None where none was needed.
        outcomes: What its entries say, by name of the outcome; empty without entries.
        info: What is known of it, JSON values.
    """

    name: str
    results: tuple[SpectralImportance, ...]
    temperature: float | None = None
    outcomes: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SensitivityReport:
    """Everything that a sensitivity study says of V variants and N models.

    Attributes:
        design: What was varied.
        models: The models, on the same images.
        off_range: For every variant the share of coalition pixels outside [0, 1] before range
            handling, or None.
        info: What else the report says, JSON values.
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
        """Place of the base among the variants."""
        return self.variants.index(self.design.base_variant)

    @cached_property
    def signed_scores(self) -> Array:
        """(V, N)."""
        return self._of("signed_score")

    @cached_property
    def scores(self) -> Array:
        """(V, N): absolute values."""
        return self._of("score")

    @cached_property
    def reliability(self) -> Array:
        """(V,) see `half_reliability`; variants of one table and beta share it."""
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
        """The same by Kendall's tau-b."""
        return kendall_matrix(self.signed_scores)

    @cached_property
    def stability(self) -> Array:
        """(V,) mean of `spearman` with the variants that differ on one axis only."""
        return stability(self.spearman, neighbours(self.variants))

    def outcome(self, name: str) -> Array:
        """An outcome of every model (N,); NaN where its entries do not say."""
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
        """`association` (V, B) of the signed score with the retained shares, over some models.

        Args:
            places: Of models (B, n).
        """
        outcomes = [self.outcome(n) for n in self.outcome_names if n.startswith(RETAINED)]
        if not outcomes:
            return np.full((len(self.variants), len(places)), np.nan)
        chosen = np.moveaxis(np.stack(outcomes)[:, places], 0, 1)  # (B, Q, n)
        return association(self.signed_scores[:, places], chosen, self.clean[places])

    @cached_property
    def association(self) -> Array:
        """(V,) of all models."""
        return self.association_of(np.arange(len(self.models))[None])[:, 0]

    @cached_property
    def association_interval(self) -> Array:
        """(V, 2) percentile interval over resampled models."""
        drawn = over_resampled_models(self.association_of, len(self.models), self.seed, N_RESAMPLES)
        return percentile_interval(drawn)

    def _of(self, attribute: str) -> Array:
        return np.array(
            [
                [getattr(m.results[k], attribute) for m in self.models]
                for k in range(len(self.variants))
            ]
        )
