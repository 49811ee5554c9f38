"""What `gpu_check.py` measures of one network: speed of its doors against bare forward passes.

Every figure is the median of rounds in which what is compared takes turns. On a GPU times are
between CUDA events, so that they hold what the host does not hide; on a CPU they are CPU seconds.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from bench_forwards import script_run
from device_checks.checks import tf32
from device_checks.nets import SmallNet, settled, with_steps
from torch import Tensor, nn

from iaside_plugins import Protocol, error_decomposition, spectral_importance
from iaside_plugins.adapters.models.installed import PACKAGED, packaged_file
from iaside_plugins.adapters.models.load import SOURCES
from iaside_plugins.adapters.models.weights import put_state, read_state
from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError
from iaside_plugins.inference.forward import Forward
from iaside_plugins.inference.tuning import tune
from iaside_plugins.shapley.coalitions import all_coalitions
from iaside_plugins.value_table import game, rows, table
from iaside_plugins.value_table.game import Game

LITE0 = "efficientnet_lite0"
WAYS: dict[str, tuple[str, ...]] = {  # way of running -> its steps, see `tuning.tune`
    "plain": (),
    "channels last": ("channels_last",),
    "fast": ("channels_last", "fold_batch_norms", "cuda_graph"),
    "compiled": ("channels_last", "compile"),
    "channels last, graph": ("channels_last", "cuda_graph"),
}
PRECISIONS = ("float32", "TF32", "bfloat16")  # float32 with convolutions and products in it
COMPILING = 35.0  # seconds that a compilation may take
LATER = 0.35  # share of a network's time that is kept for what follows its ways of running
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        n_bands: Bands.
        batch_size: Rows in a pass, at most.
        small: Smaller batches, in which graphs are tried too.
        side: Pixels of an image.
        seconds: Of bare passes in one round.
        rounds: Rounds.
        product: Rows of the square matrices whose product measures the card's peak.
    """

    n_bands: int = 6
    batch_size: int = 256
    small: tuple[int, ...] = (64, 8)
    side: int = 224
    seconds: float = 0.3
    rounds: int = 3
    product: int = 8192


QUICK = Sizes(3, 16, (4,), 16, 0.01, 1, 256)
ON_A_CPU = Sizes(2, 4, (), 224, 0.1, 1, 1024)  # shows that everything runs on these networks


# ---- networks ------------------------------------------------------------------------------
def lite0(weights: Path | None) -> tuple[nn.Module, str]:
    """EfficientNet-Lite0 with a file's weights, those of its installed package, or random ones."""
    packaged = PACKAGED[LITE0]
    net = packaged.build().net
    try:
        file = weights or packaged_file(packaged.distribution, packaged.file)
        put_state(net, packaged.rename(net, read_state(file), file.name), file.name)
    except (InputError, OSError, ImportError) as error:
        return net, f"random weights ({error})"
    return net, f"weights of {file.name}"


def unweighted(spec: str) -> tuple[nn.Module, str]:
    """A network of torchvision or timm with random weights."""
    prefix, _, name = spec.partition(":")
    return SOURCES[prefix].load(name, False, None).net, "random weights"


NETWORKS: dict[str, Callable[[argparse.Namespace], tuple[nn.Module, str]]] = {
    "small": lambda _: (SmallNet(), "random weights"),  # of a quick run
    "ResNet-50": lambda _: unweighted("torchvision:resnet50"),
    "ViT-B/16": lambda _: unweighted("torchvision:vit_b_16"),
    "EfficientNet-Lite0": lambda options: lite0(options.weights),
}


# ---- clocks --------------------------------------------------------------------------------
def timed(run: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """What a call gives, and its seconds: between events on a GPU, of the process on a CPU."""
    if device.type != "cuda":
        start = time.process_time()
        found = run()
        return found, max(time.process_time() - start, 1e-9)
    torch.cuda.synchronize(device)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    found = run()
    last.record()
    last.synchronize()
    return found, first.elapsed_time(last) / 1e3


def host_seconds(launch: Callable[[], Any], device: torch.device) -> float:
    """Median time until a call returns, on a device that was idle; the first call warms up."""
    found = []
    for _ in range(6 if device.type == "cuda" else 2):
        _wait(device)
        start = time.perf_counter()
        launch()
        found.append(time.perf_counter() - start)
    _wait(device)
    return median(found[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops_of(net: nn.Module, image: Tensor) -> int:
    """Floating-point operations of one image, a multiplication and an addition being two."""
    from torch.utils.flop_counter import FlopCounterMode

    # With gradients: without them torch fuses attention into an operator that is not counted.
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        net(image)
    return counter.get_total_flops()


def peak_flops(precision: str, sizes: Sizes, device: torch.device) -> float:
    """Operations a second of a large matrix product: what this card reaches, as it is set up."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    n, repeats = sizes.product, 10
    a, b = (torch.rand(n, n, device=device, dtype=dtype) for _ in range(2))
    out = a @ b
    with numerics(precision):
        found = [
            timed(lambda: [torch.matmul(a, b, out=out) for _ in range(repeats)], device)[1]
            for _ in range(3)
        ]
    return 2 * n**3 * repeats / median(found[1:])


def numerics(precision: str) -> AbstractContextManager[None]:
    """Allow TF32 or not."""
    return tf32(precision == "TF32")


# ---- one network ---------------------------------------------------------------------------
class Bench:
    """One network, and what is measured of it."""

    def __init__(self, name: str, options: argparse.Namespace, deadline: float) -> None:
        self.name, self.deadline = name, deadline
        self.device, self.script = torch.device(options.device), options.script
        own = Sizes() if self.device.type == "cuda" else ON_A_CPU
        self.sizes = QUICK if options.quick else own
        torch.manual_seed(0)
        net, self.weights = NETWORKS[name](options)
        self.net = net.eval().to(self.device)
        self.batch_size = self._fitting()
        self.flops = flops_of(self.net, self._noise(1))
        self.peaks: dict[str, float] = {}
        self.longest = 0.0  # seconds of a measurement so far

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.monotonic()

    def rows(self) -> Iterator[Row]:
        """Yield all that is measured of the network; compilations, which may hang, come last."""
        on_gpu = self.device.type == "cuda"
        ways = [way for way in WAYS if on_gpu or "cuda_graph" not in WAYS[way]]
        late = LATER * self.left
        yield from self._speeds([way for way in ways if way != "compiled"], PRECISIONS, late)
        if self.script is not None:
            yield self._tried({"kind": "script"}, self.script_speed)
        yield self._tried({"kind": "settling"}, self.settling)
        for label, run in self.earnings():
            yield self._tried({"kind": "earns", **label}, run)
        if on_gpu:
            yield from self._speeds(["compiled"], PRECISIONS[::-1], COMPILING)

    def _speeds(
        self, ways: Sequence[str], precisions: Sequence[str], reserve: float
    ) -> Iterator[Row]:
        for way in ways:
            for precision in precisions:
                if self.device.type == "cuda" or precision != "TF32":
                    row = {"kind": "speed", "way": way, "precision": precision}
                    yield self._tried(row, partial(self.speed, way, precision), reserve)

    def _tried(self, row: Row, run: Callable[[], Row], reserve: float = 0.0) -> Row:
        """The row with what a measurement gives, or why there is none."""
        row = {"network": self.name, **row}
        if self.left < reserve + self.longest:
            return {**row, "status": "not run", "reason": f"out of time, {self.left:.0f} s left"}
        start = time.monotonic()
        try:
            return {**row, "status": "measured", **run()}
        except InputError as error:  # a step that this network does not take
            return {**row, "status": "not run", "reason": str(error)}
        except Exception as error:  # noqa: BLE001  the others go on
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            return {**row, "status": "error", "reason": reason}
        finally:
            self.longest = max(self.longest, time.monotonic() - start)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    @torch.no_grad()
    def _fitting(self) -> int:
        """The batch size, halved until a pass fits."""
        n = self.sizes.batch_size
        while True:
            try:
                self.net(self._noise(n))
                _wait(self.device)
                return n
            except Exception as error:
                if n == 1 or not is_out_of_memory(error):
                    raise
            n //= 2

    def _noise(self, n: int, seed: int = 0) -> Tensor:
        side = self.sizes.side
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(n, 3, side, side, generator=generator).to(self.device)

    def _set_up(self, way: str, precision: str, batch_size: int) -> _Ready:
        """The forward pass, its input, and the protocol of the doors."""
        steps, n_bands = WAYS[way], self.sizes.n_bands
        half = precision if precision == "bfloat16" else "float32"
        per_pass = max(1, batch_size // 2**n_bands)
        n_rows = min(batch_size, per_pass * (2**n_bands - 1))
        probe = self._noise(n_rows)
        labels = torch.zeros(n_rows, dtype=torch.long, device=self.device)
        forward = with_steps(Forward(self.net, self.device, half), steps, probe, labels)
        kind = "compiled" if "compile" in steps else "fast" if steps else "plain"
        protocol = Protocol(n_bands, forwards=kind)
        return _Ready(
            forward, forward.to_memory_format(probe), protocol, batch_size, half, per_pass
        )

    # ---- speed of the doors ----
    def speed(self, way: str, precision: str) -> Row:
        """One way of running in one precision."""
        with numerics(precision), torch.no_grad():
            before = self._memory()
            ready = self._set_up(way, precision, self.batch_size)
            for _ in range(3):
                ready.forward(ready.images)
            held = self._memory() - before
            found = self._doors(ready)
            found["memory"] = self._peak_memory(ready) | {"MB held": held / 1e6}
            found["host_ms_a_batch"] = self._host(ready)
        if precision not in self.peaks:
            self.peaks[precision] = peak_flops(precision, self.sizes, self.device)
        found["flops_a_row"] = self.flops
        found["measured_peak_tflops"] = self.peaks[precision] / 1e12
        found["share_of_peak"] = self.flops * found["rows_a_second"]["bare"] / self.peaks[precision]
        return found

    def _doors(self, ready: _Ready) -> Row:
        """Rows a second of bare passes and of both doors."""
        passes = self._passes(ready)
        many, few = (self._images(ready, n) for n in (passes, 1))
        both = {"profile": ready.profile, "explain": ready.explain}
        runs: dict[str, Callable[[], int]] = {"bare": lambda: ready.bare(passes)}
        for door, run in both.items():
            runs[door] = partial(run, self.net, *many)
            runs[f"{door}, one pass"] = partial(run, self.net, *few)
        found = self._turns(runs)
        rates = {name: [n / seconds for n, seconds in found[name]] for name in ("bare", *both)}
        steady = {
            door: [
                (n - first) / max(seconds - once, 1e-9)
                for (n, seconds), (first, once) in zip(
                    found[door], found[f"{door}, one pass"], strict=True
                )
            ]
            for door in both
        }
        return {
            "batch_size": ready.batch_size,
            "rows_a_pass": len(ready.images),
            "n_images": len(many[0]),
            "rounds": len(rates["bare"]),
            "rows_a_second": {name: median(rate) for name, rate in rates.items()},
            "whole": {door: _ratio(rates[door], rates["bare"]) for door in both},
            "steady": {door: _ratio(steady[door], rates["bare"]) for door in both},
        }

    def _turns(self, runs: dict[str, Callable[[], int]]) -> dict[str, list[tuple[int, float]]]:
        """Rows and seconds of every run, in rounds in which they take turns.

        The first round warms up; it counts where there is no time for another.
        """
        found: dict[str, list[tuple[int, float]]] = {name: [] for name in runs}
        took = 0.0
        for k in range(self.sizes.rounds + 1):
            if k > 0 and self.left < took:
                break
            start = time.monotonic()
            for name, run in runs.items():
                found[name].append(timed(run, self.device))
            took = time.monotonic() - start
        return {name: rounds[1:] or rounds for name, rounds in found.items()}

    def _passes(self, ready: _Ready) -> int:
        """How many bare passes fill a round."""
        ready.bare(1)
        return max(2, round(self.sizes.seconds / timed(lambda: ready.bare(1), self.device)[1]))

    def _images(self, ready: _Ready, passes: int) -> tuple[Tensor, Tensor]:
        """Images and labels in memory for so many passes."""
        rows_of_each = 2**ready.protocol.n_bands - 1
        n = max(ready.per_pass, passes * len(ready.images) // rows_of_each)
        return torch.rand(n, *ready.images.shape[1:]), torch.zeros(n, dtype=torch.long)

    def _host(self, ready: _Ready) -> Row:
        """Milliseconds of the Python thread until a batch is launched: bare, and by the engine."""
        images, labels = self._images(ready, 1)
        names = [str(k) for k in range(len(images))]
        coalitions = all_coalitions(ready.protocol.n_bands)
        engine = Game.of(self.net, ready.protocol, self.device, ready.batch_size, ready.precision)
        n_passes = -(-len(images) * (len(coalitions) - 1) // len(ready.images))
        with settled(ready.forward):
            started = host_seconds(
                lambda: engine.start(images, None, labels, coalitions, names), self.device
            )
        bare = host_seconds(lambda: ready.forward(ready.images), self.device)
        return {"bare": 1e3 * bare, "engine": 1e3 * started / n_passes}

    def _memory(self) -> int:
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0

    def _peak_memory(self, ready: _Ready) -> Row:
        """Megabytes beyond a bare pass, and the bound in the docstring of `spectral_importance`."""
        n_bands, image = ready.protocol.n_bands, ready.images[0].numel() * 4
        bound = ready.batch_size * image + ready.per_pass * (3 * n_bands + 2) * image
        if self.device.type != "cuda":
            return {"MB beyond a bare pass": None, "MB bound": bound / 1e6}
        peaks = []
        profile = partial(ready.profile, self.net, *self._images(ready, 2))
        for run in (lambda: ready.bare(1), profile):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            run()
            torch.cuda.synchronize(self.device)
            peaks.append(torch.cuda.max_memory_allocated(self.device))
        beyond = peaks[1] - peaks[0]
        return {
            "MB peak": peaks[1] / 1e6,
            "MB beyond a bare pass": beyond / 1e6,
            "MB bound": bound / 1e6,
            "within": beyond <= bound,
        }

    # ---- others ----
    def script_speed(self) -> Row:
        """The authors' script on the same bands, as it is and without gradients."""
        n, n_bands = min(64, self.batch_size), self.sizes.n_bands
        data = self._noise(n).cpu(), torch.zeros(n, dtype=torch.long)
        try:
            run = script_run(self.script, self.net, data, n_bands, n, self.device)
        except ImportError as error:
            raise InputError(f"the script needs {error.name}") from error
        with numerics("float32"):
            released = timed(run, self.device)[1]
            with torch.no_grad():
                without_gradients = timed(run, self.device)[1]
        n_rows = n * 2**n_bands
        rates = {"as released": n_rows / released, "under no_grad": n_rows / without_gradients}
        return {"precision": "float32", "batch_size": n, "rows_a_second": rates}

    def settling(self) -> Row:
        """What ``forwards="fast"`` takes by itself, with torch's own precision and in half."""
        found: Row = {}
        probe = self._noise(self.batch_size)
        labels = torch.zeros(len(probe), dtype=torch.long, device=self.device)
        for precision in ("TF32", "bfloat16"):
            half = precision if precision == "bfloat16" else "float32"
            start = time.perf_counter()
            with numerics(precision):
                try:
                    forward = tune(Forward(self.net, self.device, half), "fast", probe, labels)
                    one: Row = {"steps": forward.to_list()}
                except InputError as error:  # half precision is too coarse for this network
                    one = {"steps": [], "refused": str(error)}
            found[precision] = {**one, "seconds": time.perf_counter() - start}
        return {"precisions": found}

    def earnings(self) -> Iterator[tuple[Row, Callable[[], Row]]]:
        """What graphs earn at several batch sizes; what the group ahead and free copies earn."""
        for size in (self.batch_size, *self.sizes.small):
            for what in ("CUDA graph", "a group ahead", "copies behind passes"):
                if what != "CUDA graph" or self.device.type == "cuda":
                    label = {"what": what, "batch_size": size, "precision": "bfloat16"}
                    yield label, partial(self._gain, what, size)

    @torch.no_grad()
    def _gain(self, what: str, size: int) -> Row:
        """Profiles with and without it, which take turns; of a graph bare passes too."""
        ready = self._set_up("channels last", "bfloat16", size)
        sides = {"with": ready, "without": ready}
        if what == "CUDA graph":
            sides["with"] = self._set_up("channels last, graph", "bfloat16", size)
        passes = self._passes(ready)
        images, labels = self._images(ready, passes)

        def profile(side: str) -> int:
            with without(what) if side == "without" else nullcontext():
                return sides[side].profile(self.net, images, labels)

        runs: dict[str, Callable[[], int]] = {
            f"{side}, profile": partial(profile, side) for side in sides
        }
        doors = ["profile"]
        if what == "CUDA graph":
            doors.append("bare")
            runs |= {f"{side}, bare": partial(one.bare, passes) for side, one in sides.items()}
        rates = {
            name: [n / seconds for n, seconds in rounds]
            for name, rounds in self._turns(runs).items()
        }
        found: Row = {
            side: {door: median(rates[f"{side}, {door}"]) for door in doors} for side in sides
        }
        gain = {door: _ratio(rates[f"with, {door}"], rates[f"without, {door}"]) for door in doors}
        return {**found, "gain": gain, "rounds": len(rates["with, profile"])}


def without(what: str) -> ExitStack:
    """Run the engine without one of the things that let host and GPU work at once."""
    stack = ExitStack()
    if what == "a group ahead":
        stack.enter_context(mock.patch.object(rows, "groups_ahead", return_value=0))
    elif what == "copies behind passes":
        stack.enter_context(
            mock.patch.object(
                game, "to_device", lambda tensor, device, dtype=None: tensor.to(device, dtype)
            )
        )
        stack.enter_context(mock.patch.object(table, "to_host", lambda tensor: tensor.cpu()))
    return stack


def _ratio(found: Sequence[float], other: Sequence[float]) -> float:
    return median(a / b for a, b in zip(found, other, strict=True))


@dataclass(frozen=True)
class _Ready:
    """A settled forward pass, an input for it, and the doors that take it.

    Attributes:
        per_pass: Images that share a pass.
    """

    forward: Forward
    images: Tensor
    protocol: Protocol
    batch_size: int
    precision: str
    per_pass: int

    def bare(self, passes: int) -> int:
        """Run bare passes; how many rows there were."""
        for _ in range(passes):
            self.forward(self.images)
        return passes * len(self.images)

    def profile(self, net: nn.Module, images: Tensor, labels: Tensor) -> int:
        """Run `spectral_importance`; how many rows there were."""
        choices: Row = {"batch_size": self.batch_size, "precision": self.precision}
        with settled(self.forward):
            return spectral_importance(net, (images, labels), self.protocol, **choices).n_forward

    def explain(self, net: nn.Module, images: Tensor, labels: Tensor) -> int:
        """Run `error_decomposition` under as many conditions as share a pass; its rows."""
        n = max(1, len(images) // self.per_pass)
        conditions = {("noise", k + 1): images[-n - k :][:n] for k in range(self.per_pass)}
        pairs = (images[:n], conditions, labels[:n])
        choices: Row = {"batch_size": self.batch_size, "precision": self.precision}
        with settled(self.forward):
            return error_decomposition(net, pairs, self.protocol, **choices).n_forward
