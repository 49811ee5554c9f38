"""Where JSON goes with `--json -`: stdout, which then receives nothing else.

Models print as they are built, in Python and in other languages, so that everything but the JSON
goes to stderr until the process ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TextIO

STDOUT = ("-", "/dev/stdout")
"""What `--json` calls it."""

_set_aside: TextIO | None = None


@contextlib.contextmanager
def stdout_for_json(arguments: Sequence[str]) -> Iterator[None]:
    """Send all that is printed to stderr, if the arguments of a command ask for JSON on stdout."""
    global _set_aside
    given = " ".join(arguments).replace("--json=", "--json ").split()
    asked = any(option == "--json" and value in STDOUT for option, value in pairwise(given))
    if sys.stdout is None or not asked:
        yield
        return
    printed, _set_aside = sys.stdout, sys.stdout
    is_of_process = printed is sys.__stdout__  # not one that a test or a notebook put there
    if is_of_process:
        with contextlib.suppress(OSError, ValueError):
            printed.flush()
            _set_aside = os.fdopen(os.dup(printed.fileno()), "w")
            # Never turned back: libraries in C write what they printed as the process ends.
            os.dup2(sys.stderr.fileno(), printed.fileno())
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout, _set_aside = printed, None


def print_json(text: str) -> None:
    """Print JSON on stdout, also while everything else goes to stderr."""
    file = sys.stdout if _set_aside is None else _set_aside
    if file is not None:  # closed by the shell
        file.write(text + "\n")
        file.flush()
