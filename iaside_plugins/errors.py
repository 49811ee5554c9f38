"""The errors that a user can mend; the command line shows them as one line and exits with 2."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONG_WORD = re.compile(r"\S{400,}")  # no name and no path is so long
LONGEST_SHOWN = 80  # characters of a value in a message


class InputError(ValueError):
    """Input that the user can mend: the message says what was expected, what came, what to do.

    Messages name arguments as Python has them, `classes=FILE` or `batch_size must be`; commands
    show their own options instead, see `display.errors`. Values of thousands of characters are
    shown without their middle.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_LONG_WORD.sub(lambda word: cut(word[0], 200), str(message)))


class InputTypeError(InputError, TypeError):
    """Input of the wrong type, for example images given as integers."""


class MissingExtraError(InputError, ImportError):
    """A library that an optional extra installs is not there; the message names the extra."""

    @classmethod
    def of(cls, needs: str, extra: str) -> MissingExtraError:
        """Return the error for what needs a library of an extra: the package is on no index."""
        return cls(f"{needs}: {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """Return how an extra is installed."""
    return f"pip install -e '.[{extra}]' in the checkout of iaside-plugins"


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
    """Return a value in quotes for a message: on one line, its middle left out if it is long."""
    return cut(ascii(value) if isinstance(value, str) else repr(value), longest)


def error_text(error: object, longest: int | None = None) -> str:
    """Return what an error of other code says for a message: on one line, its beginning if long."""
    return " ".join(str(error).split())[:longest]


def first_line(error: BaseException, otherwise: str = "no reason given") -> str:
    """Return the first line of what an error of other code says, or what to say if it is silent."""
    return (str(error).strip() or otherwise).splitlines()[0]


def first_names(names: Sequence[str], most: int) -> str:
    """Return the first names for a message, and that there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def cut(text: str, longest: int) -> str:
    """Return a text without its middle, if it is longer than so many characters."""
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
