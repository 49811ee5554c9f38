"""Emphasis in a terminal: warnings, verdicts and bars, each of which is words or a shape as well.

Nothing is coloured in a pipe or a file, in a terminal that cannot (TERM=dumb), or where NO_COLOR
is set (https://no-color.org).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, TextIO

import typer

WARNING = r"^(?:WARNING|  may be too high):"
VERDICT = r"^verdict: [\s\S]*"  # to the end of the text
BAR = "█+"


def has_colour(stream: TextIO | None) -> bool:
    """Return whether what is written to a stream may be coloured."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream is not None and stream.isatty()


def painted(text: str, stream: TextIO, verdicts: Sequence[str] = ()) -> str:
    """Return a text for a stream with yellow words of warning, bold verdicts and cyan bars.

    Args:
        text: Lines, as wide as they will be.
        stream: Where it goes.
        verdicts: Sentences of the text that are its verdict, however their lines are broken.
    """
    if not has_colour(stream):
        return text
    text = _styled(BAR, text, fg="cyan")
    text = _styled(WARNING, text, fg="yellow")
    said = [r"\s+".join(map(re.escape, sentence.split())) for sentence in verdicts]
    for pattern in (VERDICT, *said):
        text = _styled(pattern, text, bold=True)
    return text


def warning(text: str, stream: TextIO) -> str:
    """Return a warning for a stream, yellow where it may be."""
    return typer.style(text, fg="yellow") if has_colour(stream) else text


def _styled(pattern: str, text: str, **style: Any) -> str:
    return re.sub(pattern, lambda found: typer.style(found[0], **style), text, flags=re.M)
