"""The errors that a user can mend; the command line shows them as one line and exits with 2."""

from __future__ import annotations


class InputError(ValueError):
    """Input that the user can mend: the message says what was expected, what came, what to do.

    Messages name arguments as Python has them, `classes=FILE` or `batch_size must be`; commands
    show their own options instead, see `display.errors`.
    """


class InputTypeError(InputError, TypeError):
    """Input of the wrong type, for example images given as integers."""


class MissingExtraError(InputError, ImportError):
    """A library that an optional extra installs is not there; the message names the extra."""
