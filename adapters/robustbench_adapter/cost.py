"""What a run will cost: its parts, and their time estimated from a few passes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from iaside_plugins.adapters.isolation import isolated
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.adapters.models.robustbench_zoo import N_CLASSES
from iaside_plugins.adapters.robustbench_adapter.autoattack import attacks_work
from iaside_plugins.adapters.robustbench_adapter.request import PreparedRequest
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.decomposition.protocols import chains_like
from iaside_plugins.display.cost import SHORT, Cost, in_words
from iaside_plugins.errors import InputError, first_line
from iaside_plugins.inference.checks import check_images, check_labels, model_device, non_finite
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.storage.provenance import image_digest
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import Work, added, times
from iaside_plugins.value_table.speed import speed_of

SHORTER = {  # the part that takes longest -> what would make it shorter
    "clean": "fewer images, n_examples=...",
    "corruptions": "fewer images, n_examples=...",
    "attack": "fewer images, n_examples=..., or fewer attacks=..., which is no RobustBench figure",
    "spectral": "fewer images there, n_spectral=..., or profiles=False",
    "explain": "fewer images there, n_spectral=...",
}
_PROBE = 16  # images whose logits are compared
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkCost:
    """What a run will cost; see `display.cost.Cost`.

    Attributes:
        total: Its parts; "attack" is an upper bound. Decoding and making corrupted images take no
            time in it.
        logits: Digest of each of the first images -> its logits; a resumed run compares them.
    """

    total: Cost
    logits: dict[str, list[float]]

    @property
    def passes(self) -> dict[str, int]:
        """Part -> number of images that go through the model, a gradient as `GRADIENT_PASSES`."""
        return {part: self.total.passes_of(part) for part in self.total.parts}

    @property
    def seconds(self) -> dict[str, float]:
        """Part -> time in the model."""
        return {part: self.total.seconds_of(part) for part in self.total.parts}

    def __str__(self) -> str:
        parts = [
            f"{name} {'at most ' if name == 'attack' else ''}{n:,} passes"
            f" (about {in_words(self.seconds[name])})"
            for name, n in self.passes.items()
        ]
        bytes_used = self.total.memory
        memory = "" if bytes_used is None else f"; memory at least {bytes_used / 1e9:.1f} GB"
        is_short = self.total.seconds < SHORT
        shorter = "" if is_short else f"; shorter: {SHORTER[self.total.longest]}"
        return (
            f"cost: {', '.join(parts)}; time in the model alone, from a probe: reading and "
            f"corrupting images comes on top{memory}{shorter}"
        )


def cost_of(ready: PreparedRequest) -> BenchmarkCost:
    """Estimate the cost of a run, and check that model, images and bands go together.

    Raises:
        InputError: The run could not use the images, the labels or the model.
    """
    request = ready.request
    batch = next(iter(ready.images.clean(None)))
    images, labels = batch[0][:_PROBE], batch[1][:_PROBE]
    check_images(images, ready.protocol.n_bands if request.spectral else None)
    labels = check_labels(labels, len(images))
    try:
        logits = _logits(ready, images, labels)
        speed = speed_of(
            ready.model,
            images.shape[1:],
            batch_size=request.batch_size,
            precision=request.precision,
            protocol=ready.protocol if request.spectral else None,
            n_images=len(ready.images.ids),
        )
    except InputError:
        raise
    except Exception as error:  # whatever the caller's own network raises
        reason = first_line(error)
        raise InputError(
            f"the model cannot take images of shape {tuple(images.shape[1:])}, "
            f"{type(error).__name__}: {reason}; expected (N, C, H, W) -> (N, n_classes)"
        ) from error
    _check_classes(ready, logits.shape[1])
    digests = [image_digest(image, int(y)) for image, y in zip(images, labels, strict=True)]
    known = dict(zip(digests, logits.tolist(), strict=True))
    return BenchmarkCost(Cost(_parts(ready), speed), known)


def _parts(ready: PreparedRequest) -> dict[str, Work]:
    """Return the work of every part of a run."""
    request, spec = ready.request, ready.spec
    n, n_spectral = len(ready.images.ids), len(ready.spectral_part)
    parts: dict[str, Work] = {"clean": {"forward": n}}
    n_corrupted = len(ready.threat.corruptions) * len(SEVERITIES)
    if ready.plan is not None:
        n_cells = n_corrupted + (ready.images.cell(None, 0, None) is not None)
        parts["corruptions"] = times(ready.plan.work, n * n_cells)
    if spec is not None:
        # 2 more: once before the attacks, and once on the images that they left.
        work = added({"forward": 2}, attacks_work(spec.order))
        parts["attack"] = times(work, n * len(spec.epsilons))
    if request.spectral:
        n_conditions = len(spec.epsilons) if spec is not None else 1
        n_profiles = 1 + n_conditions * request.profiles  # the first is that of the clean images
        each = RowLayout(ready.protocol).n_passes
        parts["spectral"] = {"coalition": n_spectral * each * n_profiles}
    if request.explain:
        n_conditions = len(spec.epsilons) if spec is not None else n_corrupted
        n_runs = 1 if spec is not None else len(ready.threat.corruptions)  # a clean pass in each
        each = n_conditions * RowLayout(chains_like(ready.protocol)).n_passes + n_runs
        parts["explain"] = {"coalition": n_spectral * each}
    return parts


def _check_classes(ready: PreparedRequest, n_classes: int | None) -> None:
    """Raise for a model of another number of classes; warn if it is a module of the caller."""
    expected = N_CLASSES[ready.threat.dataset]
    if n_classes == expected:
        return
    problem = f"{ready.name} has {n_classes} outputs, and {ready.threat.dataset} {expected} classes"
    if isinstance(ready.model, Classifier):
        raise InputError(f"{problem}; give a model of {ready.threat.dataset}, or its own dataset")
    _log.warning("%s: are its outputs numbered as the labels are?", problem)


def _logits(ready: PreparedRequest, images: Tensor, labels: Tensor) -> Tensor:
    """Return the logits of the first images; a model that is attacked must have gradients."""
    device = model_device(ready.model)
    runner = ModelRunner(ready.model, device, ready.request.batch_size, ready.request.precision)
    images = images.to(device)
    with torch.no_grad():
        logits = runner.logits(images, int(labels.max()))
    if not bool(torch.isfinite(logits).all()):
        raise non_finite("the first images")
    if ready.spec is not None:
        with isolated(ready.model, device):
            x = images.clone().requires_grad_(True)
            total = ready.model(x).sum()
            if not total.requires_grad:
                raise InputError("the model gives no gradients, which the attacks need")
            torch.autograd.grad(total, x)
    return logits
