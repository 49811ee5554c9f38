"""The `iaside` command: its subcommands, and how it ends."""

from __future__ import annotations

import dataclasses
import io
import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any, TextIO

import typer

from iaside_plugins._version import __version__
from iaside_plugins.allocator import keep_freed_memory
from iaside_plugins.cli.compare import compare
from iaside_plugins.cli.demo import demo
from iaside_plugins.cli.doctor import doctor
from iaside_plugins.cli.evaluate import evaluate
from iaside_plugins.cli.examples import epilog
from iaside_plugins.cli.explain import explain
from iaside_plugins.cli.heatmap import heatmap
from iaside_plugins.cli.leaderboard import board
from iaside_plugins.cli.profile import profile
from iaside_plugins.cli.sensitivity import sensitivity
from iaside_plugins.cli.show import show
from iaside_plugins.cli.spectrum import spectrum
from iaside_plugins.cli.stdout import stdout_for_json
from iaside_plugins.display.colour import warning
from iaside_plugins.display.errors import exit_on_bad_input, exit_with, one_line, with_options
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.progress import beside_bars

NAME = "iaside"
ELSEWHERE = {  # (command, an option that it has not) -> what to do instead
    ("evaluate", "--severities"): "evaluate takes all five severities, which an entry needs; "
    "iaside explain has --severities",
    ("heatmap", "--band-norm"): "use --protocol band_norm=euclidean",
}
# Options whose argument has another name in the library.
ARGUMENTS = {"max_images": "n_images", "n_workers": "workers", "frost_textures": "frost"}

app = typer.Typer(
    help="Why an image classifier fails and what it reads, by band of spatial frequencies.",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(board, name="leaderboard")

# The base of typer's usage errors, wherever this version of typer takes them from.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main() -> None:
    """Run the command; input that cannot be used ends it with one line on stderr and exit 2."""
    keep_freed_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # no character is worth losing the figures for
    asked = sys.argv[1:]
    with stdout_for_json(asked), exit_on_bad_input(NAME, lambda: _options(asked)):
        try:
            code = app(asked or ["--help"], standalone_mode=False)
        except USAGE_ERROR as error:
            exit_with(NAME, _usage(error))
        except typer.Abort as error:
            raise KeyboardInterrupt from error
        if code == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> str:
    """Return the message of a usage error, for an option of other commands what to do instead."""
    command = str(getattr(getattr(error, "ctx", None), "info_name", ""))
    asked = command, str(getattr(error, "option_name", ""))
    return ELSEWHERE.get(asked) or str(error.format_message())


def _options(arguments: list[str]) -> dict[str, str]:
    """Return the option of every argument of the command that was called, see `with_options`."""
    command: Any = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    options = {
        parameter.name: max(parameter.opts, key=len)
        for parameter in command.params
        if parameter.opts[0].startswith("--")
    }
    options |= {name: options[own] for name, own in ARGUMENTS.items() if own in options}
    if "protocol" in options:
        fields = {field.name for field in dataclasses.fields(Protocol)} - options.keys()
        options |= {name: f"--protocol {name}=" for name in fields}
    return options


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


class _OneLine(logging.Formatter):
    """Formats a warning as `display.errors` does an error: one line, with the command's options."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        return one_line(with_options(super().formatMessage(record), _options(sys.argv[1:])))


class _BesideBars(logging.StreamHandler[TextIO]):
    """Writes a warning on lines of its own, not behind a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with beside_bars():
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return warning(super().format(record), self.stream)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version")
    ] = False,
) -> None:
    handler = _BesideBars(sys.stderr)
    handler.setFormatter(_OneLine(f"{NAME}: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


# In the order of `iaside --help`.
COMMANDS: tuple[Callable[..., None], ...] = (
    demo,
    explain,
    profile,
    heatmap,
    compare,
    doctor,
    evaluate,
    sensitivity,
    show,
    spectrum,
)
for subcommand in COMMANDS:
    app.command(epilog=epilog(subcommand.__name__))(subcommand)
