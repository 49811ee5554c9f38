"""Faster forward passes of a user's model, each step checked against the model as it is.

Opt-in by the protocol (``forwards="fast"`` or ``"compiled"``). A step is taken where it changes no
log-probability of a probe by more than `TOLERANCE` and saves time on this machine. The names of the
steps in use are part of the result; why others are not is in the log and the resume folder.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError, first_line
from iaside_plugins.inference.folding import copied, fold_batch_norms
from iaside_plugins.inference.forward import Forward, Graphed, Step
from iaside_plugins.inference.onnx_session import OnnxSession

Build = Callable[[Forward, Tensor], Forward]
ONNX = "onnxruntime"
TOLERANCE = 1e-3  # nats, greatest difference of a log-probability: rounding gives 1e-5
HALF_TOLERANCE = 0.1  # nats, mean difference of the true class's, for bfloat16 and float16
LEAST_GAIN = 1.02  # below it a step is noise
REPEATS = 2
SIZES = (4, 16, 64)  # rows that are tried with batch_size="auto" on a CPU
_log = logging.getLogger(__name__)


def _folded(forward: Forward, _probe: Tensor) -> Forward:
    model, n = fold_batch_norms(_module(forward))
    if n == 0:
        raise InputError("there is no batch norm to fold")
    return replace(forward, model=model)


def _channels_last(forward: Forward, probe: Tensor) -> Forward:
    if probe.shape[1] == 1:
        raise InputError("images of one channel have but one layout")
    model: Any = copied(_module(forward))
    model = model.to(memory_format=torch.channels_last)
    return replace(forward, model=model, channels_last=True)


def _compiled(forward: Forward, _probe: Tensor) -> Forward:
    return replace(forward, model=torch.compile(_module(forward)))


def _graphed(forward: Forward, _probe: Tensor) -> Forward:
    return replace(forward, model=Graphed(forward.model))


def _by_onnxruntime(plain: Forward, probe: Tensor) -> Forward:
    if plain.half or probe.dtype != torch.float32:
        raise InputError("onnxruntime is for single precision here")
    return replace(plain, model=OnnxSession(_module(plain), probe))


def _module(forward: Forward) -> nn.Module:
    if not isinstance(forward.model, nn.Module):
        raise InputError("the model is a plain function, no torch module")
    return forward.model


def _fewer_threads(forward: Forward, probe: Tensor) -> Forward:
    """Take the fastest number of threads among torch's own, half of it and one."""
    most = torch.get_num_threads()
    tried = {n: replace(forward, threads=n) for n in sorted({most, max(1, most // 2), 1})}
    if len(tried) == 1:
        raise InputError("torch has one thread")
    seconds = _seconds(list(tried.values()), probe)
    return list(tried.values())[seconds.index(min(seconds))]


def _ladder(kind: str, plain: Forward) -> dict[str, Build]:
    """Return the steps by name, in the order in which they build on one another.

    The last one of a CPU begins anew, with the plain model.
    """
    if kind == "plain":
        return {}
    steps: dict[str, Build] = {"channels_last": _channels_last, "fold_batch_norms": _folded}
    on_cpu = plain.device.type == "cpu"
    if on_cpu:
        steps["threads"] = _fewer_threads
    if kind == "compiled":
        steps["compile"] = _compiled
    elif on_cpu:
        steps[ONNX] = lambda _forward, probe: _by_onnxruntime(plain, probe)
    elif plain.device.type == "cuda":
        steps["cuda_graph"] = _graphed
    return steps


@torch.no_grad()
def tune(
    plain: Forward,
    kind: str,
    probe: Tensor,
    labels: Tensor,
    given: Mapping[str, Any] | None = None,
) -> Forward:
    """Return the fastest forward pass that gives the plain model's log-probabilities.

    Args:
        plain: The model as it is, in the precision asked for.
        kind: The protocol's ``forwards``.
        probe: Images (N, C, H, W) as they will come, on the model's device.
        labels: Their classes (N,).
        given: `Forward.choices` of the run being resumed: repeated without another check, so that
            all parts of a run round alike.

    Raises:
        InputError: If half precision moves the true class's log-probability by more than
            `HALF_TOLERANCE` nats in the mean, or a step of `given` can no longer be built or run.
    """
    if given is not None:
        return _repeated(plain, kind, probe, given)
    if kind == "plain" and not plain.half:
        return plain
    reference = _reference(plain)
    try:
        expected = _log_probabilities(reference, probe)
    except InputError:  # the run itself says which image's are not finite
        return plain
    if plain.half and reference is not plain:
        _check_half(plain, probe, labels, expected)
    forward, steps = plain, []
    for name, build in _ladder(kind, plain).items():
        step, forward = _try(name, build, forward, probe, labels, expected)
        steps.append(step)
        level = logging.WARNING if step.deviation and not step.speedup else logging.INFO
        use = "used" if step.used else "not used"
        _log.log(level, "forwards: %s %s: %s", name, use, step.reason)
    if steps and steps[-1].name == ONNX and steps[-1].used:  # of the model as it is
        steps[:-1] = [replace(one, used=False, reason=f"{ONNX} is faster") for one in steps[:-1]]
    return replace(forward, steps=tuple(steps))


def _repeated(forward: Forward, kind: str, probe: Tensor, given: Mapping[str, Any]) -> Forward:
    """Repeat the steps of the run being resumed."""
    steps = []
    for name, build in _ladder(kind, forward).items():
        if name not in given:
            steps.append(Step(name, False, "not in use when this run began"))
            continue
        try:
            if name == "threads":
                forward = replace(forward, threads=int(given[name]))
            else:
                forward = build(forward, probe)
            _log_probabilities(forward, probe)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"this run began with {name} and it can no longer be used ({_reason(error)}); "
                "give another folder for a new run"
            ) from error
        steps.append(Step(name, True, "as when this run began"))
    return replace(forward, steps=tuple(steps))


def _try(
    name: str, build: Build, forward: Forward, probe: Tensor, labels: Tensor, expected: Tensor
) -> tuple[Step, Forward]:
    """Build one step, compare its second pass (the first may only prepare it), and time it.

    A step for which memory is too short is not taken: the passes themselves may fit.
    """
    tolerance = HALF_TOLERANCE if forward.half else TOLERANCE
    try:
        better = build(forward, probe)
        _log_probabilities(better, probe)
        deviation = _deviation(better, probe, labels, expected)
        if not deviation <= tolerance:
            reason = f"log-probabilities moved by {deviation:.2g} nats, more than {tolerance:g}"
            return Step(name, False, reason, deviation), forward
        before, after = _seconds([forward, better], probe)
    except Exception as error:  # noqa: BLE001  a step may fail in any way
        return Step(name, False, _reason(error)), forward
    gain = before / after
    if gain < LEAST_GAIN:
        return Step(name, False, "no faster here", deviation, gain), forward
    return Step(name, True, f"{gain:.2f} times faster on the probe", deviation, gain), better


def _reason(error: Exception) -> str:
    return first_line(error, type(error).__name__)[:200]


def _log_probabilities(forward: Forward, probe: Tensor) -> Tensor:
    logits = forward(forward.copy_of(probe))
    if len(logits) != len(probe):
        raise InputError(f"{len(logits)} rows of logits for {len(probe)} images")
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    found = torch.log_softmax(logits.to(wide), dim=1)
    if not bool(torch.isfinite(found).all()):
        raise InputError("log-probabilities are not finite")
    return found


def _deviation(forward: Forward, probe: Tensor, labels: Tensor, expected: Tensor) -> float:
    """Return the difference from the expected log-probabilities, in nats.

    The greatest of all classes; in half precision the mean of the true class's.
    """
    difference = (_log_probabilities(forward, probe) - expected).abs()
    return float(difference.gather(1, labels[:, None]).mean() if forward.half else difference.max())


def _reference(plain: Forward) -> Forward:
    """Return what others are compared with: the model in single precision, if its weights are."""
    model = plain.model
    if not plain.half:
        return plain
    if isinstance(model, nn.Module) and any(
        p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()
    ):
        _log.warning("the model's weights are %s: not compared with float32", plain.precision)
        return plain
    return replace(plain, precision="float32")


def _check_half(plain: Forward, probe: Tensor, labels: Tensor, expected: Tensor) -> None:
    """Refuse a half precision that moves the log-likelihoods too far."""
    difference = _deviation(plain, probe, labels, expected)
    if not difference <= HALF_TOLERANCE:
        raise InputError(
            f"precision={plain.precision!r} moves this model's log-likelihoods by "
            f"{difference:.2g} nats in the mean over {len(probe)} images, more "
            f"than {HALF_TOLERANCE:g}; use "
            + ("'float16' or 'float32'" if plain.precision == "bfloat16" else "'float32'")
        )


@torch.no_grad()
def quickest_rows(forward: Forward, probe: Tensor, most: int) -> int:
    """Return how many of the probe's images to run at once on a CPU for the fastest passes.

    Args:
        forward: As it will be run.
        probe: Images (N, C, H, W).
        most: What memory allows.
    """
    sizes = [n for n in SIZES if n <= min(most, len(probe))]
    if len(sizes) < 2:
        return most
    forward(forward.copy_of(probe[: sizes[0]]))  # warms up
    took = []
    for n in sizes:
        passes = [forward.copy_of(probe[:n]) for _ in range(REPEATS)]
        start = time.perf_counter()
        for images in passes:
            forward(images)
        took.append((time.perf_counter() - start) / n)
    return sizes[took.index(min(took))]


def _seconds(forwards: list[Forward], probe: Tensor) -> list[float]:
    """Time each several times, after one pass to warm up; return the least seconds of each."""
    found = [float("inf")] * len(forwards)
    for turn in range(REPEATS + 1):
        for k, forward in enumerate(forwards):
            images = forward.copy_of(probe)
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
