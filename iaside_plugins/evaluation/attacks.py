"""Accuracy under attack over a whole data set: by budget, in the worst case, as one curve.

`worst_case` defines the worst case of several attacks once, for these tables and for entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.html import html_table
from iaside_plugins.display.masking import is_weaker
from iaside_plugins.stats.intervals import mean_interval, median_interval, wilson
from iaside_plugins.storage.files import jsonable

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def worst_case(
    correct: Flags, attacks: Sequence[tuple[str, Mapping[float, Flags]]], epsilon: float
) -> tuple[list[str], Flags]:
    """Return which attacks count at a budget, and the images that withstand all of them.

    An attack counts at every budget at or above one that it was run at: a perturbation within a
    smaller ball is within the larger one. Budget 0 stands for the clean images, and counts at 0.

    Args:
        correct: Whether each clean image is classified correctly (K,).
        attacks: For each attack of one norm its name, and budget -> whether it succeeded (K,).
        epsilon: The budget.

    Returns:
        Names of the attacks that count, and whether each image is classified correctly and
        withstands them (K,).
    """
    robust = correct.copy()
    for _, successes in attacks:
        for budget, is_adv in successes.items():
            if budget <= epsilon:
                robust &= ~is_adv
    names = [
        name
        for name, successes in attacks
        if any(0 < budget <= epsilon or budget == epsilon for budget in successes)
    ]
    return names, robust


def weaker(attacks: Sequence[Mapping[str, Any]], fooled: Sequence[Flags]) -> list[dict[str, Any]]:
    """Return where an attack of many steps leaves more images than a single step does.

    Args:
        attacks: Name, norm, steps (None for a single step), epsilon and accuracy, as in an entry.
        fooled: For each of them, which images it fools that are classified rightly (K,).

    Returns:
        Names of both attacks, the budget, and how many images the single step fools that the
        attack of many steps does not.
    """
    return [
        {
            "attack": one["name"],
            "single": single["name"],
            "norm": one["norm"],
            "epsilon": one["epsilon"],
            "n_missed": int((own & ~hits).sum()),
        }
        for one, hits in zip(attacks, fooled, strict=True)
        for single, own in zip(attacks, fooled, strict=True)
        if is_weaker(one, single)
    ]


def apart(
    attacks: Sequence[Mapping[str, Any]], libraries: Sequence[str | None]
) -> list[dict[str, Any]]:
    """Return how far attacks of many steps by two libraries are apart at one norm and budget.

    Args:
        attacks: As for `weaker`.
        libraries: Whose program each of them is.

    Returns:
        Names of both attacks, the budget, and accuracy under the first minus that under the other.
    """
    iterated = [
        (one, library)
        for one, library in zip(attacks, libraries, strict=True)
        if one["steps"] is not None
    ]
    return [
        {
            "attack": one["name"],
            "other": other["name"],
            "norm": one["norm"],
            "epsilon": one["epsilon"],
            "difference": one["accuracy"]["value"] - other["accuracy"]["value"],
        }
        for k, (one, library) in enumerate(iterated)
        for other, another in iterated[k + 1 :]
        if library != another and (one["norm"], one["epsilon"]) == (other["norm"], other["epsilon"])
    ]


@dataclass(frozen=True, eq=False)
class AttackOutcome:
    """Which of K images one attack succeeded on.

    Attributes:
        name: Name of the attack.
        norm: Norm of its budgets: "Linf", "L2", "L1" or "L0".
        settings: The attack as it prints.
        minimal: Whether it looks for the least perturbation.
        epsilons: Budgets, ascending, in units of the model's bounds.
        is_adv: Whether it succeeded (n_epsilons, K), exactly as the attack's library says: False
            where it makes a misclassified image correct; at budget 0 whether the clean image is
            misclassified.
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

    @property
    def successes(self) -> dict[float, Flags]:
        """Budget -> whether the attack succeeded (K,)."""
        return dict(zip(self.epsilons, self.is_adv, strict=True))


@dataclass(frozen=True, eq=False)
class RobustEvaluation:
    """Attacks on K images. Intervals are 95 %, over images.

    An image counts as robust if it is classified correctly without an attack and the attack fails
    (an attack that makes a misclassified image correct does not make it robust).

    Attributes:
        ids: Name or digest of every image, in order.
        correct: Whether each clean image is classified correctly (K,).
        outcomes: One for each attack.
        info: Seed and bounds, for `to_dict`.
        masking: What attacks by gradients saw and missed, as in an entry; None without one.
    """

    ids: tuple[str, ...]
    correct: Flags
    outcomes: tuple[AttackOutcome, ...]
    info: Mapping[str, Any]
    masking: Mapping[str, Any] | None = None

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.ids)

    @property
    def clean_accuracy(self) -> float:
        """Share of images classified correctly without an attack, in [0, 1]."""
        return float(self.correct.mean())

    def __repr__(self) -> str:
        names = ", ".join(outcome.name for outcome in self.outcomes)
        accuracy = 100 * self.clean_accuracy
        return f"RobustEvaluation({names}; {self.n_images} images, {accuracy:.1f} % clean)"

    def _repr_html_(self) -> str:
        return html_table(repr(self), self.to_frame())

    def to_frame(self) -> pd.DataFrame:
        """Return robust accuracy, its interval and counts: one row for each attack and budget.

        `n_robust` of `n_images` are correct and withstand the attack; `n_adv` counts the library's
        `is_adv`.
        """
        import pandas as pd

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
        """Return the accuracy against all attacks of a norm: one row for each norm and budget.

        See the function `worst_case` for which attacks count at a budget.
        """
        import pandas as pd

        rows = []
        for norm, attacks in self._by_norm().items():
            for epsilon in sorted({e for _, successes in attacks for e in successes}):
                names, robust = worst_case(self.correct, attacks, epsilon)
                row = {"norm": norm, "epsilon": epsilon, "attacks": ", ".join(names)}
                rows.append({**row, **_accuracy(robust)})
        return pd.DataFrame(rows)

    def _by_norm(self) -> dict[str, list[tuple[str, dict[float, Flags]]]]:
        """Return the attacks of every norm, as `worst_case` takes them."""
        norms: dict[str, list[tuple[str, dict[float, Flags]]]] = {}
        for outcome in self.outcomes:
            norms.setdefault(outcome.norm, []).append((outcome.name, outcome.successes))
        return norms

    def distances(self) -> pd.DataFrame:
        """Return the median least distance, its interval and failures: one row for each attack.

        Over the images classified correctly. A failure is an infinite distance, so the median is
        infinite if more than half fail. For an attack of fixed budgets the distances are those
        budgets, an upper bound.
        """
        import pandas as pd

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
        """Return the area under the worst-case accuracy over budgets, in [0, 1]: one row a norm.

        By trapezoids between the budgets that were run, from 0 (clean accuracy) to the greatest,
        divided by the greatest: the mean accuracy over budgets. The interval is normal, over
        images.
        """
        import pandas as pd

        rows = []
        for norm, attacks in self._by_norm().items():
            budgets = sorted({e for _, successes in attacks for e in successes if e > 0})
            if not budgets:
                continue
            curve = [self.correct, *(worst_case(self.correct, attacks, e)[1] for e in budgets)]
            heights = np.stack(curve).astype(float)
            per_image = np.trapezoid(heights, [0.0, *budgets], axis=0) / budgets[-1]
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
        """Return the tables as JSON values; infinite distances become null."""
        return {
            "n_images": self.n_images,
            "clean_accuracy": _accuracy(self.correct),
            **jsonable(dict(self.info)),
            "settings": {outcome.name: outcome.settings for outcome in self.outcomes},
            "attacks": jsonable(self.to_frame().to_dict("records")),
            "worst_case": jsonable(self.worst_case().to_dict("records")),
            "distances": jsonable(self.distances().to_dict("records")),
            "areas": jsonable(self.areas().to_dict("records")),
            "masking": jsonable(self.masking),
        }


def _accuracy(robust: Flags) -> dict[str, Any]:
    """Return the share of robust images with Wilson's interval, and the counts."""
    low, high = wilson(int(robust.sum()), len(robust))
    return {
        "accuracy": float(robust.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "n_robust": int(robust.sum()),
        "n_images": len(robust),
    }
