"""Checks that a device gives what the CPU gives: plain functions, for tests and `gpu_check.py`.

A check takes a device and notes what it measured: every deviation with its bound, so that a failure
says its size. Those that no CPU can show are `cuda_only`. Networks and images are tiny.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import oracles
import torch
from torch import Tensor, nn

from iaside_plugins import Protocol, SpectralPartition, error_decomposition, spectral_importance
from iaside_plugins.evaluation.conditions import Predictor
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.evaluation.plan import EvaluationPlan
from iaside_plugins.heatmap.run import fourier_heatmap
from iaside_plugins.inference import runner
from iaside_plugins.inference.forward import Forward, Graphed
from iaside_plugins.inference.output_checks import random_state
from iaside_plugins.inference.tuning import HALF_TOLERANCE, TOLERANCE, tune

CPU = torch.device("cpu")
ROUNDING = 1e-4  # nats: float32 sums in another order, at logits of a few units
SAME_DEVICE = 1e-5  # nats: the same device, other batches or layouts
PROTOCOL = Protocol(4)
HEAT: dict[str, Any] = {"step": 3, "partition": SpectralPartition(4)}
MIB = 2**20
HERE = Path(__file__).resolve().parent


@dataclass
class Notes:
    """What a check measured.

    Attributes:
        entries: Name, deviation and bound of everything compared.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)

    def near(self, what: str, found: Any, expected: Any, bound: float) -> None:
        """Note the greatest difference; none where shapes differ or a number is not finite."""
        a, b = (np.asarray(_host(x), dtype=np.float64) for x in (found, expected))
        deviation = float(np.abs(a - b).max(initial=0)) if a.shape == b.shape else math.inf
        self.small(what, deviation, bound)

    def small(self, what: str, deviation: float, bound: float) -> None:
        """Note a deviation and its bound; None for one that is no number, as JSON has it."""
        size = deviation if math.isfinite(deviation) else None
        ok = bool(deviation <= bound)
        self.entries.append({"what": what, "deviation": size, "bound": bound, "ok": ok})

    def holds(self, what: str, is_true: bool) -> None:
        """Note that something holds, or does not."""
        self.small(what, 0.0 if is_true else math.inf, 0.0)


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        run: (device, notes) -> None.
        cuda_only: Whether a CPU cannot show it.
        slow: Whether it starts processes or compiles.
        needs: Libraries it imports.
        n_gpus: GPUs it needs.
    """

    run: Callable[[torch.device, Notes], None]
    cuda_only: bool = False
    slow: bool = False
    needs: tuple[str, ...] = ()
    n_gpus: int = 0


CHECKS: dict[str, Check] = {}
_Run = Callable[[torch.device, Notes], None]


def check(**choices: Any) -> Callable[[_Run], _Run]:
    """Add a function to `CHECKS`; the choices are fields of `Check`."""

    def add(run: _Run) -> _Run:
        CHECKS[run.__name__] = Check(run, **choices)
        return run

    return add


def run_check(name: str, device: torch.device) -> dict[str, Any]:
    """Run one check; whatever it raises is written down.

    Returns:
        Name, ``status`` ("passed", "failed", "error" or "not run"), ``reason``, ``seconds``, and
        what was ``measured``.
    """
    one, notes, reason = CHECKS[name], Notes(), ""
    start = time.perf_counter()
    missing = [library for library in one.needs if importlib.util.find_spec(library) is None]
    if missing:
        status, reason = "not run", f"needs {', '.join(missing)}"
    elif one.cuda_only and device.type != "cuda":
        status, reason = "not run", "needs a GPU"
    elif one.n_gpus > torch.cuda.device_count():
        status, reason = "not run", f"needs {one.n_gpus} GPUs"
    else:
        try:
            with tf32(False):
                one.run(device, notes)
            off = [entry["what"] for entry in notes.entries if not entry["ok"]]
            status = "failed" if off or not notes.entries else "passed"
            reason = f"beyond its bound: {'; '.join(off)}" if off else ""
        except Exception as error:  # noqa: BLE001  the next check goes on
            status = "error"
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    return {
        "name": name,
        "status": status,
        "reason": reason,
        "seconds": time.perf_counter() - start,
        "measured": notes.entries,
    }


# ---- models and images ---------------------------------------------------------------------
class SmallNet(nn.Module):
    """Two convolutions with batch norms, five classes; `before` is called with the images."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
                *(nn.Conv2d(8, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            )
            self.head = nn.Linear(64, 5)
            for norm in (self.features[1], self.features[4]):
                nn.init.uniform_(norm.weight, 0.5, 3)
                nn.init.uniform_(norm.running_mean, -0.3, 0.3)
                nn.init.uniform_(norm.running_var, 0.1, 1)
        self.eval()

    def before(self, images: Tensor) -> Tensor:
        return images

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(self.before(images))
        return self.head(nn.functional.adaptive_avg_pool2d(features, 2).flatten(1))


class Writing(SmallNet):
    """Normalises its input in place."""

    def before(self, images: Tensor) -> Tensor:
        return images.sub_(0.5).mul_(2)


class Waiting(SmallNet):
    """Asks the device for a number in every pass, which no graph can hold."""

    def before(self, images: Tensor) -> Tensor:
        return images if float(images.sum()) > -math.inf else images * 0


class Aside(SmallNet):
    """Runs on a stream of its own, and joins the caller's."""

    def forward(self, images: Tensor) -> Tensor:
        own, caller = _stream(images.device), torch.cuda.current_stream()
        own.wait_stream(caller)
        with torch.cuda.stream(own):
            logits = super().forward(images)
        caller.wait_stream(own)
        return logits  # whose memory is used again by `own` alone, which waits for the caller


class Halved(SmallNet):
    """Weights and logits in half precision, images in float32."""

    def before(self, images: Tensor) -> Tensor:
        return images.to(self.head.weight.dtype)


class Hungry(SmallNet):
    """Takes 8 MiB more an image; on a CPU it says that there is room for 20 images."""

    tried: ClassVar[list[int]] = []  # of all copies

    def before(self, images: Tensor) -> Tensor:
        self.tried.append(len(images))
        if images.device.type == "cpu":
            if len(images) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return images
        return images + torch.zeros(len(images), 2 * MIB, device=images.device)[:, :1, None, None]


@functools.cache
def _stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)


def data(n_images: int = 10) -> tuple[Tensor, Tensor]:
    """Images of 12 pixels on the CPU, three of four of the class that `SmallNet` sees."""
    images, labels = oracles.sample(n_images, n_classes=5)
    with torch.no_grad():
        seen = SmallNet()(images).argmax(dim=1)
    return images, torch.where(torch.arange(n_images) % 4 > 0, seen, labels)


def perturbed(images: Tensor) -> Tensor:
    """The images with noise."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    return (images + 0.4 * (noise - 0.5)).clamp(0, 1)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow products and convolutions to round to TF32, or not, and put torch's flags back."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def with_steps(plain: Forward, steps: Sequence[str], probe: Tensor, labels: Tensor) -> Forward:
    """The forward pass with these steps, whether they gain anything or not."""
    kind = "compiled" if "compile" in steps else "fast"
    return tune(plain, kind, probe, labels, dict.fromkeys(steps, True))


@contextmanager
def settled(forward: Forward) -> Iterator[None]:
    """Let runs with ``forwards="fast"`` or in half precision take this forward pass, untried."""
    with mock.patch.object(runner, "tune", return_value=forward):
        yield


def _host(values: Any) -> Any:
    return values.detach().double().cpu().numpy() if torch.is_tensor(values) else values


def numbers(values: Any) -> list[float]:
    """All numbers inside JSON values, in their order."""
    if isinstance(values, dict):
        return numbers(list(values.values()))
    if isinstance(values, (list, tuple)):
        return [x for one in values for x in numbers(one)]
    return [float(values)] if isinstance(values, (int, float)) else []


# ---- every door gives the CPU's numbers ----------------------------------------------------
@check()
def importance_exact(device: torch.device, notes: Notes) -> None:
    cpu = spectral_importance(SmallNet(), data(), PROTOCOL)
    for size in (64, 5, "auto"):
        found = spectral_importance(SmallNet().to(device), data(), PROTOCOL, batch_size=size)
        notes.near(f"values, batch {size}", found.values, cpu.values, ROUNDING)
        notes.near(f"hits, batch {size}", found.hits, cpu.hits, 0)
        notes.near(f"signed score, batch {size}", found.signed_score, cpu.signed_score, 1e-3)


@check()
def importance_permutation(device: torch.device, notes: Notes) -> None:
    for absence in ("zero", "gaussian", "replacement"):
        protocol = Protocol(4, estimator="permutation", absence=absence)
        cpu = spectral_importance(SmallNet(), data(), protocol)
        found = spectral_importance(SmallNet().to(device), data(), protocol)
        notes.near(f"per image, absence {absence}", found.per_image, cpu.per_image, 2 * ROUNDING)


@check()
def importance_of_the_script(device: torch.device, notes: Notes) -> None:
    images, labels = oracles.sample(4, (16, 16), n_classes=5)
    cpu = spectral_importance(SmallNet(), (images, labels), Protocol.reference(3))
    found = spectral_importance(SmallNet().to(device), (images, labels), Protocol.reference(3))
    notes.near("values", found.values, cpu.values, ROUNDING)


@check()
def importance_in_double(device: torch.device, notes: Notes) -> None:
    cpu = spectral_importance(SmallNet().double(), data(4), PROTOCOL, precision="float64")
    net = SmallNet().double().to(device)
    found = spectral_importance(net, data(4), PROTOCOL, precision="float64")
    notes.near("values", found.values, cpu.values, 1e-10)


@check()
def decomposition_with_repair(device: torch.device, notes: Notes) -> None:
    images, labels = data()
    pairs = (images, perturbed(images), labels)
    for protocol, repair in ((PROTOCOL, False), (Protocol(4, estimator="permutation"), True)):
        cpu = error_decomposition(SmallNet(), pairs, protocol, repair=repair)
        found = error_decomposition(SmallNet().to(device), pairs, protocol, repair=repair)
        for game in ("error", "loss"):
            frames = (one.to_frame(game).select_dtypes("number") for one in (found, cpu))
            notes.near(f"{game}, {protocol.estimator}", *frames, 2 * ROUNDING)
        everything = (numbers(one.to_dict()) for one in (found, cpu))
        notes.near(f"with what repairs, {protocol.estimator}", *everything, 1e-3)


@check()
def conditions_of_evaluate(device: torch.device, notes: Notes) -> None:
    images, labels = data()
    names = [str(k) for k in range(len(images))]
    both = [Predictor(net, 4)(images, labels, names) for net in (SmallNet().to(device), SmallNet())]
    notes.near("probability and hit of every image", *both, ROUNDING)
    batches = [(images, labels, names)]
    plan = EvaluationPlan(
        {"name": "small"},
        {"name": "noise", "n_available": len(images)},
        clean=batches,
        spectral=batches,
        perturbed=[(images, {("noise", 1): perturbed(images)}, labels)],
    )
    entries = [
        evaluate(net, plan, PROTOCOL, batch_size=size)[0]
        for net, size in ((SmallNet().to(device), "auto"), (SmallNet(), 64))
    ]
    for group in ("clean_accuracy", "spectral", "decomposition"):
        notes.near(group, *(numbers(entry[group]) for entry in entries), 1e-3)


@check()
def heat_map(device: torch.device, notes: Notes) -> None:
    cpu = fourier_heatmap(SmallNet(), data(4), **HEAT)
    for size in (64, 5, "auto"):
        found = fourier_heatmap(SmallNet().to(device), data(4), **HEAT, batch_size=size)
        notes.near(f"wrong, batch {size}", found.wrong, cpu.wrong, 0)


@check(needs=("captum",))
def captum_door(device: torch.device, notes: Notes) -> None:
    from iaside_plugins.adapters.captum_adapter import (
        SpectralShapley,
        band_attributions,
        compare_attributions,
    )

    images, labels = data(4)
    own, there = images.to(device), labels.to(device)
    nets = SmallNet().to(device), SmallNet()

    def shapley(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return SpectralShapley(net).attribute(x, target=y, n_bands=4, perturbations_per_eval=8)

    found = shapley(nets[0], own, there)
    notes.holds("attributions are where the images are", found.device == own.device)
    notes.near("Shapley values", found, shapley(nets[1], images, labels), 2 * ROUNDING)
    for method in ("ig", "saliency"):
        found = band_attributions(method, nets[0], own, there, n_bands=4)
        cpu = band_attributions(method, nets[1], images, labels, n_bands=4)
        notes.near(method, found, cpu, 10 * ROUNDING)
    for found, cpu in zip(
        *(compare_attributions(n, data(4), ("saliency",), protocol=PROTOCOL).methods for n in nets),
        strict=True,
    ):
        notes.near(f"{found.name} of a comparison", found.per_image, cpu.per_image, 10 * ROUNDING)
        both = (np.nan_to_num(one.sensitivity) for one in (found, cpu))
        notes.near(f"{found.name}: sensitivity", *both, 1e-2)


@check(needs=("foolbox",))
def foolbox_door(device: torch.device, notes: Notes) -> None:
    import foolbox

    from iaside_plugins.adapters.foolbox_adapter import SpectralEvaluator
    from iaside_plugins.adapters.foolbox_adapter.attacks import CATALOGUE, adversarial

    images, labels = data(6)
    net, eps = SmallNet().to(device), 0.03
    pgd = replace(CATALOGUE["pgd"], epsilons=(eps,))
    here = SmallNet()
    (attacked,) = adversarial(here, images, labels, pgd, seed=0)
    found = {attacked.device, here.head.weight.device}
    notes.holds("a model on the CPU stays there", found == {CPU})
    state = random_state(device)
    (attacked,) = adversarial(net, images, labels, pgd, seed=0)
    notes.holds("generators are left as they were", random_state(device) == state)
    notes.holds("adversarial images are on the device", attacked.device.type == device.type)
    distance = float((attacked.cpu() - images).abs().max())
    notes.small("distance beyond epsilon", distance - eps, 1e-6)
    with torch.no_grad():
        loss = [
            nn.functional.cross_entropy(net(x.to(device)), labels.to(device)).item()
            for x in (images, attacked)
        ]
    notes.holds("the attack raises the loss", loss[1] > loss[0])
    results = []
    for one, where in ((net, device), (SmallNet(), CPU)):
        fmodel = foolbox.PyTorchModel(one, bounds=(0, 1), device=where)
        x, y = attacked.detach().to(where), labels.to(where)
        results.append(SpectralEvaluator(n_bands=4)(fmodel, x, y).values)
    notes.near("values of attacked images", *results, ROUNDING)


# ---- ways of running the model -------------------------------------------------------------
@check()
def half_precision(device: torch.device, notes: Notes) -> None:
    single = spectral_importance(SmallNet().to(device), data(), PROTOCOL)
    for precision in ("bfloat16", "float16") if device.type == "cuda" else ("bfloat16",):
        found = spectral_importance(SmallNet().to(device), data(), PROTOCOL, precision=precision)
        mean = float(np.abs(found.values - single.values).mean())
        notes.small(f"{precision}: mean difference of values", mean, HALF_TOLERANCE)
        notes.near(f"{precision}: signed score", found.signed_score, single.signed_score, 0.1)


@check()
def model_that_returns_halves(device: torch.device, notes: Notes) -> None:
    single = spectral_importance(SmallNet().to(device), data(), PROTOCOL)
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    found = spectral_importance(Halved().to(device, dtype), data(), PROTOCOL)
    mean = float(np.abs(found.values - single.values).mean())
    notes.small("mean difference of values", mean, HALF_TOLERANCE)


@check()
def forwards_fast(device: torch.device, notes: Notes) -> None:
    for net in (SmallNet, Writing):
        plain = spectral_importance(net().to(device), data(), PROTOCOL).values
        for size in (64, "auto"):
            protocol = Protocol(4, forwards="fast")
            found = spectral_importance(net().to(device), data(), protocol, batch_size=size)
            taken = ", ".join(found.forwards) or "no step taken"
            notes.near(f"{net.__name__}, batch {size}: {taken}", found.values, plain, 2 * TOLERANCE)


@check(cuda_only=True, slow=True)
def forwards_compiled(device: torch.device, notes: Notes) -> None:
    plain = spectral_importance(SmallNet().to(device), data(), PROTOCOL)
    protocol = Protocol(4, forwards="compiled")
    found = spectral_importance(SmallNet().to(device), data(), protocol)
    notes.near(f"values: {found.forwards}", found.values, plain.values, 2 * TOLERANCE)


@check()
def steps_one_by_one(device: torch.device, notes: Notes) -> None:
    """Every step that this device has, taken whether it gains or not."""
    probe, labels = (one.to(device) for one in data())
    ways = [("channels_last",), ("fold_batch_norms",), ("channels_last", "fold_batch_norms")]
    if device.type == "cuda":
        ways += [("cuda_graph",), (*ways[-1], "cuda_graph")]
    for net in (SmallNet().to(device), Writing().to(device)):
        plain = spectral_importance(net, data(), PROTOCOL).values
        for steps in ways:
            forward = with_steps(Forward(net, device), steps, probe, labels)
            with settled(forward):
                found = spectral_importance(net, data(), Protocol(4, forwards="fast"))
            name = f"{type(net).__name__}: {', '.join(steps)}"
            notes.holds(f"{name}, taken", found.forwards == steps)
            notes.near(name, found.values, plain, 10 * SAME_DEVICE)


@check(cuda_only=True)
@torch.no_grad()
def cuda_graphs(device: torch.device, notes: Notes) -> None:
    """Graphs of several shapes give the model's logits, also of one that writes into its input."""
    for net in (SmallNet().to(device), Writing().to(device), Aside().to(device)):
        with torch.cuda.device(device):
            graphed, images = Graphed(net), data(8)[0].to(device)
            for k in range(5):
                for rows in (8, 3):
                    x = images.roll(k, 0)[:rows].clone()
                    found, expected = graphed(x.clone()).clone(), net(x.clone())
                    name = f"{type(net).__name__}, pass {k}, {rows} rows"
                    notes.near(name, found, expected, SAME_DEVICE)
            notes.holds(f"{type(net).__name__}: two graphs", len(graphed._captured) == 2)


@check(cuda_only=True)
@torch.no_grad()
def model_that_cannot_be_captured(device: torch.device, notes: Notes) -> None:
    """It runs as before, and torch's allocator and generators are as good as before."""
    net = Waiting().to(device)
    images = data(8)[0].to(device)
    with torch.cuda.device(device):
        graphed = Graphed(net)
        for k in range(4):
            notes.near(f"pass {k}", graphed(images.clone()), net(images), SAME_DEVICE)
        notes.holds("no graph", not graphed._captured)
        torch.cuda.empty_cache()
        torch.rand(4, device=device).sum().item()
        notes.holds("waiting is allowed again", torch.cuda.get_sync_debug_mode() == 0)
        stream = torch.cuda.current_stream(device)
        notes.holds("the stream", stream == torch.cuda.default_stream(device))


# ---- memory --------------------------------------------------------------------------------
@check()
def out_of_memory(device: torch.device, notes: Notes) -> None:
    """Rows are halved where memory really runs out, nothing is lost, nothing stays allocated."""
    images = data(40)
    expected = spectral_importance(SmallNet().to(device), images, PROTOCOL).values
    # On a CPU faster passes of few rows are tried first.
    for forwards in ("plain", "fast") if device.type == "cuda" else ("plain",):
        Hungry.tried.clear()
        net = Hungry().to(device)
        before = _allocated(device)
        with _room(device, 1200 * MIB):
            protocol = Protocol(4, forwards=forwards)
            found = spectral_importance(net, images, protocol, batch_size="auto")
        notes.near(f"values, {forwards}", found.values, expected, 10 * SAME_DEVICE)
        most, ran = max(Hungry.tried), Hungry.tried[-1]
        notes.holds(f"{forwards}: {most} rows tried, {ran} ran", most > ran)
        kept = (_allocated(device) - before) / MIB
        notes.small(f"{forwards}: MiB still allocated", kept, 64)


def _allocated(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    return torch.cuda.memory_allocated(device)


@contextmanager
def _room(device: torch.device, n_bytes: int) -> Iterator[None]:
    """Leave this process so much memory beyond what it holds."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    share = (torch.cuda.memory_reserved(device) + n_bytes) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


# ---- streams and inputs --------------------------------------------------------------------
@check(cuda_only=True)
def streams(device: torch.device, notes: Notes) -> None:
    """The caller's stream is not the default one; the model runs on one of its own."""
    expected = spectral_importance(SmallNet().to(device), data(), PROTOCOL).values
    caller = torch.cuda.Stream(device)
    for forwards in ("plain", "fast"):
        for net in (SmallNet, Aside):
            one = net().to(device)
            torch.cuda.synchronize(device)
            with torch.cuda.stream(caller):
                images, labels = data()
                busy = torch.rand(4096, 4096, device=device)
                for _ in range(20):  # so that a missing wait would read too early
                    busy = busy @ busy / 4096
                there = images.to(device, non_blocking=True) + 0 * busy[0, 0].nan_to_num()
                protocol = Protocol(4, forwards=forwards)
                found = spectral_importance(one, (there, labels), protocol, batch_size=32)
                notes.holds("the stream stays", torch.cuda.current_stream(device) == caller)
            notes.near(f"{net.__name__}, {forwards}", found.values, expected, 10 * SAME_DEVICE)


@check()
def where_the_images_come_from(device: torch.device, notes: Notes) -> None:
    """The host, the device, pinned memory, a loader, memory that is written again at once."""
    images, labels = data()
    net, pin = SmallNet().to(device), device.type == "cuda"
    expected = spectral_importance(net, (images, labels), PROTOCOL, batch_size=16).values
    held = images[:1].clone().pin_memory() if pin else images[:1].clone()

    def again() -> Iterator[tuple[Tensor, Tensor]]:
        for image, label in zip(images, labels, strict=True):
            held.copy_(image[None])
            yield held, label[None]
            held.zero_()

    pairs = torch.utils.data.TensorDataset(images, labels)
    sources = {
        "the device": (images.to(device), labels.to(device)),
        "a loader": torch.utils.data.DataLoader(pairs, 4, pin_memory=pin),
        "memory written again": again(),
        "channels last": (images.to(memory_format=torch.channels_last), labels),
        "double": (images.double(), labels),
    }
    for name, source in sources.items():
        found = spectral_importance(net, source, PROTOCOL, batch_size=16)
        notes.near(name, found.values, expected, SAME_DEVICE)
    two = fourier_heatmap(net, again(), **HEAT), fourier_heatmap(net, (images, labels), **HEAT)
    notes.near("heat map, memory written again", two[0].wrong, two[1].wrong, 0)


@check()
def tf32_flags(device: torch.device, notes: Notes) -> None:
    """They stay as they were, and coalition images do not round to TF32 where they allow it."""

    def model(images: Tensor) -> Tensor:  # without products
        low = images[..., ::2].mean(dim=(2, 3)) * 9
        return torch.cat([low, -low[:, :2].square()], dim=1)

    expected = spectral_importance(model, data(), PROTOCOL, device=CPU).values
    for allowed in (True, False):
        with tf32(allowed):
            before = _flags()
            found = spectral_importance(model, data(), PROTOCOL, device=device)
            notes.holds(f"flags, TF32 {'on' if allowed else 'off'}", _flags() == before)
            notes.near(f"values, TF32 {'on' if allowed else 'off'}", found.values, expected, 1e-5)


def _flags() -> tuple[Any, ...]:
    backends = torch.backends
    return (
        torch.get_float32_matmul_precision(),
        backends.cuda.matmul.allow_tf32,
        backends.cudnn.allow_tf32,
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
    )


@check(cuda_only=True, n_gpus=2)
def second_gpu(device: torch.device, notes: Notes) -> None:
    """A model on another device than the current one, with graphs on both."""
    expected = spectral_importance(SmallNet(), data(), PROTOCOL).values
    for k in (0, 1):
        other = torch.device("cuda", k)
        for forwards in ("plain", "fast"):
            protocol = Protocol(4, forwards=forwards)
            found = spectral_importance(SmallNet().to(other), data(), protocol)
            notes.near(f"cuda:{k}, {forwards}", found.values, expected, 2 * TOLERANCE)
        graphed, x = Graphed(SmallNet().to(other)), data()[0].to(other)
        with torch.no_grad(), torch.cuda.device(other):
            for _ in range(3):
                graphed(x)
        notes.holds(f"a graph on cuda:{k}", len(graphed._captured) == 1)


# ---- processes -----------------------------------------------------------------------------
@check(slow=True)
def two_processes(device: torch.device, notes: Notes) -> None:
    """Two on the same device give the rows of one."""
    net = SmallNet().to(device)
    one = spectral_importance(net, data(), PROTOCOL, batch_size=32)
    both = spectral_importance(net, data(), PROTOCOL, batch_size=32, device=[device, device])
    notes.near("values", both.values, one.values, 0)
    notes.near("passes", both.n_forward, one.n_forward, 1)  # each runs the black image


@check(slow=True)
def killed_and_resumed(device: torch.device, notes: Notes) -> None:
    """A run in another process is killed by its id and resumed here: the same rows, to the bit."""
    whole = spectral_importance(SmallNet().to(device), data(N_KILLED), PROTOCOL, batch_size=32)
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
        running = subprocess.Popen(
            [sys.executable, __file__, str(device), folder],
            env={**os.environ, "PYTHONPATH": paths},
            stderr=subprocess.PIPE,
        )
        try:
            deadline = time.monotonic() + 90
            while not list(Path(folder).glob("*.npz")):
                if running.poll() is not None or time.monotonic() > deadline:
                    said = running.communicate(timeout=5)[1] if running.poll() is not None else b""
                    raise RuntimeError(f"no rows were stored: {said.decode()[-500:]}")
                time.sleep(0.02)
        finally:
            running.kill()
            running.communicate()
        found = spectral_importance(
            SmallNet().to(device), data(N_KILLED), PROTOCOL, batch_size=32, resume=folder
        )
    notes.near("values", found.values, whole.values, 0)
    notes.holds("finished rows were not run again", found.n_forward < whole.n_forward)


N_KILLED = 60


def _to_be_killed(device: str, folder: str) -> None:
    """Run slower and slower, so that the kill comes before the end."""
    images, labels = data(N_KILLED)

    def slowly() -> Iterator[tuple[Tensor, Tensor]]:
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            time.sleep(0.0 if k < 30 else 1.0)
            yield image[None], label[None]

    torch.set_num_threads(1)
    with tf32(False):
        spectral_importance(SmallNet().to(device), slowly(), PROTOCOL, batch_size=32, resume=folder)


if __name__ == "__main__":
    _to_be_killed(*sys.argv[1:])
