"""What a command prints and writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from iaside_plugins.cli.stdout import STDOUT, print_json
from iaside_plugins.display.colour import painted
from iaside_plugins.display.cost import Cost
from iaside_plugins.display.plots import figure_format, save_figure
from iaside_plugins.display.text import fitted, terminal_width
from iaside_plugins.storage.files import check_writable, jsonable, write_json
from iaside_plugins.value_table.progress import Progress, beside_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_TOLD = 4  # of a list in the plan of a dry run


def tell(text: str, verdicts: Sequence[str] = ()) -> None:
    """Print a text, no wider than the terminal; sentences of it stand out there."""
    with beside_bars():
        typer.echo(painted(fitted(text, terminal_width()), sys.stdout, verdicts))


def _told(value: Any) -> str:
    """Return a fact of a plan as text."""
    if isinstance(value, dict):
        return str(value.get("name", value.get("protocol_id", "")))
    if not isinstance(value, (list, tuple)):
        return str(value)
    more = f" and {len(value) - N_TOLD} more" if len(value) > N_TOLD else ""
    return ", ".join(map(str, value[:N_TOLD])) + more


@dataclass(frozen=True)
class Outputs:
    """Where a command writes what it finds; checked before the work and not after it.

    Attributes:
        json_file: Receives JSON; "-" is stdout, which then receives nothing else.
        plot: Receives the plot.
        quiet: Whether to print nothing.
        files: Other files that the command will write.

    Raises:
        InputError: For a path that cannot be written, or a plot of another format.
        MissingExtraError: For a plot without matplotlib.
    """

    json_file: str | None = None
    plot: Path | None = None
    quiet: bool = False
    files: Sequence[Path | None] = ()

    def __post_init__(self) -> None:
        if self.plot is not None:
            figure_format(self.plot)
        for path in (*self.files, self.plot, self._json_path):
            if path is not None:
                check_writable(path)

    @property
    def _json_path(self) -> Path | None:
        return None if self.json_file in (None, *STDOUT) else Path(str(self.json_file))

    @property
    def silent(self) -> bool:
        """Whether nothing but JSON may be printed."""
        return self.quiet or self.json_file in STDOUT

    @property
    def bars(self) -> bool:
        """Whether to show progress, on stderr: bars, or a line now and then in a log."""
        return not self.quiet

    def progress(self, title: str, cost: Cost) -> Progress:
        """Return the one bar of a command, which counts what its cost foretold."""
        return Progress(cost.work, self.bars, title, cost.speed.weights)

    def plan(self, dry_run: bool, *costs: Cost, **facts: Any) -> bool:
        """Say what the work will cost, and return whether that is all: in a dry run.

        Args:
            dry_run: Whether to end here: then the whole plan is said, or is the JSON on stdout.
            costs: Of the command, of its models one after the other.
            facts: What else is planned, as JSON values.
        """
        if not dry_run:
            self.say("\n".join(map(str, costs)))
            return False
        if self.json_file in STDOUT:
            told: Any = [cost.to_dict() for cost in costs]
            plan = {"dry_run": True, **facts, "cost": told[0] if len(told) == 1 else told}
            print_json(json.dumps(jsonable(plan), indent=1, allow_nan=False))
        known = "; ".join(f"{name} {_told(value)}" for name, value in facts.items() if value)
        wholes = "\n".join(cost.whole for cost in costs)
        self.say(f"plan: {known}\n{wholes}\ndry run: all was checked, nothing was written")
        return True

    def say(self, text: str, verdicts: Sequence[str] = ()) -> None:
        """Print a text unless silent, see `tell`."""
        if not self.silent:
            tell(text, verdicts)

    def write(
        self,
        data: dict[str, Any],
        text: str,
        figure: Callable[[], Figure] | None = None,
        verdicts: Sequence[str] = (),
    ) -> None:
        """Write the plot and the JSON where asked for, and print the summary unless silent.

        Files that the summary does not name are named below it.

        Args:
            data: JSON values.
            text: The summary.
            figure: Draws the plot.
            verdicts: Sentences of the summary that stand out in a terminal.

        Raises:
            InputError: If a file cannot be written.
        """
        if self.plot is not None and figure is not None:
            save_figure(figure(), self.plot)
        if self.json_file in STDOUT:
            print_json(json.dumps(data, indent=1, allow_nan=False))
        elif self._json_path is not None:
            write_json(self._json_path, data)
        files = dict.fromkeys(map(str, filter(None, (*self.files, self.plot, self._json_path))))
        named = {word.rstrip(",.;:") for word in text.split()}
        text += "".join(f"\nwrote {file}" for file in files if file not in named)
        self.say(text, verdicts)
