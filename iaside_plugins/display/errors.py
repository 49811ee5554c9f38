"""How a command ends on bad input: one line on stderr in its own words, and exit code 2.

Messages of the library name an argument as Python has it, `classes=FILE`, `batch_size` or
`device must be`; a command shows them with its options, `--classes FILE`, `--batch-size`.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from iaside_plugins.errors import InputError, cut
from iaside_plugins.interrupts import (
    ignore_from_now,
    interrupted,
    raise_from_now,
    was_interrupted,
)

LONGEST = 1000  # characters of a line


@contextlib.contextmanager
def exit_on_bad_input(program: str, options: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """End the process with one line on stderr and exit code 2 on bad input and on Ctrl-C.

    Args:
        program: Begins the line.
        options: Makes the names of arguments and the options that set them, as `with_options`
            takes them.
    """
    try:
        raise_from_now()
        yield
        ignore_from_now()
    except KeyboardInterrupt:
        exit_with(program, interrupted())
    except Exception as error:
        if was_interrupted():  # what a library made of it
            exit_with(program, interrupted())
        if not isinstance(error, (InputError, OSError)):
            raise
        exit_with(program, with_options(str(error), options()))


def exit_with(program: str, message: str) -> NoReturn:
    """End the process with a message as one line on stderr and exit code 2."""
    ignore_from_now()
    sys.stderr.write(f"{program}: {one_line(message)}\n")
    sys.exit(2)


def one_line(message: str) -> str:
    """Return a message on one line, without its middle if it is very long."""
    return cut(" ".join(message.split()), LONGEST)


def with_options(message: str, options: Mapping[str, str]) -> str:
    """Return a message with the options of a command instead of Python's arguments.

    Args:
        message: Names arguments as `name=VALUE`, `name=...` or `name must be`; or by their bare
            name, if it has an underscore and no comma follows.
        options: Option of every argument, for example {"n_bands": "--n-bands"}; a field of an
            option as {"absence": "--protocol absence="}.
    """
    names = "|".join(sorted(options, key=len, reverse=True))
    if not names:
        return message

    named: set[str] = set()

    def replaced(found: re.Match[str]) -> str:
        name, equals, value, dots, must = found.groups()
        option, is_field = options[name].removesuffix("="), options[name].endswith("=")
        if not (equals or must or ("_" in name and not is_field)):
            return found[0]
        if is_field:  # the option of several fields is named once
            owner, _, field = option.partition(" ")
            option = field if owner in named else option
            named.add(owner)
        if not equals or dots:
            return option
        return option + ("=" if is_field else " ") + (value or "")  # unquoted, it follows

    return re.sub(
        rf"(?<![\w./\\,'\"-])({names})"
        r"(?:(=)(?:'([\w:.,/+-]*)'|(\.\.\.))?|(?![\w./\\=,'\"])(?=( must )?))",
        replaced,
        message,
    )
