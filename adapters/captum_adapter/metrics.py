"""Captum's metrics of an explanation, of one image's attributions of bands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.adapters.captum_adapter import host as captum_host
from iaside_plugins.adapters.captum_adapter.methods import BandRun, rows_at_once
from iaside_plugins.adapters.isolation import seed_generators
from iaside_plugins.errors import InputError
from iaside_plugins.integers import as_integer
from iaside_plugins.seeds import preserved_generators, seed_of

Seeds = tuple[object, ...]


@dataclass(frozen=True)
class Metrics:
    """Settings of Captum's two metrics.

    Attributes:
        n_perturbations: Random band droppings an image for the infidelity: every band is taken
            away with probability 1/2. The attributions are first scaled to fit best (Captum's
            ``normalize=True``), so that those without a unit can be compared.
        n_sensitivity: Images on which the sensitivity is measured, the first ones; none by default:
            it explains each of them 1 + `sensitivity_samples` more times.
        sensitivity_samples: Perturbed images for each.
        sensitivity_radius: Greatest change of a pixel, uniform.
    """

    n_perturbations: int = 32
    n_sensitivity: int = 0
    sensitivity_samples: int = 4
    sensitivity_radius: float = 0.02

    def __post_init__(self) -> None:
        for name in ("n_perturbations", "n_sensitivity", "sensitivity_samples"):
            value, least = getattr(self, name), int(name != "n_sensitivity")
            object.__setattr__(self, name, as_integer(name, value, least))
        radius = self.sensitivity_radius
        if not (isinstance(radius, (int, float)) and 0 < radius < math.inf):
            raise InputError(f"sensitivity_radius must be a number above 0, got {radius!r}")


def fidelity_passes(n_perturbations: int, at_once: int) -> int:
    """Return the passes of `residual_and_infidelity`: Captum passes the image through once a batch.

    Args:
        n_perturbations: Droppings.
        at_once: Rows of one pass.
    """
    return 2 + n_perturbations + math.ceil(n_perturbations / at_once)


def residual_and_infidelity(
    run: BandRun, image: Tensor, label: int, value: Tensor, metrics: Metrics, seeds: Seeds
) -> tuple[float, float, Tensor]:
    """Return residual in nats, infidelity in nats squared, and all log-likelihoods (n_classes,).

    The completeness residual is the sum of the attributions - (value(image) - value(black image)).
    Captum's infidelity (Yeh et al., NeurIPS 2019) is the mean squared error, over random droppings
    of bands, of the sum of the dropped bands' attributions as the loss of value. The droppings are
    drawn from the seeds alone: the same for every method. NaN where its squares are beyond single
    precision. The log-likelihoods are those of the whole image.

    Args:
        run: The method; its model and bands.
        image: (1, C, H, W).
        label: Class that was explained.
        value: The attributions, (1, n_bands).
        metrics: Settings.
        seeds: What the droppings depend on.
    """
    forward, stack = run.split.gate_forward(run.model), run.split(image)
    gates = torch.ones(stack.shape[:2], dtype=image.dtype, device=image.device)
    n = metrics.n_perturbations

    def drop(inputs: Tensor) -> tuple[Tensor, Tensor]:
        dropped = (torch.rand(inputs.shape) < 0.5).to(inputs)
        return dropped, inputs - dropped

    with torch.no_grad(), preserved_generators(image.device):
        whole = forward(gates, [stack])[0]
        gain = whole[label] - forward(0 * gates, [stack])[0, label]
        seed_generators(seed_of("infidelity", *seeds), image.device)
        infidelity = captum_host.metrics.infidelity(
            forward,
            drop,
            gates,
            value,
            additional_forward_args=([stack],),
            target=label,
            n_perturb_samples=n,
            max_examples_per_batch=min(rows_at_once(image, run.batch_size), n),
            normalize=True,
        )
    found = float(infidelity[0])
    residual = float(value.double().sum() - gain.double())
    return residual, found if math.isfinite(found) else math.nan, whole


def sensitivity(run: BandRun, image: Tensor, label: int, metrics: Metrics, seeds: Seeds) -> float:
    """Return Captum's greatest relative change of attributions under small noise (Yeh et al. 2019).

    For random methods it includes the noise of their own sampling.

    Args:
        run: The method.
        image: (1, C, H, W).
        label: Class to explain.
        metrics: Settings.
        seeds: What the noise depends on: the same for every method.
    """

    def explain(inputs: tuple[Tensor, ...], target: Any) -> tuple[Tensor]:
        return (run.attribute(inputs[0], target),)

    with preserved_generators(image.device):
        seed_generators(seed_of("sensitivity", *seeds), image.device)
        found = captum_host.metrics.sensitivity_max(
            explain,
            image,
            perturb_radius=metrics.sensitivity_radius,
            n_perturb_samples=metrics.sensitivity_samples,
            target=label,
        )
    return float(found[0])
