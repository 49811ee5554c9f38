"""What a run will cost, before it starts: forward passes by part, and time from a short probe."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.adapters.isolation import isolated
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import check_images, check_labels
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.provenance import image_digest
from iaside_plugins.value_table.sampling import draw

# Upper bounds of one image at the settings of the version "standard": (forward passes alone,
# forward with backward). An image that an attack fools leaves the later ones out.
ATTACK_PASSES = {
    "apgd-ce": (2, 101),
    "apgd-dlr": (2, 101),
    "apgd-t": (18, 909),
    "fab-t": (2000, 900),
    "fab": (400, 100 * 9),
    "square": (5002, 0),
}
_PROBE = 16  # images


@dataclass(frozen=True)
class Cost:
    """Passes and seconds of the parts of a run.

    Attributes:
        passes: Part -> images through the model, exact but for "attack", which is an upper bound;
            a pass with gradients counts once.
        seconds: Part -> time in the model, estimated from a probe of a few images. Decoding and
            making corrupted images are not in it, and for "attack" it is an upper bound.
        logits: Digest of each image of the probe -> its logits, by which a resumed run knows the
            model again.
    """

    passes: dict[str, int]
    seconds: dict[str, float]
    logits: dict[str, list[float]]

    def __str__(self) -> str:
        parts = [
            f"{name} {'at most ' if name == 'attack' else ''}{self.passes[name]:,} passes"
            f" ({_duration(self.seconds[name])})"
            for name in self.passes
        ]
        return (
            f"cost: {', '.join(parts)}; time in the model alone, from a probe: reading and "
            "corrupting images comes on top"
        )


def coalition_passes(protocol: Protocol) -> int:
    """Forward passes that one image costs (the black image, shared by all, is not counted)."""
    if protocol.estimator == "exact":
        return int(2**protocol.n_bands) - 1
    return len(draw(protocol, "some image").coalitions) - 1


def estimate(
    runner: ModelRunner,
    batch: Any,
    *,
    protocol: Protocol | None,
    n: int,
    n_cells: int,
    n_spectral: int,
    n_profiles: int,
    attacks: tuple[str, ...],
    n_budgets: int,
) -> Cost:
    """The cost of a run, and the first sign that model and images go together.

    Args:
        runner: The model, as the run calls it.
        batch: First batch of the clean images.
        protocol: Of the spectral importance; None without one.
        n: Images.
        n_cells: Conditions of corrupted images; with the uncorrupted one where it is no clean one.
        n_spectral: Images of each spectral importance.
        n_profiles: Spectral importances beside the clean one.
        attacks: Attacks of AutoAttack.
        n_budgets: Budgets to attack at.

    Raises:
        InputError: Images or labels that the run could not use.
    """
    images, labels = batch[0][:_PROBE], batch[1][:_PROBE]
    check_images(images, None if protocol is None else protocol.n_bands)
    labels = check_labels(labels, len(images))
    try:
        logits, forward, both = _timed(runner, images, labels, bool(attacks))
    except InputError:
        raise
    except Exception as error:  # whatever the caller's own network raises
        reason = (str(error) or "no reason given").splitlines()[0]
        raise InputError(
            f"the model cannot take images of shape {tuple(images.shape[1:])}, "
            f"{type(error).__name__}: {reason}; expected (N, C, H, W) -> (N, n_classes)"
        ) from error
    passes = {"clean": n}
    seconds = {"clean": n * forward}
    if n_cells:
        passes["corruptions"] = n * n_cells
        seconds["corruptions"] = n * n_cells * forward
    if attacks:
        # 2 more: once before the attacks, and once on the images that they left.
        alone = 2 + sum(ATTACK_PASSES[name][0] for name in attacks)
        backward = sum(ATTACK_PASSES[name][1] for name in attacks)
        passes["attack"] = n * n_budgets * (alone + backward)
        seconds["attack"] = n * n_budgets * (alone * forward + backward * both)
    if protocol is not None:
        each = n_spectral * coalition_passes(protocol)
        passes["spectral"] = each * (1 + n_profiles)
        seconds["spectral"] = each * (1 + n_profiles) * forward
    digests = [image_digest(image, int(y)) for image, y in zip(images, labels, strict=True)]
    return Cost(passes, seconds, dict(zip(digests, logits.tolist(), strict=True)))


def _timed(
    runner: ModelRunner, images: Tensor, labels: Tensor, gradients: bool
) -> tuple[Tensor, float, float]:
    """Logits; seconds of a forward pass, and of one with backward, of one image."""
    images = images.to(runner.device)
    with torch.no_grad():
        logits = runner.logits(images, int(labels.max()))  # warms up, and checks
        if not bool(torch.isfinite(logits).all()):
            raise InputError("the model gives non-finite logits; check its weights")
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
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
