"""Faster forward passes of a user's model, each step checked against the model as it is.

Opt-in by the protocol (``forwards="fast"`` or ``"compiled"``). A step is taken where it changes no
log-probability of a probe by more than `TOLERANCE` and saves time on this machine; what was taken,
and why the others were not, is kept with the result.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.cuda_graph import Graphed
from iaside_plugins.errors import InputError
from iaside_plugins.folding import fold_batch_norms
from iaside_plugins.precision import PRECISIONS

Model = Callable[[Tensor], Tensor]
TOLERANCE = 1e-3  # nats, greatest difference of a log-probability: rounding gives 1e-5
HALF_TOLERANCE = 0.1  # nats, mean difference of the true class's, for bfloat16 and float16
LEAST_GAIN = 1.02  # below it a step is noise
REPEATS = 2
_log = logging.getLogger(__name__)


Build = Callable[["Forward", Tensor], "Forward"]


@dataclass(frozen=True)
class Step:
    """One way to a faster forward pass, and what came of it.

    Attributes:
        name: "fold_batch_norms", "channels_last", "threads", "compile" or "cuda_graph".
        used: Whether it is in use.
        reason: Why, for people.
        deviation: Greatest difference of a log-probability on the probe, in nats; None if it
            could not be run.
        speedup: Seconds of the step before over this one's, on the probe; None if not timed.
    """

    name: str
    used: bool
    reason: str
    deviation: float | None = None
    speedup: float | None = None


@dataclass(frozen=True)
class Forward:
    """A way to run a model.

    Attributes:
        model: (N, C, H, W) -> (N, n_classes) logits.
        device: Where it is.
        precision: "bfloat16" and "float16" are autocast around the model.
        channels_last: Whether images come with their channels last in memory.
        threads: Of the CPU; None leaves torch's.
        steps: What was tried.
    """

    model: Model
    device: torch.device
    precision: str = "float32"
    channels_last: bool = False
    threads: int | None = None
    steps: tuple[Step, ...] = field(default=(), compare=False)

    @property
    def half(self) -> bool:
        """Whether the model runs under autocast."""
        return self.precision in ("bfloat16", "float16")

    def __call__(self, images: Tensor) -> Tensor:
        """The model's output."""
        dtype = PRECISIONS[self.precision] if self.half else None
        # Without the cache of cast weights: a CUDA graph would outlive it.
        autocast = torch.autocast(self.device.type, dtype, enabled=self.half, cache_enabled=False)
        with _threads(self.threads), autocast:
            return self.model(images)

    def laid_out(self, images: Tensor) -> Tensor:
        """Images in the memory layout that it wants."""
        if not self.channels_last:
            return images.contiguous()
        return images.contiguous(memory_format=torch.channels_last)

    def choices(self) -> dict[str, Any]:
        """What a resumed run must repeat, as JSON values: the steps in use by name."""
        return {s.name: self.threads if s.name == "threads" else True for s in self.steps if s.used}

    def to_list(self) -> list[dict[str, Any]]:
        """All steps as JSON values."""
        return [asdict(step) for step in self.steps]


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """So many threads of the CPU, then as many as before."""
    before = torch.get_num_threads()
    if n is None or n == before:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _folded(forward: Forward, _probe: Tensor) -> Forward:
    model, n = fold_batch_norms(_module(forward))
    if n == 0:
        raise InputError("there is no batch norm to fold")
    return replace(forward, model=model)


def _channels_last(forward: Forward, probe: Tensor) -> Forward:
    model: Any = copy.deepcopy(_module(forward))
    model = model.to(memory_format=torch.channels_last)
    if probe.shape[1] == 1:
        raise InputError("images of one channel have but one layout")
    return replace(forward, model=model, channels_last=True)


def _compiled(forward: Forward, _probe: Tensor) -> Forward:
    return replace(forward, model=torch.compile(_module(forward)))


def _graphed(forward: Forward, _probe: Tensor) -> Forward:
    return replace(forward, model=Graphed(forward.model))


def _module(forward: Forward) -> nn.Module:
    if not isinstance(forward.model, nn.Module):
        raise InputError("the model is a plain function, no torch module")
    return forward.model


def _fewer_threads(forward: Forward, probe: Tensor) -> Forward:
    """The quickest number of threads among torch's own, half of it and one."""
    most = torch.get_num_threads()
    tried = {n: replace(forward, threads=n) for n in sorted({most, max(1, most // 2), 1})}
    if len(tried) == 1:
        raise InputError("torch has one thread")
    seconds = _seconds(list(tried.values()), probe)
    return list(tried.values())[seconds.index(min(seconds))]


def _so_many_threads(forward: Forward, _probe: Tensor, n: int) -> Forward:
    return replace(forward, threads=n)


def _ladder(kind: str, device: torch.device) -> dict[str, Build]:
    """Steps by name, in the order in which they build on one another."""
    steps: dict[str, Build] = {"fold_batch_norms": _folded, "channels_last": _channels_last}
    if device.type == "cpu":
        steps["threads"] = _fewer_threads
    if kind == "compiled":
        steps["compile"] = _compiled
    elif device.type == "cuda":
        steps["cuda_graph"] = _graphed
    return steps


@torch.no_grad()
def settle(
    plain: Forward, kind: str, probe: Tensor, labels: Tensor,
    given: Mapping[str, Any] | None = None,
) -> Forward:  # fmt: skip
    """The fastest forward pass that gives the plain model's log-probabilities.

    Args:
        plain: The model as it is, in the precision asked for.
        kind: The protocol's ``forwards``.
        probe: Images (N, C, H, W) as they will come, on the model's device.
        labels: Their classes (N,).
        given: `Forward.choices` of an earlier part of this run: repeated, not timed again, so
            that a resumed run rounds as the first part did.

    Raises:
        InputError: If half precision moves the true class's log-probability by more than
            `HALF_TOLERANCE` nats in the mean, or a step of `given` can no longer be taken.
    """
    exact = replace(plain, precision="float32") if plain.half else plain
    expected = _log_probabilities(exact, probe)
    if plain.half:
        _check_half(plain, probe, labels, expected)
        expected = _log_probabilities(plain, probe)
    forward, steps = plain, []
    for name, build in ({} if kind == "plain" else _ladder(kind, plain.device)).items():
        if given is not None and name not in given:
            steps.append(Step(name, False, "not in use when this run began"))
            continue
        if name == "threads" and given is not None:
            build = partial(_so_many_threads, n=int(given[name]))
        step, better = _try(name, build, forward, probe, expected, timed=given is None)
        if step.used:
            forward = better
        elif given is not None:
            raise InputError(
                f"this run began with {name} and it can no longer be used ({step.reason}); give "
                "another folder for a new run"
            )
        steps.append(step)
        _log.info("forwards: %s %s: %s", name, "used" if step.used else "not used", step.reason)
    return replace(forward, steps=tuple(steps))


def _try(
    name: str, build: Build, forward: Forward, probe: Tensor,
    expected: Tensor, *, timed: bool,
) -> tuple[Step, Forward]:  # fmt: skip
    """One step: built, compared, timed."""
    try:
        better = build(forward, probe)
        deviation = float((_log_probabilities(better, probe) - expected).abs().max())
    except Exception as error:  # noqa: BLE001  whatever the model, the compiler or CUDA raises
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        return Step(name, False, reason), forward
    tolerance = HALF_TOLERANCE if forward.half else TOLERANCE
    if not deviation <= tolerance:
        reason = f"a log-probability moved by {deviation:.2g} nats, more than {tolerance:g}"
        return Step(name, False, reason, deviation), forward
    if not timed:
        return Step(name, True, "as when this run began", deviation), better
    before, after = _seconds([forward, better], probe)
    gain = before / after
    if gain < LEAST_GAIN:
        return Step(name, False, "no faster here", deviation, gain), forward
    return Step(name, True, f"{gain:.2f} times faster on the probe", deviation, gain), better


def _log_probabilities(forward: Forward, probe: Tensor) -> Tensor:
    logits = forward(forward.laid_out(probe))
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    found = torch.log_softmax(logits.to(wide), dim=1)
    if not bool(torch.isfinite(found).all()):
        raise InputError("log-probabilities are not finite")
    return found


def _check_half(plain: Forward, probe: Tensor, labels: Tensor, expected: Tensor) -> None:
    found = _log_probabilities(plain, probe)
    difference = (found - expected).gather(1, labels[:, None]).abs().mean()
    if not float(difference) <= HALF_TOLERANCE:
        raise InputError(
            f"precision={plain.precision!r} moves this model's log-likelihoods by "
            f"{float(difference):.2g} nats in the mean over {len(probe)} coalition images, more "
            f"than {HALF_TOLERANCE:g}; use "
            + ("'float16' or 'float32'" if plain.precision == "bfloat16" else "'float32'")
        )


def _seconds(forwards: list[Forward], probe: Tensor) -> list[float]:
    """Least seconds of each over a few turns, after one that warms it up."""
    found = [float("inf")] * len(forwards)
    for turn in range(REPEATS + 1):
        for k, forward in enumerate(forwards):
            images = forward.laid_out(probe)
            _wait(probe.device)
            start = time.perf_counter()
            forward(images)
            _wait(probe.device)
            if turn > 0:
                found[k] = min(found[k], time.perf_counter() - start)
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
