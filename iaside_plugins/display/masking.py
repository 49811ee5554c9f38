"""Why a figure under attack may be too high, in sentences: what attacks saw, and what they missed.

One function makes them for the terminal, the log and the board.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from iaside_plugins.budgets import format_budget

_log = logging.getLogger(__name__)
# What tells an attack from others, whatever its budget.
SETTINGS = ("name", "norm", "steps", "rel_stepsize", "random_start", "restarts")
APART = 0.02  # of accuracies of two implementations of one attack


def masking_reasons(
    adversarial: Mapping[str, Any], norm: str | None = None, epsilon: float | None = None
) -> list[str]:
    """Return why robust accuracies of an entry may be too high; empty if nothing was seen.

    Args:
        adversarial: The entry's group. Without ``masking``, of older entries, only accuracies of
            its attacks are compared.
        norm: The reasons that concern this norm only, with `epsilon`.
        epsilon: The budget of the figure.
    """
    seen = adversarial.get("masking") or {}
    found = _gradient_reasons(seen) if seen else []
    found += [
        _rising(smaller, larger)
        for smaller, larger in _neighbours(adversarial["attacks"])
        if _is_rising(smaller, larger)
        and (norm is None or _of(smaller, norm, epsilon) or _of(larger, norm, epsilon))
    ]
    cells = [c for c in adversarial["attacks"] if norm is None or _of(c, norm, epsilon)]
    for iterated in cells:
        for single in cells:
            if is_weaker(iterated, single):
                found.append(_weaker(iterated, single, seen))
    for cell in seen.get("apart", ()):
        if (norm is None or _of(cell, norm, epsilon)) and abs(cell["difference"]) > APART:
            found.append(
                f"{cell['attack']} and {cell['other']}, two programs for one attack, are "
                f"{100 * abs(cell['difference']):.1f} points apart at {_budget(cell)}"
            )
    found += _temperature_reasons(seen.get("temperature"), norm, epsilon)
    return found


def warn_of_masking(adversarial: Mapping[str, Any], warned: Any = None) -> None:
    """Log the reasons, each a warning.

    Args:
        adversarial: As for `masking_reasons`.
        warned: Counts of gradients that were warned of already, with `to_dict`.
    """
    known = [] if warned is None else _gradient_reasons(warned.to_dict())
    for reason in masking_reasons(adversarial):
        if reason not in known:
            _log.warning("accuracy under attack may be too high: %s", reason)


def is_weaker(iterated: Mapping[str, Any], single: Mapping[str, Any]) -> bool:
    """Whether an attack of many steps leaves more images than a single step of the same budget."""
    return (
        iterated.get("steps") is not None
        and single.get("steps") is None
        and _of(iterated, single["norm"], single["epsilon"])
        and iterated["accuracy"]["value"] > single["accuracy"]["value"]
    )


def _is_rising(smaller: Mapping[str, Any], larger: Mapping[str, Any]) -> bool:
    """Whether an attack of many steps leaves more images at the larger of two budgets.

    Carlini et al., On Evaluating Adversarial Robustness (2019), ask that a larger budget never
    helps the model. A single step may overshoot, so that it says little there.
    """
    single = smaller.get("steps") is None and not smaller["name"].startswith("autoattack")
    return not single and larger["accuracy"]["value"] > smaller["accuracy"]["value"]


def _neighbours(
    cells: Sequence[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the pairs of one attack at budgets that follow each other, the smaller first."""
    runs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in cells:
        runs.setdefault(tuple(cell.get(key) for key in SETTINGS), []).append(cell)
    ordered = (sorted(run, key=lambda cell: cell["epsilon"]) for run in runs.values())
    return [pair for run in ordered for pair in pairwise(run)]


def _rising(smaller: Mapping[str, Any], larger: Mapping[str, Any]) -> str:
    return (
        f"{larger['name']} leaves more images at {_budget(larger)} than at {_budget(smaller)} "
        f"({larger['accuracy']['value']:.1%} against {smaller['accuracy']['value']:.1%}): it fails "
        "where it need not"
    )


def _of(cell: Mapping[str, Any], norm: str, epsilon: float | None) -> bool:
    return bool(cell["norm"] == norm and cell["epsilon"] == epsilon)


def _budget(cell: Mapping[str, Any]) -> str:
    return f"{cell['norm']} {format_budget(cell['epsilon'])}"


def _gradient_reasons(seen: Mapping[str, Any]) -> list[str]:
    """Return what was seen of gradients and answers."""
    n, found = seen["n_images"], []
    of = f"of {n} images classified rightly"
    if k := seen["n_zero"]:
        found.append(
            f"the gradient is zero on {k} {of} (rounding, a saturated output?): an attack by "
            "gradients cannot begin there"
        )
    if k := seen["n_non_finite"]:
        found.append(
            f"the gradient is NaN or infinite on {k} {of}: an attack by gradients goes nowhere"
        )
    if k := seen["n_varying"]:
        found.append(
            f"answers change from call to call on {k} {of} (dropout, noise?): attacks and verdict "
            "see different networks"
        )
    return found


def _weaker(iterated: Mapping[str, Any], single: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    missed = [
        one["n_missed"]
        for one in seen.get("weaker", ())
        if (one["attack"], one["single"]) == (iterated["name"], single["name"])
        and _of(one, iterated["norm"], iterated["epsilon"])
    ]
    count = f"; missed of those it fools: {missed[0]}" if missed else ""
    return (
        f"{iterated['name']} at {_budget(iterated)} does worse than the single step of "
        f"{single['name']} ({iterated['accuracy']['value']:.1%} against "
        f"{single['accuracy']['value']:.1%}{count})"
    )


def _temperature_reasons(check: Any, norm: str | None, epsilon: float | None) -> list[str]:
    """Return the budgets at which another temperature takes robustness away."""
    found = []
    for case in () if check is None else check["cases"]:
        cell = {"norm": check["norm"], "epsilon": case["epsilon"]}
        n, robust, left = check["n_images"], case["n_robust"], case["n_left"]
        if (norm is None or _of(cell, norm, epsilon)) and robust - left > APART * n:
            found.append(
                f"{check['attack']} at {_budget(cell)} leaves {robust} of {n} images, and {left} "
                "once the logits it sees are divided by a temperature: robustness that the scale "
                "of the logits only feigns"
            )
    return found
