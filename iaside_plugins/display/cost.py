"""What a run will cost, said before it begins: passes, time, memory, how to make it shorter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iaside_plugins.display.text import aligned
from iaside_plugins.value_table.progress import Work, added, n_passes
from iaside_plugins.value_table.speed import Speed

SHORT = 10.0  # seconds of work that is announced in one line


@dataclass(frozen=True)
class Cost:
    """What a run will cost.

    Attributes:
        parts: Part of the run -> its work.
        speed: What one piece of each kind of work costs.
        shorter: Part -> what would make it shorter, an end of a sentence.
        held: Bytes of images that are held in memory, beside those of the try.
        at_most: Whether the run may need less, since it stops once it knows enough.
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

    def passes_of(self, part: str) -> int:
        """Return the forward passes of one part, see `passes`."""
        return round(n_passes({**self.parts[part], "corrupted": 0}))

    @property
    def seconds(self) -> float:
        """Time, without reading the images."""
        return sum(map(self.seconds_of, self.parts))

    def seconds_of(self, part: str) -> float:
        """Return the time of one part."""
        return self.speeds.get(part, self.speed).of(self.parts[part])

    @property
    def memory(self) -> int | None:
        """Bytes that the run needs at least: those in use so far, and the images held."""
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


def in_words(seconds: float) -> str:
    """Return a time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
