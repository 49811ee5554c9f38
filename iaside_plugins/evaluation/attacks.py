"""Accuracy under attack over a whole data set: by budget, in the worst case, as one curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from iaside_plugins.stats.intervals import mean_interval, median_interval, wilson
from iaside_plugins.storage.files import jsonable

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """What one attack did to K images.

    Attributes:
        name: Of the attack.
        norm: Of its budgets: "Linf", "L2", "L1" or "L0".
        settings: The attack as it prints.
        minimal: Whether it looks for the least perturbation.
        epsilons: Budgets, ascending, in units of the model's bounds.
        is_adv: Whether it succeeded (n_epsilons, K), exactly as the attack's library says, which
            an attack that mends a misclassified image does not; at budget 0 whether the clean
            image is misclassified.
        distances: Least distance at which it succeeded (K,), at any budget: of a minimisation
            attack the perturbation's own norm, else the least budget that was tried with success;
            infinite where it failed, 0 for images misclassified without any attack.
    """

    name: str
    norm: str
    settings: str
    minimal: bool
    epsilons: tuple[float, ...]
    is_adv: Flags
    distances: Array


@dataclass(frozen=True, eq=False)
class RobustEvaluation:
    """Attacks on K images. Intervals are 95 %, over images.

    An image counts as robust where it is classified correctly without an attack and the attack
    fails (an attack that mends a misclassification does not make the image robust).

    Attributes:
        ids: Name or digest of every image, in order.
        correct: Whether each clean image is classified correctly (K,).
        outcomes: One an attack.
        info: What else is known: seed, bounds.
    """

    ids: tuple[str, ...]
    correct: Flags
    outcomes: tuple[AttackOutcome, ...]
    info: Mapping[str, Any]

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.ids)

    @property
    def clean_accuracy(self) -> float:
        """Share of images classified correctly without an attack, in [0, 1]."""
        return float(self.correct.mean())

    def to_frame(self) -> pd.DataFrame:
        """One row an attack and budget: robust accuracy with its interval, and counts.

        `n_robust` of `n_images` are correct and withstood; `n_adv` counts the library's `is_adv`.
        """
        rows = []
        for outcome in self.outcomes:
            for epsilon, is_adv in zip(outcome.epsilons, outcome.is_adv, strict=True):
                rows.append(
                    {
                        "attack": outcome.name,
                        "norm": outcome.norm,
                        "epsilon": epsilon,
                        "n_adv": int(is_adv.sum()),
                        **_accuracy(self.correct & ~is_adv),
                    }
                )
        return pd.DataFrame(rows)

    def worst_case(self) -> pd.DataFrame:
        """One row a norm and budget: accuracy on images that withstand every attack of the norm.

        A budget counts, and names, an attack that was run at it or at a smaller one: whatever
        succeeds within a smaller ball succeeds within the larger.
        """
        rows = []
        for norm in dict.fromkeys(outcome.norm for outcome in self.outcomes):
            chosen = [outcome for outcome in self.outcomes if outcome.norm == norm]
            for epsilon in sorted({e for outcome in chosen for e in outcome.epsilons}):
                robust = self.correct.copy()
                for outcome in chosen:
                    robust &= ~_broken(outcome, epsilon)
                names = [outcome.name for outcome in chosen if _counts(outcome, epsilon)]
                rows.append(
                    {
                        "norm": norm,
                        "epsilon": epsilon,
                        "attacks": ", ".join(names),
                        **_accuracy(robust),
                    }
                )
        return pd.DataFrame(rows)

    def distances(self) -> pd.DataFrame:
        """One row an attack: median least distance and its interval, share of failures.

        Over the images classified correctly; failures are infinite, so that a median above half of
        failures is infinite too. For an attack of fixed budgets distances are those budgets, an
        upper bound.
        """
        rows = []
        for outcome in self.outcomes:
            far = outcome.distances[self.correct]
            median, (low, high) = median_interval(far) if len(far) else (np.nan, (np.nan, np.nan))
            rows.append(
                {
                    "attack": outcome.name,
                    "norm": outcome.norm,
                    "minimal": outcome.minimal,
                    "median": median,
                    "median_low": low,
                    "median_high": high,
                    "n_failed": int(np.isinf(far).sum()),
                    "n_images": len(far),
                }
            )
        return pd.DataFrame(rows)

    def areas(self) -> pd.DataFrame:
        """One row a norm: area under the worst-case curve of accuracy over budgets, in [0, 1].

        Trapezoids between the budgets that were run, from 0 (clean accuracy) to the greatest, over
        its length: the mean accuracy over budgets. The interval is normal, over images.
        """
        rows = []
        for norm in dict.fromkeys(outcome.norm for outcome in self.outcomes):
            chosen = [outcome for outcome in self.outcomes if outcome.norm == norm]
            budgets = sorted({e for outcome in chosen for e in outcome.epsilons if e > 0})
            if not budgets:
                continue
            curve = [self.correct.astype(float)]
            for epsilon in budgets:
                broken = np.any([_broken(outcome, epsilon) for outcome in chosen], axis=0)
                curve.append((self.correct & ~broken).astype(float))
            per_image = np.trapezoid(np.stack(curve), [0.0, *budgets], axis=0) / budgets[-1]
            area, (low, high) = mean_interval(per_image)
            rows.append(
                {
                    "norm": norm,
                    "area": area,
                    "area_low": max(0.0, low),
                    "area_high": min(1.0, high),
                    "greatest": budgets[-1],
                    "n_images": self.n_images,
                }
            )
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """The tables as JSON values; infinite distances become null."""
        return {
            "n_images": self.n_images,
            "clean_accuracy": _accuracy(self.correct),
            **jsonable(dict(self.info)),
            "settings": {outcome.name: outcome.settings for outcome in self.outcomes},
            "attacks": jsonable(self.to_frame().to_dict("records")),
            "worst_case": jsonable(self.worst_case().to_dict("records")),
            "distances": jsonable(self.distances().to_dict("records")),
            "areas": jsonable(self.areas().to_dict("records")),
        }


def _counts(outcome: AttackOutcome, epsilon: float) -> bool:
    """Whether an attack was run at a budget or below; budget 0 alone is no attack."""
    return any(0 < e <= epsilon or e == epsilon for e in outcome.epsilons)


def _broken(outcome: AttackOutcome, epsilon: float) -> Flags:
    """Images that an attack broke at a budget or below."""
    tried = [k for k, e in enumerate(outcome.epsilons) if e <= epsilon]
    return np.asarray(outcome.is_adv[tried].any(axis=0))


def _accuracy(robust: Flags) -> dict[str, Any]:
    low, high = wilson(int(robust.sum()), len(robust))
    return {
        "accuracy": float(robust.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "n_robust": int(robust.sum()),
        "n_images": len(robust),
    }
