"""The rule of `sensitivity/CRITERION.md`, applied to what a sensitivity study found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GAIN, STABILITY_LOSS = 0.15, 0.1
RELIABILITY_LOSS, LEAST_RELIABILITY = 0.05, 0.8
CHANGES_CLEAN_IMAGE = ("rescale",)  # whose grand coalition is not the image itself


@dataclass(frozen=True)
class Verdict:
    """What the rule says of one level.

    Attributes:
        axis: The axis.
        level: The level that might replace the default's.
        admissible: Whether it may.
        fails: What it fails, in the criterion's letters; empty if it qualifies.
        association: Its main effect on the association; None if unknown.
    """

    axis: str
    level: Any
    admissible: bool
    fails: str
    association: float | None

    @property
    def qualifies(self) -> bool:
        """Whether it replaces the default, before the confirmation."""
        return self.admissible and not self.fails


def effects(data: Mapping[str, Any], default: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Main effects where choices are crossed, with the change at the default.

    Args:
        data: The study in which choices are crossed.
        default: The study around the default, which also has the effect of the bands; its change
            at the default stands in for the crossed study's wherever it has the level.
    """
    near = {(e["axis"], e["level"]): e for e in default["effects"]}
    out = []
    for e in data["effects"]:
        own = near.get((e["axis"], e["level"]), e)
        out.append({**e, "association_at_base": own["association_at_base"]})
    return out + [dict(e) for e in default["effects"] if e["axis"] == "n_bands"]


def verdicts(data: Mapping[str, Any], default: Mapping[str, Any]) -> list[Verdict]:
    """The rule's answer for every level, in the order of `effects`."""
    return [_verdict(e) for e in effects(data, default)]


def chosen(data: Mapping[str, Any], default: Mapping[str, Any]) -> list[Verdict]:
    """The level of greatest effect of every axis that has one which qualifies."""
    best: dict[str, Verdict] = {}
    for one in verdicts(data, default):
        if one.qualifies and (
            one.axis not in best or (one.association or 0) > (best[one.axis].association or 0)
        ):
            best[one.axis] = one
    return list(best.values())


def _verdict(e: Mapping[str, Any]) -> Verdict:
    admissible = (
        e["level"] not in CHANGES_CLEAN_IMAGE
        and _at_least(e["reliability"], -RELIABILITY_LOSS)
        and _at_least(e["reliability_there"], LEAST_RELIABILITY)
    )
    conditions = {
        "a": _at_least(e["association"], GAIN),
        "b": e["association_left_out"][0] is not None and e["association_left_out"][0] > 0,
        "c": _at_least(e["association_at_base"], 0),
        "d": _at_least(e["stability"], -STABILITY_LOSS),
    }
    fails = "".join(letter for letter, holds in conditions.items() if not holds)
    return Verdict(e["axis"], e["level"], admissible, fails, e["association"])


def _at_least(value: float | None, bound: float) -> bool:
    return value is not None and value >= bound
