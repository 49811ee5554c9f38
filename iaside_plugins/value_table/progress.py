"""Progress of long work, counted in forward passes of one image.

A bar in a terminal or a notebook, a plain line now and then in a log. What costs other than a plain
pass counts as so many of them (`WEIGHTS`), so that the remaining time is a fair guess. Work inside
other work moves the bar of the outermost: a command has one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from tqdm import tqdm

Work = Mapping[str, float]
"""Kind of work -> how often it is done; the kinds are those of `WEIGHTS`."""

# Measured on a CPU, PGD, medians: ResNet-20 at 32 pixels 2.4, MobileNetV2 at 128 1.9, ResNet-18 at
# 224 2.0; single runs 1.7 to 2.7.
GRADIENT_PASSES = 2.2
WEIGHTS: Work = {
    "forward": 1.0,
    "coalition": 1.0,  # a pass of an image made of some bands
    "gradient": GRADIENT_PASSES,
    "corrupted": 1.0,  # making one corrupted image: anything from 0.1 to 30, if it was not timed
}
LOG_SECONDS = 30.0  # between two lines in a log
ROUNDING = 1e-6  # of sums of passes
SMOOTHING = 0.01  # of the speed: over the last hundred states of the bar
_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


def n_passes(work: Work, weights: Work = WEIGHTS) -> float:
    """Return the forward passes that work counts as."""
    return sum(weights[kind] * n for kind, n in work.items())


def added(*works: Work) -> dict[str, float]:
    """Return several works as one."""
    kinds = dict.fromkeys(kind for work in works for kind in work)
    return {kind: sum(work.get(kind, 0) for work in works) for kind in kinds}


def times(work: Work, n: float) -> dict[str, float]:
    """Return the work of n images, given that of one."""
    return {kind: n * each for kind, each in work.items()}


class Progress:
    """How far some work is; inside other work, a part of that.

    A context manager. Counts are kept whether anything is shown or not.

    Args:
        work: All of it, or None where that is not known.
        show: Whether to show it; inside other work that decides.
        title: Of the command, in front of all that is shown.
        weights: Passes that each kind of work counts as, where they are not `WEIGHTS`; inside other
            work its weights count.

    Attributes:
        n: Passes so far.
        total: Passes in all, None if unknown.
    """

    def __init__(
        self, work: Work | None, show: bool, title: str = "", weights: Work | None = None
    ) -> None:
        self.outer = _current.get()
        own = {**WEIGHTS, **(weights or {})}
        self.weights: Work = own if self.outer is None else self.outer.weights
        self.n = 0.0
        self.total = None if work is None else n_passes(work, self.weights)
        self._title = title
        self._end: float | None = None  # of the part that is being done
        self._shown: tqdm[Any] | _Log | None = None
        if self.outer is None and show:
            self._shown = _display(title)

    def __enter__(self) -> Progress:
        _current.set(self)
        self._refresh()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.set(self.outer)
        if error is None and self.total is not None:
            self._set_total(self.n)  # what was not needed is not to come
        if self._shown is not None:
            self._shown.close()

    def update(self, work: Work) -> None:
        """Count work that is done."""
        self._advance(n_passes(work, self.weights))

    def set_work(self, work: Work) -> None:
        """Change all of the work: it became known, or less of it is needed."""
        total = max(self.n, n_passes(work, self.weights))
        if self.total is None:
            self.total = total  # whoever knows more has counted it
            self._refresh()
        else:
            self._set_total(total)

    def set_left(self, work: Work) -> None:
        """Say what is left of the work."""
        if self.total is not None:
            self._set_total(self.n + n_passes(work, self.weights))

    def set_description(self, text: str) -> None:
        """Say what is done now."""
        if self.outer is not None:
            self.outer.set_description(text)
        elif self._shown is not None:
            self._shown.set_description(f"{self._title}, {text}" if self._title else text, False)

    @contextmanager
    def part(self, work: Work) -> Iterator[None]:
        """Do a part of the work, of which each step may be counted as it is done: all at the end.

        What is counted inside never exceeds the part.
        """
        end = self.n + n_passes(work, self.weights)
        before, self._end = self._end, end if self._end is None else min(end, self._end)
        try:
            yield
        finally:
            self._end = before
        self._advance(end - self.n)

    def _advance(self, passes: float) -> None:
        if self._end is not None:
            passes = min(passes, self._end - self.n)
        self.n += max(passes, 0.0)
        if self.total is not None and self.n > self.total + ROUNDING:
            self._set_total(self.n)  # more than was foretold, so that nothing else looks done
        if self.outer is not None:
            self.outer._advance(max(passes, 0.0))
        elif self._shown is not None:
            self._shown.update(round(self.n) - int(self._shown.n))

    def _set_total(self, total: float) -> None:
        if self.outer is not None and self.outer.total is not None and self.total is not None:
            self.outer._set_total(max(self.outer.n, self.outer.total + total - self.total))
        self.total = total
        self._refresh()

    def _refresh(self) -> None:
        if self._shown is not None:
            self._shown.total = (
                None if self.total is None else max(round(self.total), self._shown.n)
            )
            self._shown.refresh()


def advance(work: Work) -> None:
    """Count work in whatever progress there is now."""
    current = _current.get()
    if current is not None:
        current.update(work)


@contextmanager
def part(work: Work) -> Iterator[None]:
    """Do a part of whatever work there is now, see `Progress.part`."""
    current = _current.get()
    if current is None:
        yield
        return
    with current.part(work):
        yield


def beside_bars() -> AbstractContextManager[None]:
    """Clear the bars of a terminal while something else is written there, then draw them again."""
    found: AbstractContextManager[None] = tqdm.external_write_mode()
    return found


def _in_a_notebook() -> bool:
    """Return whether a notebook's kernel runs here; its library alone may be imported anywhere."""
    kernel: Any = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and bool(kernel.IPKernelApp.initialized())


def _display(title: str) -> tqdm[Any] | _Log:
    """Return what shows progress on stderr, in a terminal, a notebook or a log."""
    if sys.stderr is not None and (sys.stderr.isatty() or _in_a_notebook()):
        return tqdm(
            desc=title,
            dynamic_ncols=True,
            miniters=1,
            smoothing=SMOOTHING,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} passes [{elapsed}<{remaining}]",
        )
    return _Log(title)


class _Log:
    """A line every `LOG_SECONDS`, for what is no terminal."""

    def __init__(self, title: str) -> None:
        self.title = f"iaside: {title}".rstrip(": ")
        self.n = 0
        self.total: int | None = None
        self._start = self._last = time.monotonic()

    def update(self, n: int) -> None:
        """Count passes, and write a line if the last one is long ago."""
        self.n += n
        now = time.monotonic()
        if now - self._last >= LOG_SECONDS and sys.stderr is not None:
            self._last = now
            sys.stderr.write(f"{self.title}{self._state(now - self._start)}\n")
            sys.stderr.flush()

    def _state(self, spent: float) -> str:
        if not self.total or not self.n:
            return f" {self.n:,} passes, {spent / 60:.0f} min"
        share = min(1.0, self.n / self.total)
        whole = spent / share
        unit, name = (60, "min") if whole >= 90 else (1, "s")
        return f" {share:.0%}, {spent / unit:.0f} of {whole / unit:.0f} {name}".replace("%", " %")

    def set_description(self, text: str, refresh: bool = False) -> None:
        """Do nothing: a line holds no more than it needs."""

    def refresh(self) -> None:
        """Do nothing: lines come when they are due."""

    def close(self) -> None:
        """Do nothing: the end of the work is seen without a line."""
