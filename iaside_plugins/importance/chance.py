"""Whether a model classifies the images at all: its accuracy against chance, by an exact test."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from iaside_plugins.stats.intervals import binomial_p

SIGNIFICANCE = 0.05
_log = logging.getLogger(__name__)
_silent: ContextVar[bool] = ContextVar("silent", default=False)


def chance(hits: int, n: int, n_classes: int) -> dict[str, Any]:
    """Return how an accuracy compares with that of guessing, as an entry says it.

    Args:
        hits: Images classified correctly.
        n: Images.
        n_classes: Outputs of the model.

    Returns:
        `level`, the accuracy 1 / n_classes of guessing; `p`, one-sided, of the exact binomial test
        that the model does better; `above`, whether it does.
    """
    p = binomial_p(hits, n, 1 / n_classes)
    return {"level": 1 / n_classes, "p": p, "above": p < SIGNIFICANCE}


def chance_warning(hits: int, n: int, n_classes: int) -> str:
    """Return a line that says an accuracy is not above chance; empty where it is.

    Few images that are all classified correctly are not warned of: no accuracy says more.
    """
    found = chance(hits, n, n_classes)
    if found["above"] or hits == n:
        return ""
    said = "at or below" if hits <= n * found["level"] else "not distinguishable from"
    return (
        f"accuracy {hits / n:.1%} ({hits} of {n} images) is {said} chance, {found['level']:.2%} "
        f"for {n_classes} classes (exact binomial test, p = {found['p']:.2g}): check labels, "
        "preprocessing and weights, or take more images; no number below says what this model "
        "does where it works"
    )


def warning_line(hits: int, n: int, n_classes: int) -> list[str]:
    """Return `chance_warning` as the first line of a report; none where there is nothing to say."""
    text = chance_warning(hits, n, n_classes)
    return [f"WARNING: {text}"] if text else []


def warn_at_chance(hits: int, n: int, n_classes: int, of: str = "") -> None:
    """Log `chance_warning`, unless within `not_judged`; `of` names one model among several."""
    if not _silent.get() and (text := chance_warning(hits, n, n_classes)):
        _log.warning("%s", f"{of}: {text}" if of else text)


@contextlib.contextmanager
def not_judged() -> Iterator[None]:
    """Log no accuracy at chance within: of attacked images, or of a few of those judged later."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)
