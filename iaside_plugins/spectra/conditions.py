"""Conditions of a spectrum report: one perturbation of the images each, and what it did to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.spectra.perturbation import PerturbationSpectrum
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.stats.intervals import bootstrap, wilson

Array = npt.NDArray[np.float64]
KINDS = ("corruption", "attack", "band attack")


@dataclass(frozen=True, eq=False)
class Condition:
    """One perturbation of K images: a corruption at a severity, an attack at a budget.

    Attributes:
        kind: One of `KINDS`; a "band attack" is confined to one band.
        name: Short name.
        title: Name in tables, as what it is.
        strength: Severity 1 to 5 or epsilon; None for all severities together (each image's
            energies and errors averaged over them) and for least perturbations.
        norm: Of an attack's budget.
        ids: Names of the images.
        energies: Rows of `perturbation.band_energies` (K, 2 M + 2).
        counts: Whether an image's perturbation counts (K,): False for failed attacks and for
            images that are misclassified without one.
        wrong: Whether the model errs on the perturbed image (K,), 1.0 or 0.0; NaN without a model.
    """

    kind: str
    name: str
    title: str
    strength: float | None
    norm: str | None
    ids: tuple[str, ...]
    energies: Array
    counts: npt.NDArray[np.bool_]
    wrong: Array

    def spectrum(
        self, partition: SpectralPartition, image_size: tuple[int, int], n_channels: int
    ) -> PerturbationSpectrum:
        """Its spectrum over the images that count and are changed."""
        m = partition.n_bands
        changed = self.energies[:, m : 2 * m].sum(axis=1) > 0
        return PerturbationSpectrum(
            partition, image_size, n_channels, self.energies[self.counts & changed],
            n_failed=int((~self.counts).sum()), n_unchanged=int((self.counts & ~changed).sum()),
        )  # fmt: skip


def pooled(severities: Sequence[Condition]) -> Condition:
    """A corruption over its severities: each image's energies and errors averaged over them."""
    first = severities[0]
    shared = set(first.ids).intersection(*(c.ids for c in severities))
    ids = tuple(name for name in first.ids if name in shared)
    energies, wrong = [], []
    for condition in severities:
        place = {name: k for k, name in enumerate(condition.ids)}
        at = [place[name] for name in ids]
        energies.append(condition.energies[at])
        wrong.append(condition.wrong[at])
    return Condition(
        first.kind, first.name, first.title, None, first.norm, ids,
        np.mean(energies, axis=0), np.ones(len(ids), dtype=bool), np.mean(wrong, axis=0),
    )  # fmt: skip


def identity(condition: Condition) -> dict[str, Any]:
    """What tells a condition from others, for tables."""
    return {
        "kind": condition.kind, "name": condition.name, "title": condition.title,
        "strength": condition.strength, "norm": condition.norm,
    }  # fmt: skip


def error(condition: Condition) -> dict[str, float]:
    """Error rate with an interval: Wilson's, or the bootstrap's for a mean over severities."""
    wrong = condition.wrong
    if np.isnan(wrong).any():
        return {"error": np.nan, "error_low": np.nan, "error_high": np.nan}
    if np.isin(wrong, (0, 1)).all():
        low, high = wilson(float(wrong.sum()), len(wrong))
    else:
        low, high = bootstrap(wrong[:, None], lambda x: x[..., 0])[1]
    return {"error": float(wrong.mean()), "error_low": float(low), "error_high": float(high)}


def success(condition: Condition) -> dict[str, float]:
    """Share of the correctly classified images on which an attack succeeds; NaN for others."""
    n_success = int(condition.counts.sum())
    n_correct = n_success + int((condition.wrong == 0).sum())
    if condition.kind == "corruption" or not n_correct:
        return {"n_correct": np.nan} | dict.fromkeys(
            ("success", "success_low", "success_high"), np.nan
        )
    low, high = wilson(n_success, n_correct)
    return {
        "n_correct": n_correct, "success": n_success / n_correct, "success_low": low,
        "success_high": high,
    }  # fmt: skip
