"""What a command will cost, said before it begins: passes, time, memory, how to make it shorter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.display.text import aligned
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.inference.checks import KnownClasses, model_device
from iaside_plugins.inference.gradients import try_first_gradient
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import Work, added, n_passes
from iaside_plugins.workflows.probe import (
    Speed,
    beside_passes,
    corruption_seconds,
    in_words,
    speed_of,
)

SHORT = 10.0  # seconds of work that is announced in one line


@dataclass(frozen=True)
class Cost:
    """What a command will cost.

    Attributes:
        parts: Part of the command -> its work.
        speed: What one piece of each kind of work costs.
        shorter: Part -> what would make it shorter, an end of a sentence.
        held: Bytes of images that are held in memory, beside those of the try.
        at_most: Whether the command may need less, since it stops once it knows enough.
        speeds: Part -> its own speed, where models differ.
        forwards: The protocol's; times are those of plain passes, so others take less.
        of: What it is the cost of, where a command has several: a model.
    """

    parts: Mapping[str, Work]
    speed: Speed
    shorter: Mapping[str, str] = field(default_factory=dict)
    held: int = 0
    at_most: bool = False
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    forwards: str = "plain"
    of: str = ""

    @property
    def work(self) -> Work:
        """All of it."""
        return added(*self.parts.values())

    @property
    def passes(self) -> int:
        """Forward passes, a gradient counted as `GRADIENT_PASSES` of them."""
        return round(n_passes({**self.work, "corrupted": 0}))

    @property
    def seconds(self) -> float:
        """Time, without reading the images."""
        return sum(map(self.seconds_of, self.parts))

    def seconds_of(self, part: str) -> float:
        """Return the time of one part."""
        return self.speeds.get(part, self.speed).of(self.parts[part])

    @property
    def memory(self) -> int | None:
        """Bytes that the command needs at least: those in use so far, and the images held."""
        return None if self.speed.memory is None else self.speed.memory + self.held

    def __str__(self) -> str:
        return self.first_line if self.seconds < SHORT else self.whole

    @property
    def first_line(self) -> str:
        """The cost in one line."""
        n_made = round(self.work.get("corrupted", 0))
        counts = [f"{self.passes:,} forward passes"] if self.passes else []
        counts += [f"{n_made:,} corrupted images to make"] if n_made else []
        most = "at most " if self.at_most else ""
        memory = "" if self.memory is None else f"; memory at least {self.memory / 1e9:.1f} GB"
        less = "" if self.forwards == "plain" else " or less"
        cost = f"cost of {self.of}" if self.of else "cost"
        counted = f"{most}{' and '.join(counts)}, " if counts else ""
        return f"{cost}: {counted}about {in_words(self.seconds)}{less}{memory}"

    @property
    def whole(self) -> str:
        """The cost part by part, and what would make it shorter."""
        lines = [self.first_line, *aligned(self._rows(), indent="  ")]
        advice = self.shorter.get(self.longest)
        return "\n".join([*lines, *([f"shorter: {advice}"] if advice else [])])

    @property
    def longest(self) -> str:
        """The part that takes longest."""
        return max(self.parts, key=self.seconds_of, default="")

    def _rows(self) -> list[list[str]]:
        """Return a row for each part: its counts and its time."""
        rows = []
        for part, work in self.parts.items():
            plain = round(work.get("forward", 0) + work.get("coalition", 0))
            numbers = {
                "passes": plain,
                "gradients": round(work.get("gradient", 0)),
                "images made": round(work.get("corrupted", 0)),
            }
            counts = ", ".join(f"{n:,} {what}" for what, n in numbers.items() if n)
            rows.append([part, counts, in_words(self.seconds_of(part))])
        return rows or [["nothing", "", ""]]

    def to_dict(self) -> dict[str, Any]:
        """Return the cost as JSON values."""
        parts = {
            part: {**{kind: round(n) for kind, n in work.items()}, "seconds": self.seconds_of(part)}
            for part, work in self.parts.items()
        }
        return {
            **({"of": self.of} if self.of else {}),
            "n_forward": self.passes,
            "seconds": self.seconds,
            "memory_bytes_at_least": self.memory,
            "at_most": self.at_most,
            "seconds_each": dict(self.speed.seconds),
            "parts": parts,
            "shorter": self.shorter.get(self.longest),
        }


def probed(
    model: Classifier | None,
    images: Any,
    *,
    protocol: Protocol | None = None,
    corruptions: CorruptionPlan | None = None,
    gradients: bool = False,
    n_devices: int = 1,
    **options: Any,
) -> Speed:
    """Return what each kind of work costs with these images.

    Args:
        model: The model, or None where there is none: then images are only made.
        images: The images, as `ImageFolderData`; the first batch is read.
        protocol: Of the coalitions, if there are any.
        corruptions: Corruptions that may have to be made.
        gradients: Whether attacks need them, so that they are tried first.
        n_devices: Devices that share the work, with the processes that make images.
        options: Others of `speed_of`.

    Raises:
        InputError: The model fails, has another number of outputs than there are classes, or gives
            no gradients where they are needed.
    """
    shape = tuple(next(iter(images))[0].shape[1:])
    speed = Speed()
    if model is not None:
        n = len(images.records)
        if gradients:
            try_first_gradient(model, images, model_device(model))
        known = KnownClasses.of(images)
        given: dict[str, Any] = {"protocol": protocol, "n_devices": n_devices, **options}
        speed = speed_of(model, shape, n_images=n, classes=known, **given)
    if corruptions is None or "corrupted" not in corruptions.work:
        return speed
    made = corruption_seconds(corruptions.names, corruptions.settings)
    forward = n_devices * speed.seconds.get("forward", 0.0)  # of one of them
    added_by = beside_passes(made, images.n_workers // n_devices, forward) / n_devices
    return replace(speed, seconds={**speed.seconds, "corrupted": added_by})


def planned(model: Classifier | None, images: Any, protocol: Protocol | None) -> dict[str, Any]:
    """Return model, number of images and protocol, for the plan of a dry run."""
    found: dict[str, Any] = {} if model is None else {"model": model.info.to_dict()}
    found["images"] = len(images.records)
    if protocol is not None:
        found["protocol"] = {**protocol.to_dict(), "protocol_id": protocol.protocol_id}
    return found


def shorter_importance(protocol: Protocol, fewer: str) -> str:
    """Return what would make an importance shorter.

    Args:
        protocol: Its protocol.
        fewer: Options that take fewer images.
    """
    if protocol.estimator == "exact" and not protocol.is_script:
        sampled = replace(protocol, estimator="permutation", n_permutations=4)
        passes, fewest = (RowLayout(one).n_passes for one in (protocol, sampled))
        if 2 * fewest < passes:
            return (
                "--protocol estimator=permutation,n_permutations=4 takes about "
                f"{fewest} passes an image instead of {passes}"
            )
    return f"fewer images, {fewer}"
