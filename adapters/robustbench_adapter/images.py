"""The images of one run: clean and corrupted, whole or in part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from iaside_plugins.adapters.models.robustbench_names import Threat
from iaside_plugins.entry.build import LISTED
from iaside_plugins.evaluation.conditions import Images

WHOLE_LIST = 5000
Part = Sequence[int] | None
"""Positions among the selected images, ascending; None for all."""


@dataclass(frozen=True)
class BenchmarkImages:
    """The images of one run.

    Attributes:
        threat: Data set and threat model.
        ids: Name of every selected image, in order.
        n_available: Images there are.
        selection: How they were chosen, for people and entries.
        clean: Part -> clean images.
        cell: (corruption, severity, part) -> corrupted images; (None, 0, part) -> uncorrupted
            ones through the geometry of the corrupted, or None where those are the clean ones.
        settings: How the corrupted ones were made, for the entry; empty for attacks.
    """

    threat: Threat
    ids: tuple[str, ...]
    n_available: int
    selection: str
    clean: Callable[[Part], Images]
    cell: Callable[[str | None, int, Part], Images | None]
    settings: dict[str, Any]

    @property
    def is_whole_list(self) -> bool:
        """Whether these are the images of RobustBench's published ImageNet figures."""
        return self.selection == LISTED and len(self.ids) == WHOLE_LIST


def part_of(items: Sequence[Any], part: Part) -> list[Any]:
    """The items at the positions of a part."""
    return list(items) if part is None else [items[k] for k in part]


def corruption_settings(threat: Threat, seed: int) -> dict[str, Any]:
    """How the corrupted images were made, as the entry says it."""
    if threat.is_attack:
        return {}
    settings = {"source": "distributed", "size": 224, "constants": "224", "jpeg": True}
    if threat.dataset != "imagenet":
        settings |= {"size": 32, "constants": "32", "jpeg": False}
    if threat.model == "corruptions_3d":
        settings["constants"] = None
    return {**settings, "seed": seed}
