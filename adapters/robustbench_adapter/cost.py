"""What a run will cost: its forward passes, and their time estimated from a few images."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from iaside_plugins.adapters.isolation import isolated
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.adapters.models.robustbench_zoo import N_CLASSES
from iaside_plugins.adapters.robustbench_adapter.autoattack import ATTACK_PASSES
from iaside_plugins.adapters.robustbench_adapter.request import PreparedRequest
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.decomposition.run import chains_like
from iaside_plugins.devices import peak_memory
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import check_images, check_labels, model_device, non_finite
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.provenance import image_digest
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import Work, added, times

SHORTER = {  # the part that takes longest -> what would make it shorter
    "clean": "fewer images, --n_ex",
    "corruptions": "fewer images, --n_ex",
    "attack": "fewer images, --n_ex, or fewer --attacks, which is no RobustBench figure",
    "spectral": "fewer images there, --n_spectral, or --profiles false",
    "explain": "fewer images there, --n_spectral",
}
SHORT = 10.0  # seconds, below which there is nothing to shorten
_PROBE = 16  # images that are timed
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """Forward passes and seconds of each part of a run.

    Attributes:
        passes: Part -> number of images that go through the model; exact, except for "attack",
            where it is an upper bound. A pass with gradients counts once.
        seconds: Part -> time in the model, estimated from a few images; an upper bound for
            "attack". Decoding and making corrupted images are not included.
        logits: Digest of each timed image -> its logits; a resumed run compares them.
        memory: Bytes in use so far at most, None if unknown: the run needs at least these.
        work: All of it, for the bar.
    """

    passes: dict[str, int]
    seconds: dict[str, float]
    logits: dict[str, list[float]]
    memory: int | None = None
    work: Work = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [
            f"{name} {'at most ' if name == 'attack' else ''}{self.passes[name]:,} passes"
            f" ({_duration(self.seconds[name])})"
            for name in self.passes
        ]
        memory = "" if self.memory is None else f"; memory at least {self.memory / 1e9:.1f} GB"
        longest = max(self.seconds, key=lambda part: self.seconds[part])
        shorter = f"; shorter: {SHORTER[longest]}" if sum(self.seconds.values()) >= SHORT else ""
        return (
            f"cost: {', '.join(parts)}; time in the model alone, from a probe: reading and "
            f"corrupting images comes on top{memory}{shorter}"
        )


def coalition_passes(protocol: Protocol) -> int:
    """Return the forward passes of one image, without the black image that all images share."""
    return RowLayout(protocol).n_passes


def cost_of(ready: PreparedRequest) -> Cost:
    """Estimate the cost of a run, and check that model, images and bands go together.

    Raises:
        InputError: The run could not use the images, the labels or the model.
    """
    request, spec = ready.request, ready.spec
    device = model_device(ready.model)
    runner = ModelRunner(ready.model, device, request.batch_size, request.precision)
    batch = next(iter(ready.images.clean(None)))
    images, labels = batch[0][:_PROBE], batch[1][:_PROBE]
    check_images(images, ready.protocol.n_bands if request.spectral else None)
    labels = check_labels(labels, len(images))
    try:
        logits, forward, both = _timed(runner, images, labels, spec is not None)
    except InputError:
        raise
    except Exception as error:  # whatever the caller's own network raises
        reason = (str(error) or "no reason given").splitlines()[0]
        raise InputError(
            f"the model cannot take images of shape {tuple(images.shape[1:])}, "
            f"{type(error).__name__}: {reason}; expected (N, C, H, W) -> (N, n_classes)"
        ) from error
    n = len(ready.images.ids)
    works: list[Work] = [{"forward": n}]
    n_corrupted = n_cells = len(ready.threat.corruptions) * len(SEVERITIES)
    if n_cells:
        n_cells += ready.images.cell(None, 0, None) is not None
    passes = {"clean": n}
    seconds = {"clean": n * forward}
    if n_cells:
        passes["corruptions"] = n * n_cells
        seconds["corruptions"] = n * n_cells * forward
        works.append(times(ready.plan.work if ready.plan is not None else {}, n * n_cells))
    if spec is not None:
        # 2 more: once before the attacks, and once on the images that they left.
        alone = 2 + sum(ATTACK_PASSES[name][0] for name in spec.order)
        backward = sum(ATTACK_PASSES[name][1] for name in spec.order)
        n_attacked = n * len(spec.epsilons)
        passes["attack"] = n_attacked * (alone + backward)
        seconds["attack"] = n_attacked * (alone * forward + backward * both)
        works.append(times({"forward": alone, "gradient": backward}, n_attacked))
    if request.spectral:
        n_conditions = len(spec.epsilons) if spec is not None else 1
        n_profiles = 1 + n_conditions * request.profiles  # the first is that of the clean images
        each = len(ready.spectral_part) * coalition_passes(ready.protocol)
        passes["spectral"] = each * n_profiles
        seconds["spectral"] = each * n_profiles * forward
    if request.explain:
        n_conditions = len(spec.epsilons) if spec is not None else n_corrupted
        n_runs = 1 if spec is not None else len(ready.threat.corruptions)  # a clean pass in each
        each = n_conditions * coalition_passes(chains_like(ready.protocol)) + n_runs
        passes["explain"] = len(ready.spectral_part) * each
        seconds["explain"] = passes["explain"] * forward
    works.append({"coalition": passes.get("spectral", 0) + passes.get("explain", 0)})
    _check_classes(ready, runner.n_classes)
    digests = [image_digest(image, int(y)) for image, y in zip(images, labels, strict=True)]
    known = dict(zip(digests, logits.tolist(), strict=True))
    return Cost(passes, seconds, known, peak_memory(device), added(*works))


def _check_classes(ready: PreparedRequest, n_classes: int | None) -> None:
    """Raise for a model of another number of classes; warn if it is a module of the caller."""
    expected = N_CLASSES[ready.threat.dataset]
    if n_classes == expected:
        return
    problem = f"{ready.name} has {n_classes} outputs, and {ready.threat.dataset} {expected} classes"
    if isinstance(ready.model, Classifier):
        raise InputError(f"{problem}; give a model of {ready.threat.dataset}, or its own dataset")
    _log.warning("%s: are its outputs numbered as the labels are?", problem)


def _timed(
    runner: ModelRunner, images: Tensor, labels: Tensor, gradients: bool
) -> tuple[Tensor, float, float]:
    """Return the logits, and the seconds an image takes forward, and forward and backward."""
    images = images.to(runner.device)
    with torch.no_grad():
        logits = runner.logits(images, int(labels.max()))  # warms up, and checks
        if not bool(torch.isfinite(logits).all()):
            raise non_finite("the first images")
        start = time.perf_counter()
        runner.logits(images).sum().item()
    forward = (time.perf_counter() - start) / len(images)
    if not gradients or not isinstance(runner.model, torch.nn.Module):
        return logits, forward, forward
    with isolated(runner.model, runner.device):
        x = images.clone().requires_grad_(True)
        start = time.perf_counter()
        total = runner.model(x).sum()
        if not total.requires_grad:
            raise InputError("the model gives no gradients, which the attacks need")
        torch.autograd.grad(total, x)[0].sum().item()
    return logits, forward, (time.perf_counter() - start) / len(images)


def _duration(seconds: float) -> str:
    """Return a duration in words, in seconds, minutes or hours."""
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
